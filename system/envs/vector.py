"""Several environments behind one batched step that can leave some of them alone.

Gymnasium's own vector environments step every sub-environment on every call. Whole episodes of unequal
length, each with its own seed, need a step that leaves finished environments untouched, and an
environment that fails must not take the others with it.
"""

import logging
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
from jaxtyping import Bool, Float32, Shaped

from system.envs.registry import find_task, make_environment
from system.errors import PlannerError, ShapeError, SystemFailure
from system.types import TaskSpec

_LOG = logging.getLogger(__name__)
_RESET_ATTEMPTS = 3


class EnvironmentBatch:
    """B independent environments of one task, reset one by one with seeds of their own.

    Attributes:
        task: what the environments are.
        num_environments: B.
        errors: of the last `step`: the environment raised or gave a value that is not finite. It was
            rebuilt and needs a reset; its row is zeros, marked truncated, and its episode is to be dropped.
        num_rebuilt: how many sub-environments have been replaced so far.
    """

    def __init__(
        self,
        task: TaskSpec | str,
        num_environments: int,
        *,
        max_episode_steps: int | None = None,
        noop_max: int = 0,
        make: Callable[[], gymnasium.Env] | None = None,
    ):
        """Makes the environments; nothing is reset yet.

        Args:
            task: or the id of one that takes no keyword arguments.
            num_environments: B, at least 1.
            max_episode_steps: a time limit of its own; None keeps the task's.
            noop_max: of Atari games, the largest number of idle frames before an episode, drawn from its
                seed; 0 starts them all alike.
            make: builds one environment instead of the registry, for environments wrapped by the caller.

        Raises:
            ConfigError: the environment is not known or cannot be made, or has no no-ops.
        """
        self.task: TaskSpec = find_task(task) if isinstance(task, str) else task
        self.num_environments = num_environments
        self.errors: Bool[np.ndarray, "B"] = np.zeros(num_environments, dtype=bool)
        self.num_rebuilt = 0
        self._make = make or (
            lambda: make_environment(self.task, max_episode_steps=max_episode_steps, noop_max=noop_max)
        )
        self._environments = [self._make() for _ in range(num_environments)]

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> Shaped[np.ndarray, "I *observation"]:
        """Starts a new episode in some of the environments.

        Args:
            indices: which of the B environments, each at most once.
            seeds: one for each index; the episode depends on its seed and its actions alone.

        Returns:
            The first observation of each, in the order of `indices`: float32 vectors or uint8 frames.

        Raises:
            SystemFailure: an environment could not be reset even after it was rebuilt.
        """
        observations = self._empty_observations(len(indices))
        for row, (index, seed) in enumerate(zip(indices, seeds, strict=True)):
            observations[row] = self._reset_one(int(index), int(seed))
        return observations

    def step(
        self, actions: Shaped[np.ndarray, "B *action"], active: Bool[np.ndarray, "B"]
    ) -> tuple[
        Shaped[np.ndarray, "B *observation"],
        Float32[np.ndarray, "B"],
        Bool[np.ndarray, "B"],
        Bool[np.ndarray, "B"],
    ]:
        """Steps the active environments and leaves the others as they are.

        Args:
            actions: vectors in [-1, 1], or integers among the task's valid actions; rows of inactive
                environments are ignored.
            active: which environments to step.

        Returns:
            observations, rewards, terminated and truncated; rows of inactive environments are zero.
            Nothing resets itself. Rows of failed environments: see `errors`.

        Raises:
            PlannerError: an action of an active environment is not finite, or not one of the valid ones.
            ShapeError: `actions` is not [B, A], or [B] of discrete actions.
        """
        self._check_actions(actions, active)
        observations = self._empty_observations(self.num_environments)
        rewards = np.zeros(self.num_environments, dtype=np.float32)
        terminated = np.zeros(self.num_environments, dtype=bool)
        truncated = np.zeros(self.num_environments, dtype=bool)
        self.errors = np.zeros(self.num_environments, dtype=bool)
        for index in np.flatnonzero(active):
            try:
                observation, reward, ended, cut, _ = self._environments[index].step(actions[index])
                self._check_finite(observation, float(reward))
            except Exception as error:  # noqa: BLE001 - whatever a simulator raises costs one episode, not the run
                self._rebuild(int(index), error)
                self.errors[index] = truncated[index] = True
                continue
            observations[index], rewards[index] = observation, reward
            terminated[index], truncated[index] = ended, cut
        return observations, rewards, terminated, truncated

    def close(self) -> None:
        """Frees the simulators; the batch can't be used afterwards."""
        for environment in self._environments:
            environment.close()
        self._environments = []

    def _empty_observations(self, count: int) -> np.ndarray:
        if self.task.frame_shape is not None:
            return np.zeros((count, *self.task.frame_shape), dtype=np.uint8)
        return np.zeros((count, self.task.observation_dim), dtype=np.float32)

    def _check_actions(self, actions: np.ndarray, active: np.ndarray) -> None:
        discrete = self.task.is_discrete
        expected = (self.num_environments,) if discrete else (self.num_environments, self.task.action_dim)
        if actions.shape != expected:
            raise ShapeError(f"actions: expected shape {expected}, got {actions.shape}")
        sound = np.isin(actions, self.task.valid_actions) if discrete else np.isfinite(actions).all(axis=1)
        bad = np.flatnonzero(active & ~sound)
        if len(bad):
            problem = f"is not one of {self.task.valid_actions}" if discrete else "is not finite"
            raise PlannerError(f"action of environment {bad[0]} {problem}: {actions[bad[0]].tolist()}")

    @staticmethod
    def _check_finite(observation: np.ndarray, reward: float) -> None:
        if not np.isfinite(observation).all() or not np.isfinite(reward):
            raise FloatingPointError("the environment gave an observation or reward that is not finite")

    def _reset_one(self, index: int, seed: int) -> np.ndarray:
        for _ in range(_RESET_ATTEMPTS):
            try:
                observation, _ = self._environments[index].reset(seed=seed)
                self._check_finite(observation, 0.0)
            except Exception as error:  # noqa: BLE001 - as in `step`; the attempts are bounded
                self._rebuild(index, error)
            else:
                return observation
        raise SystemFailure(
            f"{self.task.environment_id}: environment {index} could not be reset in {_RESET_ATTEMPTS} attempts"
        )

    def _rebuild(self, index: int, error: Exception) -> None:
        _LOG.warning("%s: environment %d rebuilt after %r", self.task.environment_id, index, error)
        try:
            self._environments[index].close()
        except Exception as close_error:  # noqa: BLE001 - it is being thrown away: only worth a note
            _LOG.warning("closing environment %d failed as well: %r", index, close_error)
        self._environments[index] = self._make()
        self.num_rebuilt += 1
