"""A module of a user's own, which registers environments that nobody else has."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Reservoir(gymnasium.Env):
    """Keeps a level near a goal by two valves of unequal reach, counted by a third part of what is seen.

    Args:
        goal: the level that is asked for.
    """

    observation_space = spaces.Dict(
        {
            "level": spaces.Box(-10.0, 10.0, (1,), np.float64),
            "alarms": spaces.MultiBinary(2),
            "desired_goal": spaces.Box(-10.0, 10.0, (1,), np.float32),
        }
    )
    action_space = spaces.Box(np.array([-0.5, 0.0]), np.array([0.5, 2.0]), dtype=np.float64)

    def __init__(self, goal: float = 1.0, render_mode: str | None = None) -> None:
        self.goal = goal
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.level = float(self.np_random.uniform(-1.0, 1.0))
        return self._show(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.level += float(action[0]) + 0.1 * float(action[1])
        return self._show(), -abs(self.level - self.goal), abs(self.level) > 8.0, False, {}

    def _show(self) -> dict:
        alarms = np.array([self.level < -2.0, self.level > 2.0], dtype=np.int8)
        return {"level": np.array([self.level]), "alarms": alarms, "desired_goal": np.float32([self.goal])}


class Switch(gymnasium.Env):
    """Three buttons that are counted from 5; the middle one is worth something."""

    observation_space = spaces.Box(0, 100, (2,), np.int64)
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return np.array([0, 0]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.steps += 1
        return np.array([self.steps, action]), float(action == 6), False, False, {}


class Strict(gymnasium.Env):
    """Takes no action outside its bounds, not by the last digit either.

    Args:
        action_space: its bounds.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, action_space: spaces.Box) -> None:
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        return np.zeros(2, dtype=np.float32), 0.0, False, False, {}


class Strange(gymnasium.Env):
    """Whatever spaces it is given."""

    def __init__(self, observation_space: Any = None, action_space: Any = None) -> None:
        self.observation_space = observation_space or spaces.Box(-1.0, 1.0, (2,))
        self.action_space = action_space or spaces.Discrete(2)


gymnasium.register("Own/Reservoir-v0", entry_point=Reservoir, max_episode_steps=12)
gymnasium.register("Own/Switch-v0", entry_point=Switch, max_episode_steps=6)
gymnasium.register("Own/Strict-v0", entry_point=Strict, max_episode_steps=6)
gymnasium.register("Own/Strange-v0", entry_point=Strange, max_episode_steps=6)
gymnasium.register("Own/Endless-v0", entry_point=Switch)
