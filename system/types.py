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

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, Shaped, UInt8


@dataclass(frozen=True)
class TaskSpec:
    """What the algorithms need to know of a task.

    Attributes:
        environment_id: an id from `system.envs.registry`.
        observation_dim: S.
        action_dim: A.
        action_low, action_high: bounds of every action dimension; policies act in [-1, 1] and the
            environment wrapper rescales.
        max_episode_steps: the environment's own time limit.
        reference_min, reference_max: returns scored 0 and 100 when normalised; None if unknown.
        frame_shape: height and width of the frames that the environment shows; None where it shows vectors.
            Of such a task S is the number of pixels.
        valid_actions: of a task with discrete actions, those of the A that mean something there; empty for
            continuous ones.
        game: index of an Atari game in `system.envs.atari_games.GAMES`, which task embeddings are looked up
            by; 0 elsewhere.
    """

    environment_id: str
    observation_dim: int
    action_dim: int
    max_episode_steps: int
    action_low: float = -1.0
    action_high: float = 1.0
    reference_min: float | None = None
    reference_max: float | None = None
    frame_shape: tuple[int, int] | None = None
    valid_actions: tuple[int, ...] = ()
    game: int = 0

    @property
    def is_discrete(self) -> bool:
        """Actions are numbers of buttons, not vectors."""
        return bool(self.valid_actions)

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
        complete: the observed rewards are all there are to come: terminated, or truncated by the
            environment's own time limit. Of an incomplete episode the returns-to-go are invalid.
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
        returns_to_go: g_t = Σ_{k≥t} γ^{k−t} r_k with r_t included (`data.store.returns`); of games seen as
            frames or tokens, of the rewards' signs.
        valid: the step belongs to the episode.
        returns_valid: the step's return-to-go is known (its episode is complete).
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
    """Single steps (o, a, r, o′, terminated); truncation is not termination and bootstraps."""

    observations: Float32[np.ndarray, "B S"]
    actions: Shaped[np.ndarray, "B *action"]
    rewards: Float32[np.ndarray, "B"]
    next_observations: Float32[np.ndarray, "B S"]
    terminated: Bool[np.ndarray, "B"]


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
    """

    policy: str
    target_return_ratio: float | None
    seeds: list[int]
    returns: list[float]
    lengths: list[int]
    decision_seconds: list[float]
