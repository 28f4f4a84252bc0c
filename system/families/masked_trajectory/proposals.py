"""Where candidate plans come from: the trajectory model's own policy, or the reference actor in its dynamics."""

from typing import Protocol

import torch
from jaxtyping import Shaped

from system.decisions import Context
from system.families.masked_trajectory.model import MaskedTrajectoryModel
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.families.masked_trajectory.windows import action_distribution
from system.models.optimizer_state import full_precision
from system.values.critics import ValueNetworks


class Proposals(Protocol):
    """Draws candidates."""

    def __call__(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N H *action"]:
        """N plans of H actions for each of B environments; the generator is the only source of randomness."""
        ...


class ReturnConditioned:
    """Plans drawn in one pass of the return-conditioned mask.

    Args:
        model: the trajectory model.
    """

    def __init__(self, model: MaskedTrajectoryModel) -> None:
        self.model = model

    def __call__(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N H *action"]:
        """Independent draws at every step of the plan."""
        distribution = action_distribution(self.model, context, horizon)
        return distribution.sample(num_candidates, generator).transpose(0, 1)


class ActorInModel:
    """Plans of the reference actor, played in the model: it acts on what the dynamics mask says comes of it.

    The critics and their actor are learnt from the same data as the trajectory model, and where the clone falls
    over the actor may not; a planner that holds both should be able to follow either.

    Args:
        model: the trajectory model.
        values: holds the actor.
        spread: of the actor's distribution, 1 is its own. The first candidate has none: it is the actor's plan.
    """

    def __init__(self, model: MaskedTrajectoryModel, values: ValueNetworks, spread: float) -> None:
        self.model = model
        self.values = values
        self.spread = spread

    def __call__(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N H *action"]:
        """H decisions, and H − 1 passes of the forward-dynamics mask between them.

        That mask sees the whole plan; the steps that are not decided yet go on with the newest decision.
        """
        batch = len(context.observations)
        observations = context.observations[:, -1].repeat_interleave(num_candidates, dim=0)
        decided: list[torch.Tensor] = []
        for step in range(horizon):
            with full_precision(observations.device):
                distribution = self.values.policy(observations).spread_by(self.spread)
            action = distribution.sample(1, generator)[0].unflatten(0, (batch, num_candidates))
            action[:, 0] = distribution.mode().unflatten(0, (batch, num_candidates))[:, 0]
            decided.append(action)
            if step < horizon - 1:
                plan = torch.stack(decided + [action] * (horizon - 1 - step), dim=2)
                observations = imagine_plans(self.model, context, plan, ()).states[:, :, step + 1].flatten(0, 1)
        return torch.stack(decided, dim=2)
