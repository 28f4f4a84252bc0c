"""Whether policies get where they are asked to: success rates and tracking errors with their intervals."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from system.config import RunConfig
from system.data.store.episodes import EpisodeStore
from system.envs.placed_start import PlacedStart
from system.envs.registry import make_environment
from system.envs.vector import EnvironmentBatch
from system.errors import SystemFailure
from system.evaluation.goal_tasks import Assignment, course_of, episode_limit
from system.evaluation.policies import make_policy
from system.evaluation.rollouts import play_episodes
from system.evaluation.statistics import bootstrap_interval, wilson_interval
from system.families.registry import Agent
from system.planning.acting import Policy
from system.planning.goals import GoalDirected, Outcome, judge
from system.seeding import derive_seed, numpy_generator, torch_generator
from system.types import TaskSpec

REACH_SEEDS = 60_000


@dataclass(frozen=True)
class Reached:
    """How one policy did.

    Attributes:
        policy: its name.
        seeds: of the episodes; those lost to environment errors are left out.
        outcomes: of each.
        walked: o_0 … o_L of each.
        actions: a_0 … of each, in [−1, 1], or numbers.
        inferred: as of `GoalDirected`, of the first episode.
    """

    policy: str
    seeds: list[int]
    outcomes: list[Outcome]
    walked: list[Float32[np.ndarray, "_ S"]]
    actions: list[Shaped[np.ndarray, "..."]]
    inferred: list[tuple[int, Float32[np.ndarray, "_ S"]]]


def play_towards(
    policy_name: str,
    agent: Agent,
    task: TaskSpec,
    config: RunConfig,
    assignments: Sequence[Assignment],
    *,
    tolerance: float = 0.0,
) -> Reached:
    """Plays an episode for each assignment.

    Args:
        policy_name: one of the family's.
        agent: in evaluation mode.
        task: what is played.
        config: the run's; its planner's horizon is how far ahead a reference is shown.
        assignments: what is asked for; the same for every policy.
        tolerance: of what a goal environment desires.
    """
    seeds = list(range(REACH_SEEDS, REACH_SEEDS + len(assignments)))
    starts = {
        seed: each.start for seed, each in zip(seeds, assignments, strict=True) if each.start is not None
    }
    limit = episode_limit(assignments, task)
    policy: Policy = make_policy(policy_name, agent, task, config, config.planner)
    horizon = max(1, config.planner.horizon)
    directed = GoalDirected(policy, [each.course for each in assignments], horizon)
    count = min(config.evaluation.num_environments, len(assignments))
    make = partial(_make, task, limit, starts)
    with closing(EnvironmentBatch(task, count, make=make)) as environments:
        play = play_episodes(
            directed,
            environments,
            seeds,
            history_length=config.context_length,
            generator=torch_generator(derive_seed(config.seed, "reach"), policy_name, device=agent.device),
            perceive=partial(agent.perceive, game=task.game),
        )
    walked = [np.asarray(played.episode.observations) for played in play.episodes]
    asked = [assignments[played.position] for played in play.episodes]
    outcomes = [
        judge(course_of(each, task, path[0], tolerance), path) for each, path in zip(asked, walked, strict=True)
    ]
    played_seeds = [seeds[played.position] for played in play.episodes]
    actions = [np.asarray(played.episode.actions) for played in play.episodes]
    return Reached(policy_name, played_seeds, outcomes, walked, actions, directed.inferred)


def _make(task: TaskSpec, limit: int, starts: dict[int, np.ndarray]) -> Any:
    environment = make_environment(task, max_episode_steps=limit)
    return PlacedStart(environment, starts) if starts else environment


def dataset_outcomes(
    assignments: Sequence[Assignment], store: EpisodeStore, task: TaskSpec, *, tolerance: float, seed: int
) -> list[Outcome]:
    """How recorded episodes did on the same courses, without having been asked.

    Args:
        assignments: of the played episodes.
        store: recorded ones.
        task: what was played.
        tolerance: of what a goal environment desires.
        seed: of which of them is compared with which.

    Returns:
        One for each assignment: of an episode from its beginning, or, where the assignment begins in a state of
        its own, from any of its steps.
    """
    generator = numpy_generator(seed, "recorded episodes")
    outcomes = []
    for assignment in assignments:
        episode = store.episode(int(generator.integers(store.num_episodes)))
        first = 0 if assignment.start is None else int(generator.integers(episode.num_steps))
        observations = np.asarray(episode.observations[first:])
        outcomes.append(judge(course_of(assignment, task, observations[0], tolerance), observations))
    return outcomes


def reach_record(goal: str, policy: str, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> dict[str, Any]:
    """One policy's figures on one goal, as they stand in `reach.json`.

    Args:
        goal: its name.
        policy: the policy's; `dataset` of recorded episodes.
        outcomes: of the episodes.
        seeds: of the episodes; none of recorded ones.

    Raises:
        SystemFailure: environment errors have ended every episode.
    """
    if not outcomes:
        raise SystemFailure(f"{goal}: environment errors ended every episode of {policy}")
    successes = sum(each.success for each in outcomes)
    errors = np.array([each.tracking_error for each in outcomes])
    return {
        "goal": goal,
        "policy": policy,
        "episodes": len(outcomes),
        "seeds": list(seeds),
        "successes": successes,
        "success_rate": successes / len(outcomes),
        "success_ci95": list(wilson_interval(successes, len(outcomes))),
        "tracking_errors": errors.tolist(),
        "tracking_error": float(errors.mean()),
        "tracking_error_ci95": list(bootstrap_interval(errors)) if len(errors) > 1 else None,
    }


def format_reached(records: Sequence[dict[str, Any]]) -> str:
    """Policies side by side, for a person."""
    lines = [f"{'goal':<20}{'policy':<15}{'success [95 %]':>24}{'tracking error [95 %]':>30}"]
    for each in records:
        low, high = each["success_ci95"]
        success = f"{each['success_rate']:.0%} [{low:.0%}, {high:.0%}]"
        interval = each["tracking_error_ci95"]
        spread = "–" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"
        error = f"{each['tracking_error']:.2f} {spread}"
        lines.append(f"{each['goal']:<20}{each['policy']:<15}{success:>24}{error:>30}")
    return "\n".join(lines)
