"""One rollout worker: plays whole episodes with the exploring planner and sends them to the replay."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from system.config import RunConfig
from system.envs.vector import EnvironmentBatch
from system.evaluation.policies import make_policy
from system.evaluation.rollouts import Play, play_episodes
from system.families.building import build_agent
from system.models.devices import prepare_process
from system.seeding import derive_seed, torch_generator
from system.training.exploration import MixedExploration
from system.training.protocols import Exploration, Replay, RolloutRequest, RolloutResult, Weights
from system.types import Episode, EpisodeKey, TaskSpec


class RolloutWorker:
    """Explores with the planner; everything it does follows from its requests.

    Args:
        index: of the worker.
        epoch: incarnation; part of every episode's key.
        task: the environment.
        config: the run's configuration.
        replay: where episodes go; `add_episodes` returns once they are durable.
    """

    def __init__(self, index: int, epoch: int, task: TaskSpec, config: RunConfig, replay: Replay) -> None:
        prepare_process(config)
        self.index = index
        self.task = task
        self.epoch = epoch
        self.config = config
        self.replay = replay
        self.agent = build_agent(task, config).eval()
        self.environments = self._make_environments() if task.has_environment else None
        self.version = -1

    def _make_environments(self) -> EnvironmentBatch:
        online, frames = self.config.online, self.task.frame_shape is not None
        return EnvironmentBatch(
            self.task,
            online.environments_per_worker,
            max_episode_steps=self.task.steps_until_cut(online.max_episode_steps),
            noop_max=self.config.evaluation.noop_max if frames else 0,
        )

    def set_weights(self, weights: Weights, version: int) -> None:
        """Takes over a version of the weights."""
        self.agent.load_state_dict(dict(weights))
        self.version = version

    def collect(self, request: RolloutRequest) -> RolloutResult:
        """Plays the episodes of one request and hands them to the replay."""
        environments = self.environments
        assert environments is not None, "nothing is explored where there is no environment"
        seed, sequences = (
            self.config.seed,
            range(request.first_sequence, request.first_sequence + request.num_episodes),
        )
        exploration = request.exploration
        planner = replace(
            self.config.planner, select="sample", target_return_ratio=exploration.target_return_ratio
        )
        policy = make_policy(exploration.policy, self.agent, self.task, self.config, planner)
        play = play_episodes(
            MixedExploration(
                policy, self.config.online.drawn_share, request.first_sequence, self.config.planner.select
            ),
            environments,
            [derive_seed(seed, "exploration", self.index, sequence) for sequence in sequences],
            history_length=self.config.context_length,
            generator=torch_generator(
                seed, "candidates", self.index, request.first_sequence, device=self.agent.device
            ),
            perceive=partial(self.agent.perceive, game=self.task.game),
            most_steps=request.most_env_steps,
        )
        episodes = [self._sign(played.episode, sequences[played.position]) for played in play.episodes]
        self.replay.add_episodes(episodes)
        return self._summarize(play)

    def close(self) -> None:
        """Frees the environments."""
        if self.environments is not None:
            self.environments.close()

    def _sign(self, episode: Episode, sequence: int) -> Episode:
        versions = np.full(episode.num_steps, self.version, dtype=np.int64)
        return replace(episode, key=EpisodeKey(self.index, self.epoch, sequence), policy_version=versions)

    def _summarize(self, play: Play) -> RolloutResult:
        return RolloutResult(
            worker=self.index,
            returns=[played.episode.episode_return for played in play.episodes],
            lengths=[played.episode.num_steps for played in play.episodes],
            first_utilities=[
                played.first_utility if played.first_utility is not None else float("nan")
                for played in play.episodes
            ],
            decision_seconds=play.decision_seconds,
            version=self.version,
            num_dropped=play.num_dropped,
            num_fallbacks=play.num_fallbacks,
        )


@dataclass
class LocalRollouts:
    """The in-process `Rollouts`: a submitted round is played when its result is asked for.

    Args:
        worker: plays it.
        next_sequence: sequence number of the next episode.
    """

    worker: RolloutWorker
    next_sequence: int = 0
    submitted: RolloutRequest | None = None

    def set_weights(self, weights: Weights, version: int) -> None:
        """Makes the weights those of the next round."""
        self.worker.set_weights(weights, version)

    def submit(
        self, exploration: Exploration, num_episodes: int, *, most_env_steps: int | None = None
    ) -> None:
        """Notes one round, unless one is pending already."""
        if self.submitted is None:
            self.submitted = RolloutRequest(
                num_episodes, self.next_sequence, self.worker.version, exploration, most_env_steps
            )
            self.next_sequence += num_episodes

    def collect(self, *, wait: bool) -> list[RolloutResult]:
        """Plays the pending round, if there is one and the caller waits for it."""
        if self.submitted is None or not wait:
            return []
        request, self.submitted = self.submitted, None
        return [self.worker.collect(request)]

    def num_pending(self) -> int:
        """Rounds submitted and not yet returned."""
        return int(self.submitted is not None)

    def num_idle(self) -> int:
        """Workers that could be given a round now."""
        return int(self.submitted is None)

    def position(self) -> dict[str, int]:
        """Next sequence number of each worker, for the checkpoint."""
        return {str(self.worker.index): self.next_sequence}

    def seek(self, position: dict[str, int]) -> None:
        """Goes on from a checkpoint's position."""
        self.submitted = None
        self.next_sequence = position.get(str(self.worker.index), 0)
