"""The recent past of several environments, as planners want to see it."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64, Shaped
from numpy.typing import DTypeLike

from system.decisions import Carry, Context, GoalStates, TokenContext
from system.types import TaskSpec


class History:
    """Rolling windows of the newest T observations and T−1 actions of B environments.

    Args:
        num_environments: B.
        length: T.
        observation_shape: of one observation: S of vectors, K of tokens.
        action_shape: of one action: A of vectors, () of discrete ones.
        observation_dtype, action_dtype: of what is kept.

    Attributes:
        steps: of each environment since its episode began.
        episodes: number of the episode that each environment is in, among those that are played together.
        carries: what each environment's latest plan handed on to the next decision of its episode.
        goals: what each environment is to reach, as `set_goals` said; None where nobody did.
    """

    def __init__(
        self,
        num_environments: int,
        length: int,
        observation_shape: int | tuple[int, ...],
        action_shape: int | tuple[int, ...],
        *,
        observation_dtype: DTypeLike = np.float32,
        action_dtype: DTypeLike = np.float32,
    ) -> None:
        self.observations = _windows(num_environments, length, observation_shape, observation_dtype)
        self.actions = _windows(num_environments, length - 1, action_shape, action_dtype)
        self.valid = np.zeros((num_environments, length), dtype=bool)
        self.steps = np.zeros(num_environments, dtype=np.int64)
        self.episodes = np.zeros(num_environments, dtype=np.int64)
        self.carries: list[Carry] = [None] * num_environments
        self.goals: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @classmethod
    def of_task(
        cls, task: TaskSpec, num_environments: int, length: int, observed: Shaped[np.ndarray, "I *observation"]
    ) -> "History":
        """An empty one for a task's actions and for observations like those given."""
        return cls(
            num_environments,
            length,
            observed.shape[1:],
            () if task.is_discrete else task.action_dim,
            observation_dtype=observed.dtype,
            action_dtype=np.int64 if task.is_discrete else np.float32,
        )

    def reset(self, indices: Sequence[int], observations: Shaped[np.ndarray, "I *observation"]) -> None:
        """Starts new episodes at the given first observations."""
        rows = list(indices)
        self.observations[rows] = 0
        self.actions[rows] = 0
        self.valid[rows] = False
        self.observations[rows, -1] = observations
        self.valid[rows, -1] = True
        self.steps[rows] = 0
        self.keep(np.asarray(rows, dtype=np.int64), ())

    def append(
        self,
        actions: Shaped[np.ndarray, "B *action"],
        observations: Shaped[np.ndarray, "B *observation"],
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

    def keep(self, rows: Int[np.ndarray, "R"], carries: Sequence[Carry]) -> None:
        """What plans of some environments hand on; empty where none of them does."""
        for position, row in enumerate(rows.tolist()):
            self.carries[row] = carries[position] if carries else None

    def set_goals(
        self,
        rows: Int[np.ndarray, "R"],
        values: Float32[np.ndarray, "R S"],
        named: Bool[np.ndarray, "R S"],
        steps_left: Int64[np.ndarray, "R"],
    ) -> None:
        """Says what some environments are to reach from now on; as in `GoalStates`."""
        if self.goals is None:
            shape = self.observations[:, 0].shape
            counts = np.ones(len(self.steps), dtype=np.int64)
            self.goals = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool), counts
        for column, value in zip(self.goals, (values, named, steps_left), strict=True):
            column[rows] = value

    def goal(self, rows: Int[np.ndarray, "R"], device: torch.device) -> GoalStates | None:
        """What some environments are to reach; None where nobody said so."""
        if self.goals is None:
            return None
        return GoalStates(*(torch.tensor(column[rows], device=device) for column in self.goals))

    def context(self, rows: Int[np.ndarray, "R"], target_return: torch.Tensor, length: int) -> Context:
        """The newest `length` steps of some environments, as tensors on the target return's device."""
        device = target_return.device
        return Context(
            observations=torch.tensor(self.observations[rows, -length:], device=device),
            actions=torch.tensor(self._newest_actions(rows, length), device=device),
            valid=torch.tensor(self.valid[rows, -length:], device=device),
            target_return=target_return,
            carry=tuple(self.carries[row] for row in rows),
            goal=self.goal(rows, device),
        )

    def token_context(
        self, rows: Int[np.ndarray, "R"], length: int, game: int, valid_actions: Bool[torch.Tensor, "A"]
    ) -> TokenContext:
        """The newest `length` frames of some environments, as tensors on the device of `valid_actions`.

        Args:
            rows: which environments.
            length: T of the context, at most that of the history.
            game: which all of them play.
            valid_actions: those that the game knows.
        """
        device, count = valid_actions.device, len(rows)
        return TokenContext(
            tokens=torch.tensor(self.observations[rows, -length:], dtype=torch.int64, device=device),
            actions=torch.tensor(self._newest_actions(rows, length), dtype=torch.int64, device=device),
            valid=torch.tensor(self.valid[rows, -length:], device=device),
            game=torch.full((count,), game, dtype=torch.int64, device=device),
            valid_actions=valid_actions.expand(count, -1),
        )

    def _newest_actions(self, rows: np.ndarray, length: int) -> np.ndarray:
        return self.actions[rows, self.actions.shape[1] - (length - 1) :]


def _windows(count: int, length: int, shape: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    row = (shape,) if isinstance(shape, int) else shape
    return np.zeros((count, length, *row), dtype=dtype)
