"""The smallest planner: the candidate with the largest imagined reward. Importing the module registers it."""

from collections.abc import Callable

import torch

from system.config import PlannerConfig
from system.decisions import Context, Plan
from system.models.protocols import PlanningModel
from system.planning.registry import Planner, register_planner

NAME = "toy_shooting"


@torch.no_grad()
def toy_shooting(
    model: PlanningModel, context: Context, *, config: PlannerConfig, generator: torch.Generator
) -> Plan:
    """Executes the first action of the best candidate, exploring or not."""
    candidates = model.propose(
        context, horizon=config.horizon, num_candidates=config.num_candidates, generator=generator
    )
    utilities = model.imagine(context, candidates).rewards.sum(-1)
    best = utilities.argmax(-1)
    first_actions = candidates[:, :, 0]
    return Plan(
        action=first_actions[torch.arange(len(best)), best],
        first_actions=first_actions,
        probabilities=torch.nn.functional.one_hot(best, config.num_candidates).float(),
        utilities=utilities,
        selected=best,
    )


def load() -> Callable[..., Plan]:
    return toy_shooting


PLANNER = Planner(NAME, "proposals", load, ignores=("td_lambda", "temperature", "beam_width"))
register_planner(PLANNER)
