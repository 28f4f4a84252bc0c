"""The nouns every layer shares.

Axis letters, used in all annotations and docstrings:

    B  batch (environments or segments)      N  candidates
    T  time steps of a context or segment    W  beam width
    H  planned steps                         E  ensemble members
    S  observation dimension                 L  steps of one episode
    A  action dimension, or the number of discrete actions
    K  tokens of one frame

Observations are vectors in continuous control. In Atari the environment shows frames, and what is stored,
drawn and planned with is a frame's tokens: K integers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64, Shaped, UInt8

SMALLEST_PICTURE = 1024
"""Boxes [rows, columns, channels > 1] of fewer uint8 numbers are cells of a grid, flattened like other boxes."""


def has_pixels(shape: tuple[int, ...], dtype: str) -> bool:
    """Whether a box of numbers is a picture."""
    is_grid = len(shape) == 3 and shape[-1] > 1 and math.prod(shape) < SMALLEST_PICTURE
    return len(shape) > 1 and dtype == "uint8" and not is_grid



@dataclass(frozen=True)
class TaskSpec:
    """What the algorithms need to know of a task.

    Attributes:
        environment_id: that Gymnasium or `system.envs.registry.ATARI` knows; where there is no environment, what
            the data are called.
        observation_dim: S.
        action_dim: A.
        action_low, action_high: bounds of every action dimension, or of each; policies act in [-1, 1] and the
            environment wrapper rescales.
        max_episode_steps: the environment's own time limit.
        reference_min, reference_max: returns scored 0 and 100 when normalised; None if unknown.
        frame_shape: height and width of the frames that the environment shows; None where it shows vectors.
            Of such a task S is the number of pixels.
        valid_actions: of a task with discrete actions, those of the A that mean something there; empty for
            continuous ones.
        game: index of an Atari game in `system.envs.atari_games.GAMES`, which task embeddings are looked up
            by; 0 elsewhere.
        action_start: the environment's number of the first discrete action; they count from 0 here.
        observation_slices: (name, start, stop) of the parts of an observation that have names.
        environment_kwargs: of the environment's constructor.
        has_environment: False of data alone: there is nothing to act in.
    """

    environment_id: str
    observation_dim: int
    action_dim: int
    max_episode_steps: int
    action_low: float | tuple[float, ...] = -1.0
    action_high: float | tuple[float, ...] = 1.0
    reference_min: float | None = None
    reference_max: float | None = None
    frame_shape: tuple[int, int] | None = None
    valid_actions: tuple[int, ...] = ()
    game: int = 0
    action_start: int = 0
    observation_slices: tuple[tuple[str, int, int], ...] = ()
    environment_kwargs: Mapping[str, Any] = field(default_factory=dict)
    has_environment: bool = True

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TaskSpec":
        """Restores what `dataclasses.asdict` gave, in this version or an earlier one, from JSON too.

        Raises:
            TypeError: it is something else.
        """
        return cls(**{name: _tuples(value) for name, value in values.items()})

    @property
    def action_bounds(self) -> tuple[Float64[np.ndarray, "A"], Float64[np.ndarray, "A"]]:
        """Lower and upper bound of each action dimension."""
        low, high = (np.broadcast_to(bound, self.action_dim) for bound in (self.action_low, self.action_high))
        return low.astype(np.float64), high.astype(np.float64)

    @property
    def is_rescaled(self) -> bool:
        """The environment's actions have other bounds than [-1, 1]."""
        return (self.action_low, self.action_high) != (-1.0, 1.0)

    @property
    def observation_names(self) -> tuple[str, ...]:
        """A name for each dimension of an observation."""
        parts = self.observation_slices or (("observation", 0, self.observation_dim),)
        return tuple(f"{name}[{index}]" for name, start, stop in parts for index in range(stop - start))

    @property
    def is_discrete(self) -> bool:
        """Actions are numbers of buttons, not vectors."""
        return bool(self.valid_actions)

    def steps_until_cut(self, cut: int | None) -> int:
        """Steps of an episode that is cut after so many, if it is; never more than the task's own limit."""
        return min(cut or self.max_episode_steps, self.max_episode_steps)

    def normalized(self, episode_return: float) -> float | None:
        """100·(return − min)/(max − min), or None where the references are unknown."""
        if self.reference_min is None or self.reference_max is None:
            return None
        return 100.0 * (episode_return - self.reference_min) / (self.reference_max - self.reference_min)


@dataclass(frozen=True)
class EpisodeKey:
    """Identity of an online episode: sending it twice stores it once.

    Attributes:
        worker: index of the rollout worker.
        epoch: incarnation of that worker, so that a restarted one never reuses a key
            (always 0 in deterministic mode, where the same key means the same bytes).
        sequence: counts the worker's episodes from 0.
    """

    worker: int
    epoch: int
    sequence: int


@dataclass(frozen=True)
class Episode:
    """One trajectory as it was observed.

    Attributes:
        observations: o_0 … o_L, one more than there are actions: float32 vectors, uint8 frames or int16 tokens.
        actions: a_0 … a_{L−1}: float32 vectors in [−1, 1], or int64 numbers of discrete actions.
        rewards: r_0 … r_{L−1}.
        terminated: the last step reached a terminal state of the task.
        truncated: the last step was cut: by the time limit, a lost worker or a stopped collection.
        complete: it was played to its end: terminated, or truncated by the environment's own time limit.
        key: identity of an online episode; None for offline ones.
        policy_version: version of the weights that acted at each step; None for offline episodes.
        frames: what the environment showed, where `observations` are its tokens; None otherwise.
        game: as in `TaskSpec`.
    """

    observations: Shaped[np.ndarray, "L1 *observation"]
    actions: Shaped[np.ndarray, "L *action"]
    rewards: Float32[np.ndarray, "L"]
    terminated: bool
    truncated: bool
    complete: bool
    key: EpisodeKey | None = None
    policy_version: Int[np.ndarray, "L"] | None = None
    frames: UInt8[np.ndarray, "L1 height width"] | None = None
    game: int = 0

    @property
    def num_steps(self) -> int:
        """L, the number of transitions."""
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of rewards."""
        return float(self.rewards.sum(dtype=np.float64))


@dataclass(frozen=True)
class SegmentBatch:
    """Windows of T steps; steps outside their episode are zeros and not `valid`.

    Attributes:
        returns_to_go: g_t = Σ_{k≥t} γ^{k−t} r_k with r_t included, and what is read into an end without
            termination (`data.store.returns`); of games seen as frames or tokens, of the rewards' signs.
        valid: the step belongs to the episode.
        returns_valid: the step's return-to-go is known.
        terminated: the step reached a terminal state.
        game: of each window, as in `TaskSpec`.
    """

    observations: Shaped[np.ndarray, "B T *observation"]
    actions: Shaped[np.ndarray, "B T *action"]
    rewards: Float32[np.ndarray, "B T"]
    returns_to_go: Float32[np.ndarray, "B T"]
    valid: Bool[np.ndarray, "B T"]
    returns_valid: Bool[np.ndarray, "B T"]
    terminated: Bool[np.ndarray, "B T"]
    game: Int64[np.ndarray, "B"]


@dataclass(frozen=True)
class TransitionBatch:
    """Single steps (o, a, r, o′, terminated); truncation is not termination and bootstraps.

    Attributes:
        next_actions: a′, what was done at o′; zeros where nothing was, at the end of an episode. None of steps
            that were not drawn from episodes.
        next_known: whether anything was done at o′; None likewise.
    """

    observations: Float32[np.ndarray, "B S"]
    actions: Shaped[np.ndarray, "B *action"]
    rewards: Float32[np.ndarray, "B"]
    next_observations: Float32[np.ndarray, "B S"]
    terminated: Bool[np.ndarray, "B"]
    next_actions: Shaped[np.ndarray, "B *action"] | None = None
    next_known: Bool[np.ndarray, "B"] | None = None


@dataclass(frozen=True)
class Measurement:
    """What one policy did on some seeds.

    Attributes:
        policy: its name.
        target_return_ratio: what it asked for; None if it asks for nothing.
        seeds: of the episodes, those lost to environment errors left out.
        returns: undiscounted, of each of these seeds.
        lengths: in env steps.
        decision_seconds: of decisions for a single environment.
        num_fallbacks: decisions of these episodes whose search came to nothing that could be used.
    """

    policy: str
    target_return_ratio: float | None
    seeds: list[int]
    returns: list[float]
    lengths: list[int]
    decision_seconds: list[float]
    num_fallbacks: int = 0


@dataclass(frozen=True)
class PredictionErrors:
    """How far a model's predictions are from what was recorded, by episode and by how far ahead it looks.

    Attributes:
        capability: what it was asked for.
        what: it predicted, or what a plain guess would have been.
        sums: of squared errors, in variances of the data, over an episode's windows.
        counts: of these windows.
    """

    capability: str
    what: str
    sums: Float64[np.ndarray, "episodes steps"]
    counts: Float64[np.ndarray, "episodes steps"]


@dataclass(frozen=True)
class UtilityRanking:
    """How well a planner's utilities rank its candidates.

    Attributes:
        correlations: Spearman's, of utility and return over the candidates of a state; one for each state at which
            both differ between candidates.
        gain_shares: of the return that the best of a state's candidates has over their mean, the share that the
            one with the highest utility has.
        horizon: actions of a candidate; None where the plans do not tell.
        num_candidates: compared at a state, at most.
        num_left_out: states that were not reached again, or at which nothing differed.
        episodes: of each of these states the number of its episode.
        reachable: Spearman's, of the return and what a linear reading of the first actions expects of candidates
            that it was not fitted to; one for each state where there are candidates enough to fit it.
    """

    correlations: list[float]
    gain_shares: list[float]
    horizon: int | None
    num_candidates: int
    num_left_out: int
    episodes: list[int]
    reachable: list[float] = field(default_factory=list)


def _tuples(value: Any) -> Any:
    """JSON has lists where a task has tuples."""
    return tuple(_tuples(each) for each in value) if isinstance(value, list | tuple) else value
