"""Simulators put into a recorded state: an episode that begins where another one was."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

from system.envs.registry import make_environment
from system.errors import ConfigError
from system.types import TaskSpec

SAME_WITHIN = 1e-3


def can_be_placed(task: TaskSpec) -> bool:
    """Whether an environment of this task can be put into the state that an observation shows."""
    if not task.has_environment or task.frame_shape is not None:
        return False
    environment = make_environment(task)
    try:
        return _positions_left_out(environment) is not None
    finally:
        environment.close()


class PlacedStart(gymnasium.Wrapper):
    """Begins the episodes of some seeds in given states.

    It knows the environments of Gymnasium's MuJoCo suite whose observation is the positions, all but the first
    few, and the velocities: what is left out, as where along the floor it is, stays as the reset drew it.

    Args:
        environment: as `make_environment` makes it.
        starts: observation to begin with, by seed; episodes of other seeds begin as they are reset.
    """

    def __init__(
        self, environment: gymnasium.Env, starts: Mapping[int, Float32[np.ndarray, "S"]]
    ) -> None:
        super().__init__(environment)
        self.starts = starts

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets, then places.

        Raises:
            ConfigError: the simulator can't be put there.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is None or seed not in self.starts:
            return observation, info
        return place(self.env, self.starts[seed]), info


def place(environment: gymnasium.Env, observation: Float32[np.ndarray, "S"]) -> Float32[np.ndarray, "S"]:
    """Puts a simulator that was reset into the state that an observation shows, and says what it shows then.

    Args:
        environment: as `make_environment` makes it.
        observation: of the same task.

    Raises:
        ConfigError: its observations don't tell the state, or this one is clipped.
    """
    left_out = _positions_left_out(environment)
    if left_out is None:
        raise ConfigError("environment: its observations do not tell the simulator's whole state")
    simulator: Any = environment.unwrapped
    positions = simulator.data.qpos.copy()
    count = len(positions) - left_out
    positions[left_out:] = observation[:count]
    simulator.set_state(positions, np.asarray(observation[count:], dtype=np.float64))
    shown = np.asarray(simulator._get_obs(), dtype=np.float32)
    if not np.allclose(shown, observation, atol=SAME_WITHIN):
        raise ConfigError("environment: the simulator does not show the state that it was put into")
    return shown


def _positions_left_out(environment: gymnasium.Env) -> int | None:
    """How many of a simulator's positions its observations leave out; None where they hold other things."""
    simulator: Any = environment.unwrapped
    model = getattr(simulator, "model", None)
    if model is None or not hasattr(simulator, "set_state") or not hasattr(simulator, "_get_obs"):
        return None
    shape = getattr(environment.observation_space, "shape", None)
    if shape is None or len(shape) != 1:
        return None
    left_out = int(model.nq + model.nv - shape[0])
    return left_out if 0 <= left_out <= 2 else None
