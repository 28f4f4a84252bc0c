"""Playing whole episodes in a batch of environments, for evaluation and for exploration alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Shaped

from system.decisions import Plan
from system.envs.vector import EnvironmentBatch
from system.planning.acting import Policy
from system.planning.history import History
from system.types import Episode, TaskSpec

Perceive = Callable[[Shaped[np.ndarray, "R *shown"]], Shaped[np.ndarray, "R *observation"]]
"""What an environment shows to what the policy observes; of each row by itself."""


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
        decision_seconds: wall-clock time of each batched decision, perceiving what it is based on included.
        num_dropped: episodes lost to environment errors.
        num_fallbacks: decisions whose search came to nothing that could be used.
    """

    episodes: list[PlayedEpisode] = field(default_factory=list)
    decision_seconds: list[float] = field(default_factory=list)
    num_dropped: int = 0
    num_fallbacks: int = 0


def play_episodes(
    policy: Policy,
    environments: EnvironmentBatch,
    seeds: Sequence[int],
    *,
    history_length: int,
    generator: torch.Generator,
    perceive: Perceive | None = None,
    most_steps: int | None = None,
) -> Play:
    """Plays one episode per seed, keeping as many environments busy as there are.

    Args:
        policy: decides for all running environments at once.
        environments: B environments; B may differ from the number of seeds.
        seeds: of the resets.
        history_length: steps of the past that the policy may look at.
        generator: the policy's source of randomness.
        perceive: encodes frames as tokens, each once, when it arrives; None observes what is shown.
        most_steps: once so many were made, no further episode begins; None: every seed is played.

    Returns:
        The episodes, with what the policy observed; where `perceive` encodes frames, with the frames too.
    """
    stage = _Stage(environments, perceive, history_length, list(enumerate(seeds))[::-1])
    stage.start_idle()
    num_steps = 0
    while stage.running:
        rows = np.array(sorted(stage.running))
        started = time.perf_counter()
        decision = policy.act(stage.history, rows, generator)
        stage.play.decision_seconds.append(time.perf_counter() - started + stage.perceiving_seconds)
        stage.perceiving_seconds = 0.0
        if decision.plan is not None:
            _note_first_utilities(decision.plan, rows, stage.running)
            if decision.plan.fell_back is not None:
                stage.play.num_fallbacks += int(decision.plan.fell_back.sum())
        stage.step(rows, decision.action)
        num_steps += len(rows)
        if most_steps is None or num_steps < most_steps:
            stage.start_idle()
    stage.play.episodes.sort(key=lambda played: played.position)
    return stage.play


@dataclass
class _Recording:
    """One environment's episode in the making; `frames` only where they are not what is observed."""

    position: int
    observations: list[np.ndarray]
    frames: list[np.ndarray]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    first_utility: float | None = None

    def finish(self, terminated: bool, truncated: bool, task: TaskSpec) -> PlayedEpisode:
        length = len(self.rewards)
        episode = Episode(
            observations=np.stack(self.observations),
            actions=np.stack(self.actions),
            rewards=np.asarray(self.rewards, dtype=np.float32),
            terminated=terminated,
            truncated=truncated,
            complete=terminated or (truncated and length == task.max_episode_steps),
            frames=np.stack(self.frames) if self.frames else None,
            game=task.game,
        )
        return PlayedEpisode(self.position, episode, self.first_utility)


class _Stage:
    """The environments, what is remembered of them, and the episodes under way.

    Args:
        environments, perceive, history_length: as in `play_episodes`.
        pending: (position, seed) of the episodes to come, the next one last.

    Attributes:
        history: there from the first start on, when the shape of what is observed is known.
    """

    history: History

    def __init__(
        self,
        environments: EnvironmentBatch,
        perceive: Perceive | None,
        history_length: int,
        pending: list[tuple[int, int]],
    ) -> None:
        self.environments = environments
        self.perceive = perceive
        self.history_length = history_length
        self.pending = pending
        self.running: dict[int, _Recording] = {}
        self.play = Play()
        self.perceiving_seconds = 0.0
        self.has_started = False
        self.keeps_frames = environments.task.frame_shape is not None and perceive is not None

    def start_idle(self) -> None:
        """Gives every idle environment the next seed, while there are any."""
        count = self.environments.num_environments
        idle = [row for row in range(count) if row not in self.running][: len(self.pending)]
        if not idle:
            return
        jobs = [self.pending.pop() for _ in idle]
        shown = self.environments.reset(idle, [seed for _, seed in jobs])
        observed = self._observe(shown)
        if not self.has_started:
            count = self.environments.num_environments
            self.history = History.of_task(self.environments.task, count, self.history_length, observed)
            self.has_started = True
        self.history.reset(idle, observed)
        for index, (row, (position, _)) in enumerate(zip(idle, jobs, strict=True)):
            frames = [shown[index].copy()] if self.keeps_frames else []
            self.running[row] = _Recording(position, [observed[index].copy()], frames)
            self.history.episodes[row] = position

    def step(self, rows: np.ndarray, chosen: np.ndarray) -> None:
        """Executes one decision in the running environments, `rows`, and ends the episodes that end there."""
        actions = np.zeros((len(self.history.steps), *self.history.actions.shape[2:]), self.history.actions.dtype)
        actions[rows] = chosen
        active = np.isin(np.arange(len(actions)), rows)
        shown, rewards, terminated, truncated = self.environments.step(actions, active)
        sound = rows[~self.environments.errors[rows]]
        observed = np.zeros_like(self.history.observations[:, -1])
        if len(sound):
            observed[sound] = self._observe(shown[sound])
        self.history.append(actions, observed, active)
        for row in np.setdiff1d(rows, sound).tolist():
            self.play.num_dropped += 1
            del self.running[row]
        for row in sound.tolist():
            recording = self.running[row]
            recording.observations.append(observed[row].copy())
            recording.actions.append(actions[row].copy())
            recording.rewards.append(float(rewards[row]))
            if self.keeps_frames:
                recording.frames.append(shown[row].copy())
            if terminated[row] or truncated[row]:
                ended = bool(terminated[row])
                finished = self.running.pop(row).finish(ended, not ended, self.environments.task)
                self.play.episodes.append(finished)

    def _observe(self, shown: np.ndarray) -> np.ndarray:
        if self.perceive is None:
            return shown
        started = time.perf_counter()
        observed = self.perceive(shown)
        self.perceiving_seconds += time.perf_counter() - started
        return observed


def _note_first_utilities(plan: Plan, rows: np.ndarray, running: dict[int, _Recording]) -> None:
    """Notes what a first decision expects; a first action that search gave up has utility −∞, probability 0."""
    expected = (plan.probabilities * plan.utilities).where(plan.probabilities > 0.0, 0.0).sum(-1)
    for row, utility in zip(rows.tolist(), expected.tolist(), strict=True):
        if running[row].first_utility is None:
            running[row].first_utility = utility
