"""How the online stage explores: with which planner, asking for how much return, and how boldly."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from torch import Generator

from system.config import RunConfig
from system.evaluation.policies import planner_policy_name
from system.families.registry import family_of
from system.planning.acting import Decision, Policy
from system.planning.history import History
from system.planning.utility import choose_action
from system.training.protocols import Exploration


def choose_exploration(config: RunConfig, curves: Mapping[str, Mapping[str, float]]) -> Exploration:
    """The planner and target-return ratio with the highest mean return on the offline selection episodes.

    Args:
        config: `online.explore_with` says whether to choose among all evaluated planners or to keep the
            configured one and choose its ratio alone.
        curves: `stage/policy` → ratio → mean return on the selection episodes.

    Returns:
        The configured planner and ratio where nothing was evaluated.
    """
    configured = planner_policy_name(config)
    plans = (name for name, traits in family_of(config).policies().items() if traits.plans)
    names = tuple(plans) if config.online.explore_with == "best" else (configured,)
    scores = {
        (name, float(ratio)): mean for name in names for ratio, mean in curves.get(f"offline/{name}", {}).items()
    }
    if not scores:
        return Exploration(configured, config.planner.target_return_ratio)
    return Exploration(*max(scores, key=lambda pair: scores[pair]))


@dataclass
class MixedExploration:
    """Draws in some of the environments, and executes in the others what evaluation would.

    What only ever draws one noisy candidate learns from noisy episodes alone, which are far worse than what the
    planner can do; the steady environments show the learners episodes that are worth imitating.

    Attributes:
        policy: a planner that draws the executed candidate in proportion to its utility.
        num_drawing: environments, the first ones of a worker, that execute the draw.
        select: how the others choose.
    """

    policy: Policy
    num_drawing: int
    select: str

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: Generator) -> Decision:
        """Plans once for all the environments in `rows`."""
        decision = self.policy.act(history, rows, generator)
        steady = rows >= self.num_drawing
        if decision.plan is None or not steady.any():
            return decision
        plan, action = decision.plan, decision.action.copy()
        chosen = choose_action(plan.first_actions, plan.probabilities, plan.utilities, self.select)
        action[steady] = chosen.cpu().numpy()[steady]
        return Decision(action, plan)
