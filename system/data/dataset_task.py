"""Which task data are of: the environment's that they name, compared with what they declare, or what they show."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from system.data.raw_episode import RawEpisode
from system.data.sources.minari_layout import Bound, BoxBounds, DiscreteSpace, ImageSpace
from system.data.sources.protocol import SourceFacts
from system.data.validation import ACTION_TOLERANCE
from system.errors import DataError
from system.types import TaskSpec


class Environments(Protocol):
    """The environments that data may name; nothing else is ever built from what they say."""

    def get(
        self, environment_id: str, /, recorded: Mapping[str, Any], recorded_limit: int | None
    ) -> TaskSpec | None:
        """The task of an environment that is known, as the data were recorded in; None of another."""
        ...


def dataset_task(dataset_id: str, facts: SourceFacts, environments: Environments) -> TaskSpec | None:
    """The named environment's task, with the dataset's reference scores where it has them.

    Args:
        dataset_id: named in errors.
        facts: what the data say of their task.
        environments: that they may name.

    Returns:
        None if the data name no environment.

    Raises:
        DataError: the environment is not a known one, or its spaces are not the dataset's.
    """
    if facts.environment_id is None:
        return None
    task = environments.get(facts.environment_id, facts.environment_kwargs, facts.max_episode_steps)
    if task is None:
        shown = ascii(facts.environment_id[:60])
        raise DataError(
            f"dataset {dataset_id}: environment {shown} is not known here; `modules` names modules that register "
            "it, environment.id another one, and environment.id: none trains on the data alone"
        )
    _check_spaces(dataset_id, facts, task)
    if facts.reference_min is None:
        return task
    return replace(task, reference_min=facts.reference_min, reference_max=facts.reference_max)


def task_of_data(dataset_id: str, facts: SourceFacts, episodes: Iterator[RawEpisode]) -> TaskSpec:
    """The task of data that no environment is known of, which nothing can act in.

    Actions are bounded as declared; where nothing is declared, by [−1, 1] if all of them lie there, else by the
    smallest and largest of each dimension. Without a declared time limit no episode counts as ended by it.

    Args:
        dataset_id: stands for the environment's id, and is named in errors.
        facts: what the data say of their task.
        episodes: read for what is not declared.

    Raises:
        DataError: the observations are pictures, or there is no sound episode.
    """
    observations, actions = facts.observation_space, facts.action_space
    if isinstance(observations, ImageSpace):
        raise DataError(f"dataset {dataset_id}: pictures are learnt from of Atari games alone; see environment.id")
    dim, limit, bounds = observations.dim if observations else 0, facts.max_episode_steps, None
    discrete = actions.count if isinstance(actions, DiscreteSpace) else 0
    declared = isinstance(actions, BoxBounds) and None not in (actions.low, actions.high)
    if limit is None or not dim or actions is None or not (discrete or declared):
        seen = _look_at(dataset_id, episodes)
        limit, dim = limit or seen.longest + 1, dim or seen.observation_dim
        if not declared and not discrete:
            discrete, bounds = seen.num_actions, (seen.low, seen.high)
    vector = actions.dim if isinstance(actions, BoxBounds) else len(bounds[0]) if bounds else 0
    task = TaskSpec(
        dataset_id,
        observation_dim=dim,
        action_dim=discrete or vector,
        max_episode_steps=limit,
        reference_min=facts.reference_min,
        reference_max=facts.reference_max,
        observation_slices=_slices(facts.observation_names),
        has_environment=False,
    )
    if discrete:
        start = actions.start if isinstance(actions, DiscreteSpace) else 0
        return replace(task, valid_actions=tuple(range(discrete)), action_start=start)
    if isinstance(actions, BoxBounds) and actions.low is not None and actions.high is not None:
        return replace(task, action_low=actions.low, action_high=actions.high)
    if bounds is None:
        return task
    low, high = _seen_bounds(*bounds)
    return replace(task, action_low=low, action_high=high)


class _Seen:
    """What the episodes show."""

    longest = observation_dim = num_actions = 0
    low = high = np.zeros(0)


def _look_at(dataset_id: str, episodes: Iterator[RawEpisode]) -> _Seen:
    seen, first = _Seen(), True
    for raw in episodes:
        if raw.problem or raw.actions.ndim not in (1, 2) or not len(raw.actions) or raw.observations.ndim != 2:
            continue
        low, high = np.nanmin(raw.actions, axis=0), np.nanmax(raw.actions, axis=0)
        if raw.actions.ndim == 1:
            if raw.actions.dtype.kind not in "iu" or low < 0:
                raise DataError(f"dataset {dataset_id}: episode {raw.number}: actions are not vectors or numbers")
            seen.num_actions = max(seen.num_actions, int(high) + 1)
        elif first or len(low) == len(seen.low):
            seen.low = low if first else np.minimum(seen.low, low)
            seen.high = high if first else np.maximum(seen.high, high)
        seen.longest = max(seen.longest, len(raw.rewards))
        seen.observation_dim = seen.observation_dim or raw.observations.shape[1]
        first = False
    if first:
        raise DataError(f"dataset {dataset_id}: no episode shows observations and actions")
    return seen


def _slices(names: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """Parts of the observations, of dimensions that are called `part[0]`, `part[1]`, … or just `part`."""
    found: list[tuple[str, int, int]] = []
    for index, name in enumerate(names):
        part = re.sub(r"\[\d+\]$", "", name)
        if found and found[-1][0] == part:
            found[-1] = (part, found[-1][1], index + 1)
        else:
            found.append((part, index, index + 1))
    return tuple(found)


def _seen_bounds(
    low: np.ndarray, high: np.ndarray
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    low, high = low.astype(np.float64), high.astype(np.float64)
    if (low >= -1.0 - ACTION_TOLERANCE).all() and (high <= 1.0 + ACTION_TOLERANCE).all():
        return -1.0, 1.0
    return tuple(low.tolist()), tuple(np.where(high > low, high, low + 1.0).tolist())


def _check_spaces(dataset_id: str, facts: SourceFacts, task: TaskSpec) -> None:
    """A space that is missing is taken to be the environment's."""
    if facts.observation_space is not None:
        _check_observations(f"dataset {dataset_id}:", facts.observation_space, task)
    if facts.action_space is not None:
        _check_actions(f"dataset {dataset_id}:", facts.action_space, task)


def _check_observations(dataset: str, space: BoxBounds | ImageSpace, task: TaskSpec) -> None:
    """Of frames only that they are some: the metadata may declare those of the raw environment."""
    if isinstance(space, ImageSpace):
        if task.frame_shape is None:
            dimensions = f"{task.observation_dim} observation dimensions"
            raise DataError(f"{dataset} frames of shape {space.shape}, but {task.environment_id} has {dimensions}")
    elif task.frame_shape is not None:
        raise DataError(f"{dataset} {space.dim} observation dimensions, but {task.environment_id} shows frames")
    elif space.dim != task.observation_dim:
        raise DataError(
            f"{dataset} {space.dim} observation dimensions, but {task.environment_id} has {task.observation_dim}"
        )


def _check_actions(dataset: str, space: BoxBounds | DiscreteSpace, task: TaskSpec) -> None:
    where = f"but {task.environment_id} has"
    kind = "discrete actions" if task.is_discrete else "action dimensions"
    if isinstance(space, DiscreteSpace):
        fits = space.count <= task.action_dim if space.is_least else space.count == task.action_dim
        if not task.is_discrete or not fits:
            raise DataError(f"{dataset} {space.count} discrete actions, {where} {task.action_dim} {kind}")
        if not space.is_least and space.start != task.action_start:
            raise DataError(f"{dataset} actions counted from {space.start}, {where} them from {task.action_start}")
        return
    if task.is_discrete or space.dim != task.action_dim:
        raise DataError(f"{dataset} {space.dim} action dimensions, {where} {task.action_dim} {kind}")
    low, high = task.action_bounds
    for dimension in range(space.dim):
        own = (_of(space.low, dimension), _of(space.high, dimension))
        expected = (float(low[dimension]), float(high[dimension]))
        if own != (None, None) and not _close(own, expected):
            place = f" of dimension {dimension}" if isinstance(task.action_low, tuple) else ""
            raise DataError(
                f"{dataset} action bounds [{own[0]}, {own[1]}]{place}, {where} [{expected[0]:g}, {expected[1]:g}]"
            )


def _of(bound: Bound, dimension: int) -> float | None:
    return bound[dimension] if isinstance(bound, tuple) else bound


def _close(own: tuple[float | None, float | None], expected: tuple[float, float]) -> bool:
    return all(
        a is not None and bool(np.isclose(a, b, rtol=1e-6, atol=ACTION_TOLERANCE))
        for a, b in zip(own, expected, strict=True)
    )
