"""Acting with a planner that ascends a return, and going on from where it arrived."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int

from system.config import PlannerConfig
from system.decisions import Plan
from system.models.protocols import DifferentiableModel
from system.planning.acting import Decision
from system.planning.history import History


class AscendingPolicy:
    """A policy whose plans hand on to the next decision of their episode what they arrived at.

    Args:
        model: what the planner asks.
        config: how to plan.
        plan: the planner's function.
        device: of the model.
        context_length: steps of the past that it is shown.
    """

    def __init__(
        self,
        model: DifferentiableModel,
        config: PlannerConfig,
        plan: Callable[..., Plan],
        *,
        device: torch.device,
        context_length: int,
    ) -> None:
        self.model = model
        self.config = config
        self.plan = plan
        self.device = device
        self.context_length = context_length

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Plans once for all the environments in `rows`, and keeps what is handed on with their history."""
        context = history.context(rows, torch.zeros(len(rows), device=self.device), self.context_length)
        plan = self.plan(self.model, context, config=self.config, generator=generator)
        history.keep(rows, plan.carry)
        return Decision.of(plan.action, plan)
