"""The tasks this package knows, and how their environments are made.

Only ids of this table are ever built: an id, entry point or environment specification that comes with a
dataset is data, and is never imported or executed.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

import gymnasium
import numpy as np
from gymnasium.wrappers import RescaleAction, TransformObservation

from system.errors import ConfigError
from system.types import TaskSpec

_TASKS = (
    TaskSpec("Hopper-v5", 11, 3, 1000, reference_min=-20.272305, reference_max=3234.3),
    TaskSpec("Walker2d-v5", 17, 6, 1000, reference_min=1.629008, reference_max=4592.3),
    TaskSpec("HalfCheetah-v5", 17, 6, 1000, reference_min=-280.178953, reference_max=12135.0),
    TaskSpec("InvertedPendulum-v5", 4, 1, 1000, action_low=-3.0, action_high=3.0),
)

ENVIRONMENTS: Mapping[str, TaskSpec] = MappingProxyType({task.environment_id: task for task in _TASKS})
"""Every environment that may be made, by id; references are D4RL's, in undiscounted return."""


def find_task(environment_id: str) -> TaskSpec:
    """The specification of a known environment.

    Args:
        environment_id: an id of `ENVIRONMENTS`.

    Raises:
        ConfigError: the id is not in the table; names the nearest one that is.
    """
    task = ENVIRONMENTS.get(environment_id)
    if task is not None:
        return task
    shown = repr(environment_id[:80])
    nearest = difflib.get_close_matches(environment_id[:80], ENVIRONMENTS, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(ENVIRONMENTS)}"
    raise ConfigError(f"environment: {shown} is not known; {hint}")


def make_environment(environment_id: str, *, max_episode_steps: int | None = None) -> gymnasium.Env:
    """One environment that takes actions in [-1, 1] and gives float32 observations.

    Args:
        environment_id: an id of `ENVIRONMENTS`.
        max_episode_steps: a time limit of its own, for short trials; None keeps the task's.

    Returns:
        The environment; each action dimension is mapped linearly from [-1, 1] to the task's bounds.

    Raises:
        ConfigError: the id is not known.
    """
    task = find_task(environment_id)
    # The checker repeats on every step what the registry's tests establish once, and prints warnings.
    environment = gymnasium.make(
        task.environment_id, max_episode_steps=max_episode_steps, disable_env_checker=True
    )
    if (task.action_low, task.action_high) != (-1.0, 1.0):
        environment = RescaleAction(environment, np.float32(-1.0), np.float32(1.0))
    space = environment.observation_space
    single = gymnasium.spaces.Box(np.float32(-np.inf), np.float32(np.inf), space.shape, np.float32)
    return TransformObservation(environment, lambda observation: observation.astype(np.float32), single)


def environment_specification(environment_id: str) -> str:
    """Gymnasium's specification of a known environment, as JSON.

    Raises:
        ConfigError: the id is not known.
    """
    return str(gymnasium.spec(find_task(environment_id).environment_id).to_json())
