"""A goal environment of a few lines: a point in the plane that is to stand on another. Importing registers it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from system.types import Episode

ENVIRONMENT = "Own/GoalPoint-v0"
STEP = 0.4
NEAR = 0.25
LIMIT = 15


class GoalPoint(gymnasium.Env):
    """Moves by 0.4 of the action; 1 for being there, which ends the episode."""

    observation_space = spaces.Dict(
        {
            "achieved_goal": spaces.Box(-2.0, 2.0, (2,)),
            "desired_goal": spaces.Box(-2.0, 2.0, (2,)),
            "observation": spaces.Box(-2.0, 2.0, (1,)),
        }
    )
    action_space = spaces.Box(-1.0, 1.0, (2,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1.0, 1.0, size=(2, 2))
        return self._shown(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + STEP * np.asarray(action, np.float64), -2.0, 2.0)
        there = bool(np.abs(self.place - self.goal).max() < NEAR)
        return self._shown(), float(there), there, False, {}

    def _shown(self) -> dict[str, np.ndarray]:
        parts = {"achieved_goal": self.place, "desired_goal": self.goal, "observation": self.place[:1]}
        return {name: values.astype(np.float32) for name, values in parts.items()}


gymnasium.register(ENVIRONMENT, entry_point=GoalPoint, max_episode_steps=LIMIT)


def wandering_episode(seed: int) -> Episode:
    """Independent actions: none of them was on its way to the goal that is shown."""
    environment, generator = gymnasium.make(ENVIRONMENT), np.random.default_rng(seed)
    shown, _ = environment.reset(seed=seed)
    observations, actions, rewards, ended = [_flat(shown)], [], [], False
    while not ended and len(actions) < LIMIT:
        action = generator.uniform(-1.0, 1.0, size=2).astype(np.float32)
        shown, reward, ended, _, _ = environment.step(action)
        observations.append(_flat(shown))
        actions.append(action)
        rewards.append(reward)
    return Episode(
        observations=np.stack(observations),
        actions=np.stack(actions),
        rewards=np.asarray(rewards, np.float32),
        terminated=ended,
        truncated=not ended,
        complete=True,
    )


def _flat(shown: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([shown[name] for name in ("achieved_goal", "desired_goal", "observation")])
