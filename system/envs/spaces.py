"""What of Gymnasium's spaces can be handled, and how: observations as flat vectors, actions within bounds.

Observations are flattened as Gymnasium does: boxes row by row (of uint8 too,
unless they are pictures), numbered values (Discrete, MultiDiscrete) one-hot,
MultiBinary as it is, and the parts of a Dict one after the other in alphabetical order, nested ones likewise. Each
part of a Dict is a named slice of the vector; a goal environment's are `achieved_goal`, `desired_goal` and
`observation`.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from system.errors import ConfigError
from system.types import TaskSpec, has_pixels

Slices = tuple[tuple[str, int, int], ...]

_FLAT = (spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
OBSERVATIONS = "Box of numbers, Discrete, MultiDiscrete, MultiBinary and Dict of these"
ACTIONS = "bounded Box of floats and Discrete"
LARGEST_OBSERVATION = 100_000


def describe_space(space: gymnasium.Space) -> str:
    """One short line, whatever the space."""
    text = " ".join(repr(space).split())
    return text if len(text) <= 80 else f"{text[:77]}…"


def observation_slices(environment_id: str, space: gymnasium.Space) -> Slices:
    """Where the named parts of an observation stand in the flat vector: (name, start, stop); none without names.

    Raises:
        ConfigError: the space, or a part of it, cannot be flattened to numbers of a fixed count.
    """
    slices, start = [], 0
    for name, part in _parts("", space):
        _check_observation(environment_id, name, part)
        stop = start + spaces.flatdim(part)
        slices.append((name, start, stop))
        start = stop
    if start > LARGEST_OBSERVATION:
        raise _refusal(environment_id, "observation", space, f"at most {LARGEST_OBSERVATION} numbers")
    return tuple(slices) if isinstance(space, spaces.Dict) else ()


def observation_dim(space: gymnasium.Space) -> int:
    """S of a space that `observation_slices` accepts."""
    return int(spaces.flatdim(space))


def action_fields(environment_id: str, space: gymnasium.Space) -> dict[str, Any]:
    """Number and bounds of actions, as the fields of a `TaskSpec`.

    Raises:
        ConfigError: the space is neither a bounded Box of floats nor Discrete.
    """
    if isinstance(space, spaces.Discrete):
        count = int(space.n)
        return {"action_dim": count, "valid_actions": tuple(range(count)), "action_start": int(space.start)}
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise _refusal(environment_id, "action", space, ACTIONS)
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise _refusal(environment_id, "action", space, f"{ACTIONS}; a bound is infinite or empty here")
    return {"action_dim": len(low), "action_low": common_bound(low), "action_high": common_bound(high)}


def common_bound(bounds: np.ndarray) -> float | tuple[float, ...]:
    """The value that all dimensions share, or one for each."""
    values = tuple(float(bound) for bound in bounds)
    return values[0] if len(set(values)) == 1 else values


def flatten(space: gymnasium.Space, observation: Any) -> np.ndarray:
    """The observation as a float32 vector [S]."""
    return np.asarray(spaces.flatten(space, observation), dtype=np.float32)


def to_environment(task: TaskSpec, space: gymnasium.Space, action: Any) -> Any:
    """An action as the environment counts or shapes it.

    Args:
        task: counts discrete actions from 0.
        space: of the environment's actions.
        action: a number, or a vector within the bounds but for what float32 rounds.
    """
    if isinstance(space, spaces.Box):
        return np.asarray(action, dtype=space.dtype).reshape(space.shape).clip(space.low, space.high)
    return int(action) + task.action_start


def _parts(name: str, space: gymnasium.Space) -> Iterator[tuple[str, gymnasium.Space]]:
    if not isinstance(space, spaces.Dict):
        yield name, space
        return
    for key, part in space.spaces.items():
        yield from _parts(f"{name}.{key}" if name else str(key), part)


def _check_observation(environment_id: str, name: str, space: gymnasium.Space) -> None:
    what = f"observation {name}" if name else "observation"
    if isinstance(space, spaces.Box):
        if has_pixels(space.shape, str(space.dtype)):
            raise _refusal(environment_id, what, space, f"{OBSERVATIONS}; pictures are served of Atari games only")
    elif not isinstance(space, _FLAT):
        raise _refusal(environment_id, what, space, OBSERVATIONS)


def _refusal(environment_id: str, what: str, space: gymnasium.Space, supported: str) -> ConfigError:
    described = f"{what} space {describe_space(space)}"
    return ConfigError(f"environment {environment_id}: {described} is not supported; {supported} are")
