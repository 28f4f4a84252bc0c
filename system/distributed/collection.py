"""`o2o collect`: from a behaviour agent to the episodes of a dataset, one that was interrupted going on.

Every finished episode is in an append log before the next round begins, and the agent's weights are saved
after every round, so that a collection that is stopped continues where it was.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from system.config import CollectConfig
from system.data.replay.episode_journal import EpisodeJournal
from system.envs.registry import collected_task
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError, SystemFailure
from system.evaluation.behaviour_policies import NoisyPolicy, SampledPolicy
from system.evaluation.policies import make_policy, planner_policy_name
from system.evaluation.pong_tracker import PongTracker
from system.evaluation.rollouts import play_episodes
from system.planning.acting import Decision, Policy
from system.planning.history import History
from system.planning.random_policies import random_policy
from system.runs.saved_agent import open_agent
from system.seeding import derive_seed, torch_generator
from system.types import Episode

EPISODES_PER_ROUND = 8
NOOP_MAX = 30
PPO_NAME = "PPO (RLlib)"

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Collection:
    """What was collected.

    Attributes:
        episodes: of the dataset.
        algorithm_name: who acted.
        training_env_steps: that the behaviour agent learnt from, in whole episodes.
        num_dropped: episodes played and lost: their environment failed, or their record is damaged.
    """

    episodes: list[Episode]
    algorithm_name: str
    training_env_steps: int
    num_dropped: int


@dataclass
class _WatchedPolicy:
    """Tells before each decision how many env steps there have been: a slow planner's round takes minutes."""

    policy: Policy
    watch: Callable[[int], None]
    env_steps: int = 0

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        self.watch(self.env_steps)
        self.env_steps += len(rows)
        return self.policy.act(history, rows, generator)


class Collector:
    """Collects the episodes that the configured kind asks for; what is in the folder already counts.

    Args:
        config: what to collect.
        folder: of the run; holds the episodes and the agent.
        report: is told (stage, done, total) in env steps.
        stop_if_asked: called again and again; may raise.
    """

    def __init__(
        self, config: CollectConfig, folder: Path, report: Report, stop_if_asked: Callable[[], None]
    ) -> None:
        self.config = config
        self.folder = folder
        self.report = report
        self.stop_if_asked = stop_if_asked

    def collect(self, address: str | None) -> Collection:
        """Works until the dataset is complete.

        Args:
            address: of a Ray cluster for the behaviour agent; None starts a local session.

        Raises:
            SystemFailure: the environments fail so often that nothing is collected any more.
        """
        task = collected_task(self.config)
        if self.config.policy == "random":
            return self._record(random_policy(task), 1, "uniform actions", 0)
        if self.config.policy == "tracker":
            tracker = PongTracker(self.config.noise_levels, task.valid_actions)
            levels = ", ".join(f"{level:g}" for level in self.config.noise_levels)
            return self._record(tracker, 2, f"ball tracker, shares of random actions: {levels}", 0)
        if self.config.policy == "checkpoint":
            policy, length, device = saved_policy(Path(str(self.config.checkpoint)), self.config)
            how = f"saved policy, action noise {self.config.action_noise:g}"
            return self._record(policy, length, how, 0, device)
        # RLlib takes seconds to import, which only those who need it shall wait for.
        from system.distributed.behaviour_training import train_behaviour_policy

        with closing(EpisodeJournal(self.folder / "training")) as training:
            behaviour = train_behaviour_policy(
                self.config, self.folder, training, self.report, self.stop_if_asked, address=address
            )
            if self.config.kind == "medium-replay":
                return self._finish(training, PPO_NAME, training.env_steps)
            return self._record(SampledPolicy(behaviour), 1, PPO_NAME, training.env_steps)

    def _record(
        self,
        policy: Policy,
        history_length: int,
        algorithm_name: str,
        training_env_steps: int,
        device: str | torch.device = "cpu",
    ) -> Collection:
        """Plays rounds of whole episodes until there are enough steps.

        A round depends on its number alone: one that was cut short is played again to the same episodes.
        """
        config = self.config
        with (
            closing(EpisodeJournal(self.folder / "recorded")) as journal,
            closing(self._environments()) as environments,
        ):

            def watch(env_steps: int) -> None:
                self.stop_if_asked()
                self.report("record", min(journal.env_steps + env_steps, config.env_steps - 1), config.env_steps)

            while journal.env_steps < config.env_steps:
                first = journal.next_number // EPISODES_PER_ROUND * EPISODES_PER_ROUND
                play = play_episodes(
                    _WatchedPolicy(policy, watch),
                    environments,
                    [derive_seed(config.seed, "record", first + index) for index in range(EPISODES_PER_ROUND)],
                    history_length=history_length,
                    generator=torch_generator(config.seed, "record", first, device=device),
                )
                refuse_if_all_failed(config.environment, len(play.episodes), play.num_dropped)
                journal.append(first, EPISODES_PER_ROUND, {each.position: each.episode for each in play.episodes})
                self.report("record", journal.env_steps, config.env_steps)
            return self._finish(journal, algorithm_name, training_env_steps)

    def _environments(self) -> EnvironmentBatch:
        """Atari games start with idle frames: otherwise they would all be the same game."""
        task = collected_task(self.config)
        noops = NOOP_MAX if task.frame_shape is not None else 0
        return EnvironmentBatch(task, self.config.environments, noop_max=noops)

    def _finish(self, journal: EpisodeJournal, algorithm_name: str, training_env_steps: int) -> Collection:
        episodes = _up_to(journal.episodes, self.config.env_steps)
        return Collection(episodes, algorithm_name, training_env_steps, journal.num_lost)


def saved_policy(path: Path, config: CollectConfig) -> tuple[Policy, int, torch.device]:
    """A checkpoint's configured planner, continuous actions with noise, the history it looks at, and its device.

    Args:
        path: a checkpoint or a run directory.
        config: environment and noise.

    Raises:
        CheckpointError: the checkpoint is unfit.
        ConfigError: it is of another environment.
    """
    saved = open_agent(path)
    name = saved.tasks[0].environment_id
    if name != config.environment:
        raise ConfigError(f"checkpoint: {saved.path} is of {name}, not of {config.environment}")
    run = saved.config
    policy = make_policy(planner_policy_name(run), saved.agent, saved.tasks[0], run, run.planner)
    if saved.tasks[0].is_discrete:
        return policy, run.context_length, saved.agent.device
    return NoisyPolicy(policy, config.action_noise), run.context_length, saved.agent.device


def refuse_if_all_failed(environment_id: str, num_episodes: int, num_dropped: int) -> None:
    """Ends a collection that would go on for ever.

    Args:
        environment_id: of the environment that fails.
        num_episodes: that a round brought.
        num_dropped: that it lost.

    Raises:
        SystemFailure: the round lost episodes and brought none.
    """
    if num_dropped and not num_episodes:
        raise SystemFailure(f"{environment_id}: failed in all {num_dropped} episodes of a round")


def _up_to(episodes: list[Episode], env_steps: int) -> list[Episode]:
    """Whole episodes from the beginning, at least `env_steps` of them if there are as many."""
    total, chosen = 0, []
    for episode in episodes:
        if total >= env_steps:
            break
        chosen.append(episode)
        total += episode.num_steps
    return chosen
