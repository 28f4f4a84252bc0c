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

from system.envs.atari_games import GAMES, NUM_ACTIONS, AtariGame
from system.errors import ConfigError
from system.types import TaskSpec

_FRAME_SHAPE = (84, 84)
_ATARI_TIME_LIMIT = 27_000  # decisions: half an hour of play

_TASKS = (
    TaskSpec("Hopper-v5", 11, 3, 1000, reference_min=-20.272305, reference_max=3234.3),
    TaskSpec("Walker2d-v5", 17, 6, 1000, reference_min=1.629008, reference_max=4592.3),
    TaskSpec("HalfCheetah-v5", 17, 6, 1000, reference_min=-280.178953, reference_max=12135.0),
    TaskSpec("InvertedPendulum-v5", 4, 1, 1000, action_low=-3.0, action_high=3.0),
)


def _atari_task(game: AtariGame) -> TaskSpec:
    return TaskSpec(
        game.environment_id,
        observation_dim=_FRAME_SHAPE[0] * _FRAME_SHAPE[1],
        action_dim=NUM_ACTIONS,
        max_episode_steps=_ATARI_TIME_LIMIT,
        reference_min=game.random,
        reference_max=game.human,
        frame_shape=_FRAME_SHAPE,
        valid_actions=game.minimal_actions,
        game=game.index,
    )


_ATARI_TASKS = tuple(_atari_task(game) for game in GAMES)

ENVIRONMENTS: Mapping[str, TaskSpec] = MappingProxyType(
    {
        **{task.environment_id: task for task in _TASKS + _ATARI_TASKS},
        **{f"{game.name}NoFrameskip-v4": task for game, task in zip(GAMES, _ATARI_TASKS, strict=True)},
    }
)
"""Every environment that may be made, by each id that datasets know it by.

References are D4RL's in continuous control, and of random and human play in Atari, in undiscounted return.
"""


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
    known = ", ".join(task.environment_id for task in _TASKS)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {known} and Atari games as ALE/Pong-v5"
    raise ConfigError(f"environment: {shown} is not known; {hint}")


def make_environment(
    environment_id: str, *, max_episode_steps: int | None = None, noop_max: int = 0
) -> gymnasium.Env:
    """Makes a known environment.

    Args:
        environment_id: an id of `ENVIRONMENTS`.
        max_episode_steps: a time limit of its own, for short trials; None keeps the task's.
        noop_max: of Atari games, the largest number of idle frames that an episode may start with; see
            `AtariEnvironment`. Other tasks start at random by themselves, and take 0 only.

    Returns:
        The environment. With continuous actions, float32 vectors come out, and each action dimension is mapped
        linearly from [-1, 1] to the task's bounds; with discrete ones, uint8 frames.

    Raises:
        ConfigError: the id is not known, or no-ops were asked for in a task that has none.
    """
    task = find_task(environment_id)
    limit = max_episode_steps or task.max_episode_steps
    if task.is_discrete:
        from system.envs.atari import AtariEnvironment  # loads the emulator

        return gymnasium.wrappers.TimeLimit(AtariEnvironment(GAMES[task.game], noop_max=noop_max), limit)
    if noop_max:
        raise ConfigError(f"noop_max: {task.environment_id} has no no-ops, so it must be 0")
    # The checker repeats on every step what the registry's tests establish once, and prints warnings.
    environment = gymnasium.make(task.environment_id, max_episode_steps=limit, disable_env_checker=True)
    if (task.action_low, task.action_high) != (-1.0, 1.0):
        environment = RescaleAction(environment, np.float32(-1.0), np.float32(1.0))
    space = environment.observation_space
    single = gymnasium.spaces.Box(np.float32(-np.inf), np.float32(np.inf), space.shape, np.float32)
    return TransformObservation(environment, lambda observation: observation.astype(np.float32), single)


def environment_specification(environment_id: str) -> str:
    """Gymnasium's specification of a known environment, as JSON.

    Of an Atari game it describes the emulator; there is no name for the small frames made of its screens.

    Raises:
        ConfigError: the id is not known.
    """
    task = find_task(environment_id)
    if not task.is_discrete:
        return str(gymnasium.spec(task.environment_id).to_json())
    specification = gymnasium.envs.registration.EnvSpec(
        task.environment_id,
        entry_point="ale_py.env:AtariEnv",
        vector_entry_point="ale_py.vector_env:AtariVectorEnv",
        disable_env_checker=True,
        kwargs={
            "game": GAMES[task.game].rom,
            "repeat_action_probability": 0.0,
            "full_action_space": True,
            "frameskip": 4,
            "max_num_frames_per_episode": 4 * task.max_episode_steps,
            "obs_type": "grayscale",
        },
    )
    return str(specification.to_json())
