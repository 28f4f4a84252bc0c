"""An environment that a person names for what was learnt elsewhere, or on data alone."""

from dataclasses import replace

from system.config import NO_ENVIRONMENT, EnvironmentConfig
from system.envs.registry import find_task
from system.errors import ConfigError
from system.types import TaskSpec


def task_acted_in(learnt: TaskSpec, config: EnvironmentConfig) -> TaskSpec:
    """The task of another environment, its actions scaled as they were learnt.

    Args:
        learnt: what a policy was trained for.
        config: of the environment; without an id it is the one that was trained for.

    Raises:
        ConfigError: it is not known or cannot be made, or observations or actions are not those that were learnt.
    """
    if learnt.frame_shape is not None:
        raise ConfigError(f"environment: policies of {learnt.environment_id} are measured in that game alone")
    named = None if config.id == NO_ENVIRONMENT else config.id
    if named is None and not learnt.has_environment:
        raise ConfigError(f"environment.id: {learnt.environment_id} has no simulator; name one to play in")
    if named in (None, learnt.environment_id):  # made as it was for what was learnt, unless it is said how
        config = replace(
            config,
            kwargs=config.kwargs or learnt.environment_kwargs,
            max_episode_steps=config.max_episode_steps or learnt.max_episode_steps,
        )
    task = find_task(named or learnt.environment_id, config)
    _check_same(task, learnt)
    low, high = learnt.reference_min, learnt.reference_max
    if config.reference_min is not None or low is None:
        low, high = task.reference_min, task.reference_max
    return replace(
        task,
        action_low=learnt.action_low,
        action_high=learnt.action_high,
        reference_min=low,
        reference_max=high,
    )


def _check_same(task: TaskSpec, learnt: TaskSpec) -> None:
    where = f"environment.id: {task.environment_id}"
    if task.observation_dim != learnt.observation_dim:
        raise ConfigError(
            f"{where} has {task.observation_dim} observation dimensions, the policy sees {learnt.observation_dim}"
        )
    own, known = (_kind_of_actions(each) for each in (task, learnt))
    if own != known:
        raise ConfigError(f"{where} has {own}, the policy {known}")
    if task.is_discrete:
        return
    bounds = zip(*task.action_bounds, *learnt.action_bounds, strict=True)
    for dimension, (least, most, low, high) in enumerate(bounds):
        spare = 1e-6 * (most - least)
        if low < least - spare or high > most + spare:
            raise ConfigError(
                f"{where} has action bounds [{least:g}, {most:g}] of dimension {dimension}, "
                f"the policy acts in [{low:g}, {high:g}]"
            )


def _kind_of_actions(task: TaskSpec) -> str:
    if task.is_discrete:
        return f"{task.action_dim} discrete actions from {task.action_start}"
    return f"{task.action_dim} action dimensions"
