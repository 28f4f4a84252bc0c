"""Vector observations with discrete actions: episodes at random, and a small environment that can be solved."""

from typing import Any

import gymnasium
import numpy as np

from system.types import Episode, TaskSpec

TASK = TaskSpec("Corridor-v0", observation_dim=3, action_dim=3, max_episode_steps=12, valid_actions=(0, 1, 2))


def numbered_episode(length: int, ending: str, seed: int = 0, task: TaskSpec = TASK) -> Episode:
    """Random numbers that end as one of `dataset_factory.ENDINGS` says; its rewards are not signs."""
    generator = np.random.default_rng([seed, length])
    return Episode(
        observations=generator.normal(size=(length + 1, task.observation_dim)).astype(np.float32),
        actions=generator.integers(task.action_dim, size=length),
        rewards=generator.normal(size=length).astype(np.float32),
        terminated=ending == "terminated",
        truncated=ending == "time_limit",
        complete=ending != "cut",
    )


class Corridor(gymnasium.Env):
    """A walk along a line from near 0 to 2: action 2 moves on, 0 back, 1 stays; −1 a step until it is there.

    Observations are the place, its square and a constant.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (TASK.observation_dim,), np.float32)
    action_space = gymnasium.spaces.Discrete(TASK.action_dim)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts within 0.2 of 0."""
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-0.2, 0.2))
        self.steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Half a unit at a time."""
        self.place += 0.5 * (int(action) - 1)
        self.steps += 1
        ended = self.place >= 1.75
        return self._observe(), -1.0, ended, not ended and self.steps == TASK.max_episode_steps, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.place, self.place**2, 1.0], dtype=np.float32)


if TASK.environment_id not in gymnasium.registry:
    gymnasium.register(TASK.environment_id, entry_point=Corridor, max_episode_steps=TASK.max_episode_steps)
