"""How the online stage explores: with which policy, asking for how much return, and how boldly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def choose_exploration(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> Exploration:
    """The policy that did best in the reported offline evaluation, at the target-return ratio it had there.

    Every policy whose decisions hold candidates may explore, the unplanned ones among them: where planning does
    not help yet, episodes that are worth imitating come from the clone. Ratios were chosen on other episodes than
    those that are reported, which are several times as many.

    Args:
        config: `online.explore_with` says whether to choose among all measured policies or to keep the configured
            planner and take over its ratio alone.
        records: of evaluations, as in the summary.

    Returns:
        The configured planner and ratio where nothing that explores was measured; of what asks for no return the
        configured ratio.
    """
    configured = planner_policy_name(config)
    traits = family_of(config).policies()
    able = tuple(name for name, each in traits.items() if each.plans or each.draws)
    names = able if config.online.explore_with == "best" else (configured,)
    measured = [
        record
        for record in records
        if record["stage"] == "offline" and record["policy"] in names
    ]
    if not measured:
        return Exploration(configured, config.planner.target_return_ratio)
    best = max(measured, key=lambda record: float(record["return_mean"]))
    asked = best["target_return_ratio"]
    return Exploration(best["policy"], config.planner.target_return_ratio if asked is None else float(asked))


@dataclass
class MixedExploration:
    """Draws in some of the episodes, evenly spread, and executes in the others what evaluation would.

    What only ever draws one noisy candidate learns from noisy episodes alone, which are far worse than what the
    planner can do; the steady ones show the learners episodes that are worth imitating.

    Attributes:
        policy: draws the executed candidate in proportion to its utility.
        drawn_share: of a worker's episodes, those that execute the draw.
        first_sequence: number, among all of the worker's episodes, of the first one that is played here.
        select: how the others choose.
    """

    policy: Policy
    drawn_share: float
    first_sequence: int
    select: str

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: Generator) -> Decision:
        """Plans once for all the environments in `rows`."""
        decision = self.policy.act(history, rows, generator)
        sequences = self.first_sequence + history.episodes[rows]
        steady = np.floor((sequences + 1) * self.drawn_share) == np.floor(sequences * self.drawn_share)
        if decision.plan is None or not steady.any():
            return decision
        plan, action = decision.plan, decision.action.copy()
        chosen = choose_action(plan.first_actions, plan.probabilities, plan.utilities, self.select)
        action[steady] = chosen.cpu().numpy()[steady]
        return Decision(action, plan)
