"""Measuring policies: whole episodes on given seeds, at the target-return ratio that suits each best.

Every purpose has episodes of its own, so that what was chosen on some is reported on others.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from system.config import PlannerConfig, RunConfig
from system.envs.vector import EnvironmentBatch
from system.evaluation.policies import follower_name, make_policy
from system.evaluation.rollouts import play_episodes
from system.evaluation.utility_ranking import STATES_PER_EPISODE, rank_utilities
from system.families.registry import Agent, policy_traits
from system.planning.acting import Decision, Policy
from system.planning.history import History
from system.planning.random_policies import WithRandomActions
from system.seeding import derive_seed, torch_generator
from system.types import Measurement, TaskSpec, UtilityRanking

REPORT_SEEDS = 10_000
SELECTION_SEEDS = 20_000
SCHEDULE_SEEDS = 30_000
LATENCY_SEED = 40_000
RANKING_SEEDS = 50_000

LATENCY_DECISIONS = 40
LATENCY_WARMUP = 5


class Measurer:
    """Plays policies of one agent in one batch of environments.

    Args:
        agent: in evaluation mode.
        task: what is played.
        config: the run's configuration.
        before_decision: called before every decision; may raise to stop.
    """

    def __init__(
        self, agent: Agent, task: TaskSpec, config: RunConfig, before_decision: Callable[[], None]
    ) -> None:
        self.agent = agent
        self.task = task
        self.config = config
        self.before_decision = before_decision
        evaluation = config.evaluation
        limit = task.steps_until_cut(evaluation.max_episode_steps)
        noops = evaluation.noop_max if task.frame_shape is not None else 0
        self._batch = partial(EnvironmentBatch, task, max_episode_steps=limit, noop_max=noops)
        self.environments = self._batch(evaluation.num_environments)
        self.single = EnvironmentBatch(task, 1, max_episode_steps=LATENCY_DECISIONS, noop_max=noops)

    def measure(self, policy: str, ratio: float | None, first_seed: int, num_episodes: int) -> Measurement:
        """Plays episodes with the seeds first_seed, first_seed + 1, …; the same seeds for every policy.

        Args:
            policy: one of the family's.
            ratio: target-return ratio; None keeps the configured one.
            first_seed: of the resets; the policy's own randomness derives from it too.
            num_episodes: at least 1.
        """
        seeds = list(range(first_seed, first_seed + num_episodes))
        play = play_episodes(
            self._policy(policy, ratio),
            self.environments,
            seeds,
            history_length=self.config.context_length,
            generator=self._generator(policy, first_seed),
            perceive=partial(self.agent.perceive, game=self.task.game),
        )
        return Measurement(
            policy=policy,
            target_return_ratio=ratio if policy_traits(policy).conditioned else None,
            seeds=[seeds[played.position] for played in play.episodes],
            returns=[played.episode.episode_return for played in play.episodes],
            lengths=[played.episode.num_steps for played in play.episodes],
            decision_seconds=[],
            num_fallbacks=play.num_fallbacks,
        )

    def choose_ratio(self, policy: str) -> tuple[float, dict[float, float]]:
        """The ratio with the highest mean return on the selection episodes, and the whole curve.

        Args:
            policy: one that is conditioned on a return.
        """
        evaluation = self.config.evaluation
        curve: dict[float, float] = {}
        for ratio in evaluation.target_return_ratios:
            played = self.measure(policy, ratio, SELECTION_SEEDS, evaluation.selection_episodes)
            curve[ratio] = float(np.mean(played.returns))
        return max(curve, key=lambda ratio: curve[ratio]), curve

    def report(self, policy: str, ratio: float | None) -> Measurement:
        """The figure that is reported, with decision times."""
        measured = self.measure(policy, ratio, REPORT_SEEDS, self.config.evaluation.episodes)
        return replace(measured, decision_seconds=self.time_decisions(policy, ratio))

    def time_decisions(self, policy: str, ratio: float | None) -> list[float]:
        """Seconds of decisions for a single environment, the first few left out.

        Args:
            policy, ratio: as in `measure`.
        """
        play = play_episodes(
            self._policy(policy, ratio),
            self.single,
            [LATENCY_SEED],
            history_length=self.config.context_length,
            generator=self._generator(policy, LATENCY_SEED),
            perceive=partial(self.agent.perceive, game=self.task.game),
        )
        return play.decision_seconds[LATENCY_WARMUP:] or play.decision_seconds

    def rank(self, policy: str, ratio: float | None) -> UtilityRanking | None:
        """How well a planner's utilities rank its candidates, executed in episodes of their own.

        Args:
            policy, ratio: as in `measure`; the policy that follows is asked for the same ratio.

        Returns:
            None of a policy that does not plan, where the configuration leaves it out, and where the family has
            no policy that could follow.
        """
        evaluation, follower = self.config.evaluation, follower_name(self.config, policy)
        if not (evaluation.ranked_states and policy_traits(policy).plans and follower):
            return None
        together = min(evaluation.ranked_states, STATES_PER_EPISODE)
        with closing(self._batch(together * evaluation.ranked_candidates)) as environments:
            return rank_utilities(
                self._policy(policy, ratio),
                self._policy(follower, ratio),
                environments,
                num_states=evaluation.ranked_states,
                num_candidates=evaluation.ranked_candidates,
                follow_steps=evaluation.ranked_follow_steps,
                discount=self.config.discount,
                first_seed=RANKING_SEEDS,
                history_length=self.config.context_length,
                generator=self._generator(policy, RANKING_SEEDS),
                perceive=partial(self.agent.perceive, game=self.task.game),
            )

    def close(self) -> None:
        """Frees the environments."""
        self.environments.close()
        self.single.close()

    def _policy(self, name: str, ratio: float | None) -> Policy:
        planner: PlannerConfig = self.config.planner
        if ratio is not None:
            planner = replace(planner, target_return_ratio=ratio)
        policy = make_policy(name, self.agent, self.task, self.config, planner)
        share = self.config.evaluation.random_action_share
        if share > 0.0 and self.task.frame_shape is not None:
            policy = WithRandomActions(policy, self.task.valid_actions, share)
        return WatchedPolicy(policy, self.before_decision)

    def _generator(self, policy: str, first_seed: int) -> torch.Generator:
        return torch_generator(
            derive_seed(self.config.seed, "evaluation"),
            policy,
            first_seed,
            device=self.agent.device,
        )


@dataclass
class WatchedPolicy:
    """A policy that lets its owner stop it between decisions.

    Attributes:
        policy: decides.
        before_decision: called first; may raise.
    """

    policy: Policy
    before_decision: Callable[[], None]

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        """Asks first, then decides."""
        self.before_decision()
        return self.policy.act(history, rows, generator)


def decision_quantiles(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    """p50 and p99 in milliseconds; None where nothing was timed."""
    if not seconds:
        return None, None
    p50, p99 = np.percentile(np.asarray(seconds) * 1e3, [50, 99])
    return float(p50), float(p99)
