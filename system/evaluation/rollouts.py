"""Playing whole episodes in a batch of environments, for evaluation and for exploration alike."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from system.envs.vector import EnvironmentBatch
from system.evaluation.history import History
from system.evaluation.policies import Policy
from system.types import Episode, Plan


@dataclass(frozen=True)
class PlayedEpisode:
    """One episode and what was expected of it.

    Attributes:
        position: index of its seed among the seeds played.
        episode: what happened.
        first_utility: P-weighted utility of the first decision; None if nothing was planned.
    """

    position: int
    episode: Episode
    first_utility: float | None


@dataclass
class Play:
    """Result of `play_episodes`.

    Attributes:
        episodes: in the order of the seeds; episodes lost to environment errors are missing.
        decision_seconds: wall-clock time of each batched decision.
        num_dropped: episodes lost to environment errors.
    """

    episodes: list[PlayedEpisode] = field(default_factory=list)
    decision_seconds: list[float] = field(default_factory=list)
    num_dropped: int = 0


@dataclass
class _Recording:
    """One environment's episode in the making."""

    position: int
    observations: list[np.ndarray]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    first_utility: float | None = None

    def note(self, observation: np.ndarray, action: np.ndarray, reward: float) -> None:
        """One step: what was done, and what came of it."""
        self.observations.append(observation.copy())
        self.actions.append(action.copy())
        self.rewards.append(reward)

    def finish(self, terminated: bool, truncated: bool, max_episode_steps: int) -> PlayedEpisode:
        length = len(self.rewards)
        episode = Episode(
            observations=np.stack(self.observations),
            actions=np.stack(self.actions),
            rewards=np.asarray(self.rewards, dtype=np.float32),
            terminated=terminated,
            truncated=truncated,
            complete=terminated or (truncated and length == max_episode_steps),
        )
        return PlayedEpisode(self.position, episode, self.first_utility)


def play_episodes(
    policy: Policy,
    environments: EnvironmentBatch,
    seeds: Sequence[int],
    *,
    history_length: int,
    generator: torch.Generator,
) -> Play:
    """Plays one episode per seed, keeping as many environments busy as there are.

    Args:
        policy: decides for all running environments at once.
        environments: B environments; B may differ from the number of seeds.
        seeds: of the resets.
        history_length: steps of the past that the policy may look at.
        generator: the policy's source of randomness.
    """
    count, task = environments.num_environments, environments.task
    history = History(count, history_length, task.observation_dim, task.action_dim)
    running: dict[int, _Recording] = {}
    play, pending = Play(), list(enumerate(seeds))[::-1]
    _start(environments, history, running, pending)
    while running:
        rows = np.array(sorted(running))
        active = np.isin(np.arange(count), rows)
        started = time.perf_counter()
        decision = policy.act(history, rows, generator)
        play.decision_seconds.append(time.perf_counter() - started)
        actions = np.zeros((count, task.action_dim), dtype=np.float32)
        actions[rows] = decision.action
        if decision.plan is not None:
            _note_first_utilities(decision.plan, rows, running)
        observations, rewards, terminated, truncated = environments.step(actions, active)
        history.append(actions, observations, active)
        for row in rows.tolist():
            if environments.errors[row]:
                play.num_dropped += 1
                del running[row]
                continue
            running[row].note(observations[row], actions[row], float(rewards[row]))
            if terminated[row] or truncated[row]:
                ended = bool(terminated[row])
                play.episodes.append(running.pop(row).finish(ended, not ended, task.max_episode_steps))
        _start(environments, history, running, pending)
    play.episodes.sort(key=lambda played: played.position)
    return play


def _start(
    environments: EnvironmentBatch,
    history: History,
    running: dict[int, _Recording],
    pending: list[tuple[int, int]],
) -> None:
    """Gives every idle environment the next seed, while there are any."""
    idle = [row for row in range(environments.num_environments) if row not in running][: len(pending)]
    if not idle:
        return
    jobs = [pending.pop() for _ in idle]
    observations = environments.reset(idle, [seed for _, seed in jobs])
    history.reset(idle, observations)
    for row, (position, _), observation in zip(idle, jobs, observations, strict=True):
        running[row] = _Recording(position, [observation.copy()])


def _note_first_utilities(plan: Plan, rows: np.ndarray, running: dict[int, _Recording]) -> None:
    expected = (plan.probabilities * plan.utilities).sum(-1)
    for row, utility in zip(rows.tolist(), expected.tolist(), strict=True):
        if running[row].first_utility is None:
            running[row].first_utility = utility
