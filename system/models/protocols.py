"""What a planner may ask of a model, values included: nothing else is reachable from `planning/`."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float

from system.types import Context


@dataclass(frozen=True)
class Imagination:
    """What a model expects of candidate plans.

    Attributes:
        observations: o_t … o_{t+H−1}; the first is the true current observation.
        rewards: r_t … r_{t+H−1}, in the task's units.
        values: g_t … g_{t+H−1}: the value of being at step n and executing that step's planned action
            (so r_{t+n} is included), in discounted return.
    """

    observations: Float[torch.Tensor, "B N H S"]
    rewards: Float[torch.Tensor, "B N H"]
    values: Float[torch.Tensor, "B N H"]


class PlanningModel(Protocol):
    """A model that proposes action sequences and imagines what they lead to.

    Attributes:
        discount: γ of its values; utilities discount imagined rewards by the same.
    """

    discount: float

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Float[torch.Tensor, "B N H A"]:
        """Draws N candidate sequences of H actions in [-1, 1] for every environment."""
        ...

    def imagine(self, context: Context, actions: Float[torch.Tensor, "B N H A"]) -> Imagination:
        """Predicts observations, rewards and values along every candidate."""
        ...
