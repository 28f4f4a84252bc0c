"""What it takes to act: a policy decides for several environments at once, given their recent past."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int, Shaped

from system.decisions import Plan
from system.planning.history import History


@dataclass(frozen=True)
class Decision:
    """Actions of R environments and, where one was made, the plan behind them."""

    action: Shaped[np.ndarray, "R *action"]
    plan: Plan | None = None

    @classmethod
    def of(cls, action: Shaped[torch.Tensor, "R *action"], plan: Plan | None = None) -> "Decision":
        """From a model's tensor, whatever its device and precision: float32 vectors or int64 numbers."""
        return cls((action.float() if action.is_floating_point() else action).cpu().numpy(), plan)


class Policy(Protocol):
    """Acts in several environments at once, given their recent past."""

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Decides for the environments in `rows`."""
        ...
