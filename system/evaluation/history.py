"""The recent past of several environments, as planners want to see it."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int

from system.types import Context


class History:
    """Rolling windows of the newest T observations and T−1 actions of B environments.

    Args:
        num_environments: B.
        length: T.
        observation_dim, action_dim: S and A.
    """

    def __init__(self, num_environments: int, length: int, observation_dim: int, action_dim: int) -> None:
        self.observations = np.zeros((num_environments, length, observation_dim), dtype=np.float32)
        self.actions = np.zeros((num_environments, length - 1, action_dim), dtype=np.float32)
        self.valid = np.zeros((num_environments, length), dtype=bool)
        self.steps = np.zeros(num_environments, dtype=np.int64)

    def reset(self, indices: Sequence[int], observations: Float32[np.ndarray, "I S"]) -> None:
        """Starts new episodes at the given first observations."""
        rows = list(indices)
        self.observations[rows] = 0.0
        self.actions[rows] = 0.0
        self.valid[rows] = False
        self.observations[rows, -1] = observations
        self.valid[rows, -1] = True
        self.steps[rows] = 0

    def append(
        self,
        actions: Float32[np.ndarray, "B A"],
        observations: Float32[np.ndarray, "B S"],
        active: Bool[np.ndarray, "B"],
    ) -> None:
        """Moves the active environments one step on."""
        rows = np.flatnonzero(active)
        self.observations[rows, :-1] = self.observations[rows, 1:]
        self.observations[rows, -1] = observations[rows]
        self.valid[rows, :-1] = self.valid[rows, 1:]
        self.valid[rows, -1] = True
        if self.actions.shape[1]:
            self.actions[rows, :-1] = self.actions[rows, 1:]
            self.actions[rows, -1] = actions[rows]
        self.steps[rows] += 1

    def context(self, rows: Int[np.ndarray, "R"], target_return: torch.Tensor, length: int) -> Context:
        """The newest `length` steps of some environments, as tensors on the target return's device."""
        device = target_return.device
        return Context(
            observations=torch.tensor(self.observations[rows, -length:], device=device),
            actions=torch.tensor(self.actions[rows, self.actions.shape[1] - (length - 1) :], device=device),
            valid=torch.tensor(self.valid[rows, -length:], device=device),
            target_return=target_return,
        )
