"""Every environment that Gymnasium knows as a task, and how it is made; Atari games by this package's own wrapper.

An environment is found by its id alone, in Gymnasium's registry as it stands after the modules were imported that
the user named. An entry point or specification that comes with a dataset is data, and is never imported or run.
"""

import copy
import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import RescaleAction, TransformAction, TransformObservation

from system.config import CollectConfig, EnvironmentConfig
from system.envs.atari_games import GAMES, NUM_ACTIONS, AtariGame
from system.envs.references import reference_scores
from system.envs.spaces import action_fields, flatten, observation_dim, observation_slices, to_environment
from system.errors import ConfigError
from system.types import TaskSpec

_FRAME_SHAPE = (84, 84)
_ATARI_TIME_LIMIT = 27_000  # decisions: half an hour of play
_ATARI_HINTS = ("ALE/", "NoFrameskip")


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


_GAME_TASKS = tuple((game, _atari_task(game)) for game in GAMES)

ATARI: Mapping[str, TaskSpec] = MappingProxyType(
    {
        **{game.environment_id: task for game, task in _GAME_TASKS},
        **{f"{game.name}NoFrameskip-v4": task for game, task in _GAME_TASKS},
    }
)
"""Atari games by each id that datasets know them by; references are of random and of human play."""


NOTHING: Mapping[str, Any] = MappingProxyType({})
_PLAIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ -]{0,63}")


class Environments:
    """The environments that data may name: Gymnasium's, made as a run's configuration says.

    Args:
        config: keyword arguments and time limit, instead of those that data say; reference scores. Its id is the
            caller's to look for.
    """

    def __init__(self, config: EnvironmentConfig | None = None) -> None:
        self.config = config or EnvironmentConfig()

    def get(
        self, environment_id: str, recorded: Mapping[str, Any] = NOTHING, recorded_limit: int | None = None
    ) -> TaskSpec | None:
        """The task, or None where neither Gymnasium nor this package knows the id.

        Args:
            environment_id: exact.
            recorded: keyword arguments of the environment that data are of: numbers, words and lists of them.
            recorded_limit: its time limit; None where the data don't say.

        Raises:
            ConfigError: it is known and cannot be made or handled, or data give it what is not taken from data.
        """
        if environment_id in ATARI:
            return find_task(environment_id, self.config)
        if not _is_registered(environment_id):
            return None
        config = self.config
        if not config.kwargs:
            arguments = {name: value for name, value in recorded.items() if name != "render_mode"}
            for name, value in arguments.items():
                if not _is_plain(value):
                    raise ConfigError(
                        f"environment.kwargs: {ascii(name)[:40]} = {ascii(value)[:60]} is not taken from data; "
                        "name the arguments to be used"
                    )
            config = replace(config, kwargs=arguments)
        if config.max_episode_steps is None:
            config = replace(config, max_episode_steps=recorded_limit)
        return find_task(environment_id, config)


def is_known(environment_id: str) -> bool:
    """Whether an environment of that id could be made."""
    return environment_id in ATARI or _is_registered(environment_id)


def find_task(environment_id: str, config: EnvironmentConfig | None = None) -> TaskSpec:
    """The specification of an environment, read off it.

    Args:
        environment_id: that Gymnasium knows, or of an Atari game.
        config: keyword arguments, time limit and reference scores; None for none.

    Raises:
        ConfigError: the id is not known (names the nearest one that is), or the environment cannot be made or
            handled.
    """
    config = config or EnvironmentConfig()
    if environment_id in ATARI:
        task = ATARI[environment_id]
    else:
        arguments = tuple(sorted(config.kwargs.items(), key=lambda pair: pair[0]))
        try:
            task = _read_task(environment_id, arguments, config.max_episode_steps)
        except TypeError:  # arguments that cannot be remembered by
            task = _read_task.__wrapped__(environment_id, arguments, config.max_episode_steps)
    return with_own_settings(task, config)


def with_own_settings(task: TaskSpec, config: EnvironmentConfig) -> TaskSpec:
    """The task with the time limit and the reference scores of a configuration, if it has any."""
    if config.max_episode_steps is not None:
        task = replace(task, max_episode_steps=config.max_episode_steps)
    if config.reference_min is not None:
        task = replace(task, reference_min=config.reference_min, reference_max=config.reference_max)
    return task


def collected_task(config: CollectConfig) -> TaskSpec:
    """The task that a collection plays.

    Raises:
        ConfigError: as `find_task`.
    """
    limit = config.environment_max_episode_steps
    return find_task(
        config.environment, EnvironmentConfig(kwargs=config.environment_kwargs, max_episode_steps=limit)
    )


def make_environment(
    task: TaskSpec | str,
    *,
    max_episode_steps: int | None = None,
    noop_max: int = 0,
    render_mode: str | None = None,
) -> gymnasium.Env:
    """Makes an environment.

    Args:
        task: or the id of one that takes no keyword arguments.
        max_episode_steps: a time limit of its own, for short trials; None keeps the task's.
        noop_max: of Atari games, the largest number of idle frames that an episode may start with; see
            `AtariEnvironment`. Other tasks start at random by themselves, and take 0 only.
        render_mode: as of `gymnasium.make`; not of Atari games.

    Returns:
        The environment. Of vectors, float32 ones come out; continuous actions are mapped linearly from [-1, 1] to
        the task's bounds, and discrete ones counted from 0. Of Atari games uint8 frames come out.

    Raises:
        ConfigError: the id is not known, the environment cannot be made, or no-ops were asked for in a task that
            has none.
    """
    task = find_task(task) if isinstance(task, str) else task
    limit = max_episode_steps or task.max_episode_steps
    if task.frame_shape is not None:
        from system.envs.atari import AtariEnvironment  # loads the emulator

        return gymnasium.wrappers.TimeLimit(AtariEnvironment(GAMES[task.game], noop_max=noop_max), limit)
    if not task.has_environment:
        raise ConfigError(f"environment.id: {task.environment_id} has no simulator; name one to play in")
    if noop_max:
        raise ConfigError(f"noop_max: {task.environment_id} has no no-ops, so it must be 0")
    settings = dict(task.environment_kwargs)
    if render_mode is not None:
        settings["render_mode"] = render_mode
    made = _make(task.environment_id, limit, settings)
    seen, acted = made.observation_space, made.action_space
    vectors = gymnasium.spaces.Box(np.float32(-np.inf), np.float32(np.inf), (task.observation_dim,), np.float32)
    environment: gymnasium.Env = TransformObservation(made, lambda shown: flatten(seen, shown), vectors)
    if task.is_discrete:
        if task.action_start == 0:
            return environment
        counted = gymnasium.spaces.Discrete(task.action_dim)
        return TransformAction(environment, lambda action: to_environment(task, acted, action), counted)
    low, high = (bound.astype(np.float32) for bound in task.action_bounds)
    if task.is_rescaled or acted.shape != low.shape or acted.dtype != np.float32:
        bounds = gymnasium.spaces.Box(low, high, dtype=np.float32)
        environment = TransformAction(environment, lambda action: to_environment(task, acted, action), bounds)
    if task.is_rescaled:
        environment = RescaleAction(environment, np.float32(-1.0), np.float32(1.0))
    return environment


def environment_specification(task: TaskSpec | str) -> str:
    """Gymnasium's specification of an environment, as JSON.

    Of an Atari game it describes the emulator; there is no name for the small frames made of its screens. Where
    there is no environment it names none.

    Raises:
        ConfigError: the id is not known.
    """
    task = find_task(task) if isinstance(task, str) else task
    if not task.has_environment:
        return "{}"
    if task.frame_shape is None:
        registered = copy.deepcopy(gymnasium.spec(task.environment_id))
        registered.kwargs.update(task.environment_kwargs)
        registered.max_episode_steps = task.max_episode_steps
        registered.entry_point = _named(registered.entry_point)
        registered.vector_entry_point = _named(registered.vector_entry_point)
        return str(registered.to_json())
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


def unknown_environment(environment_id: str) -> str:
    """What is said of an id that is not known: the nearest ones, and how to make it known."""
    shown = ascii(environment_id[:80])
    known = [*gymnasium.registry, *(ATARI if any(hint in environment_id for hint in _ATARI_HINTS) else ())]
    nearest = difflib.get_close_matches(environment_id[:80], known, n=1, cutoff=0.75)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"environment {shown} is not known to Gymnasium; {hint}`modules` names modules that register others"


@lru_cache(maxsize=64)
def _read_task(
    environment_id: str, arguments: tuple[tuple[str, Any], ...], max_episode_steps: int | None
) -> TaskSpec:
    """Makes the environment once and looks at it."""
    settings = dict(arguments)
    environment = _make(environment_id, max_episode_steps, settings)
    try:
        limit = environment.spec.max_episode_steps if environment.spec is not None else None
        if limit is None:
            key = "environment.max_episode_steps (to collect: environment_max_episode_steps)"
            raise ConfigError(f"environment {environment_id} has no time limit; set {key}")
        slices = observation_slices(environment_id, environment.observation_space)
        low, high = reference_scores(environment_id)
        return TaskSpec(
            environment_id,
            observation_dim=observation_dim(environment.observation_space),
            max_episode_steps=int(limit),
            reference_min=low,
            reference_max=high,
            observation_slices=slices,
            environment_kwargs=settings,
            **action_fields(environment_id, environment.action_space),
        )
    finally:
        environment.close()


def _make(environment_id: str, max_episode_steps: int | None, settings: Mapping[str, Any]) -> gymnasium.Env:
    if not _is_registered(environment_id):
        raise ConfigError(unknown_environment(environment_id))
    # The checker repeats on every step what reading the task establishes once, and prints warnings.
    try:
        return gymnasium.make(
            environment_id, max_episode_steps=max_episode_steps, disable_env_checker=True, **settings
        )
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"environment {environment_id} cannot be made: {cause[:200]}") from error


def _named(entry_point: Any) -> str | None:
    """`module:name` of what an environment was registered with, which may be a class."""
    if entry_point is None or isinstance(entry_point, str):
        return entry_point
    return f"{entry_point.__module__}:{getattr(entry_point, '__qualname__', type(entry_point).__qualname__)}"


def _is_plain(value: Any, depth: int = 4) -> bool:
    """A number, a word that is no path, or a list of such, in lists that are not nested deeper."""
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(each, depth - 1) for each in value)
    is_word = isinstance(value, str) and _PLAIN_WORD.fullmatch(value) is not None
    return value is None or isinstance(value, int | float) or is_word


def _is_registered(environment_id: str) -> bool:
    """By its exact id; `module:Name-v0` would import what it names."""
    return environment_id in gymnasium.registry
