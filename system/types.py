"""The nouns every layer shares.

Axis letters, used in all annotations and docstrings:

    B  batch (environments or segments)      N  candidates
    T  time steps of a context or segment    W  beam width
    H  planned steps                         E  ensemble members
    S  observation dimension                 L  steps of one episode
    A  action dimension
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int


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
    """

    environment_id: str
    observation_dim: int
    action_dim: int
    max_episode_steps: int
    action_low: float = -1.0
    action_high: float = 1.0
    reference_min: float | None = None
    reference_max: float | None = None

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
        observations: o_0 … o_L, one more than there are actions.
        actions: a_0 … a_{L−1}.
        rewards: r_0 … r_{L−1}.
        terminated: the last step reached a terminal state of the task.
        truncated: the last step was cut: by the time limit, a lost worker or a stopped collection.
        complete: the observed rewards are all there are to come: terminated, or truncated by the
            environment's own time limit. Of an incomplete episode the returns-to-go are invalid.
        key: identity of an online episode; None for offline ones.
        policy_version: version of the weights that acted at each step; None for offline episodes.
    """

    observations: Float32[np.ndarray, "L1 S"]
    actions: Float32[np.ndarray, "L A"]
    rewards: Float32[np.ndarray, "L"]
    terminated: bool
    truncated: bool
    complete: bool
    key: EpisodeKey | None = None
    policy_version: Int[np.ndarray, "L"] | None = None

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
        returns_to_go: g_t = Σ_{k≥t} γ^{k−t} r_k with r_t included (`system.data.returns`).
        valid: the step belongs to the episode.
        returns_valid: the step's return-to-go is known (its episode is complete).
    """

    observations: Float32[np.ndarray, "B T S"]
    actions: Float32[np.ndarray, "B T A"]
    rewards: Float32[np.ndarray, "B T"]
    returns_to_go: Float32[np.ndarray, "B T"]
    valid: Bool[np.ndarray, "B T"]
    returns_valid: Bool[np.ndarray, "B T"]


@dataclass(frozen=True)
class TransitionBatch:
    """Single steps (o, a, r, o′, terminated); truncation is not termination and bootstraps."""

    observations: Float32[np.ndarray, "B S"]
    actions: Float32[np.ndarray, "B A"]
    rewards: Float32[np.ndarray, "B"]
    next_observations: Float32[np.ndarray, "B S"]
    terminated: Bool[np.ndarray, "B"]


@dataclass(frozen=True)
class Context:
    """What a planner sees of B environments at one decision, in the task's own units.

    Attributes:
        observations: the last T observations, the current one last; zeros where not `valid`.
        actions: the T−1 actions between them.
        valid: False before the episode's first step.
        target_return: the return-to-go to ask for at the current step.
    """

    observations: Float[torch.Tensor, "B T S"]
    actions: Float[torch.Tensor, "B T-1 A"]
    valid: Bool[torch.Tensor, "B T"]
    target_return: Float[torch.Tensor, "B"]


@dataclass(frozen=True)
class Plan:
    """A decision and everything it was based on, batched over B environments.

    Attributes:
        action: what to execute.
        first_actions: the candidates' first actions.
        probabilities: P[i] of eq. 4 (rows sum to 1).
        utilities: U^i of eq. 3.
        selected: index of the executed candidate, −1 where the action is an expectation.
        imagined_observations: predicted o_t … o_{t+H−1} of each candidate, the true o_t first;
            None where nothing was imagined.
        imagined_rewards: predicted r_t … of each candidate; None likewise.
    """

    action: Float[torch.Tensor, "B A"]
    first_actions: Float[torch.Tensor, "B N A"]
    probabilities: Float[torch.Tensor, "B N"]
    utilities: Float[torch.Tensor, "B N"]
    selected: Int[torch.Tensor, "B"]
    imagined_observations: Float[torch.Tensor, "B N H S"] | None = None
    imagined_rewards: Float[torch.Tensor, "B N H"] | None = None
