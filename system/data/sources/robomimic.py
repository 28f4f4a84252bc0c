"""Reads robomimic's HDF5 files: `data/demo_N` with `obs/*`, `next_obs/*`, `actions`, `rewards` and `dones`.

- An observation is its low-dimensional parts side by side, in the order of their names; which are read can be
  chosen. Images among them are refused, since nothing here sees and feels at once.
- `env_args` says which environment of robosuite's it was and how long an episode could be. It is read as data;
  it names no environment of Gymnasium's.
- `dones` mark success, or the end of every demonstration, or both, as the file's maker chose. Only a done with a
  positive reward is a termination, and what follows it is left out; any other end is one of the recording:
  a time limit where the demonstration is as long as the horizon, else a cut.
- The split that `mask` holds is not used.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from system.data.raw_episode import Origin, RawEpisode, episode_of_rows, unreadable
from system.data.sources.d4rl import root_names
from system.data.sources.hdf5_reader import CheckedHdf5
from system.data.sources.minari_layout import BoxBounds
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.errors import DataError
from system.types import TaskSpec

LARGEST_ARGUMENTS_BYTES = 2**20
_DEMO = re.compile(r"demo_(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class _Layout:
    """What all demonstrations of a file have in common.

    Attributes:
        parts: names and sizes of the parts of an observation.
        horizon: longest episode; None where the file doesn't say.
        shaped: rewards are given on the way too.
    """

    parts: tuple[tuple[str, int], ...]
    action_dim: int
    horizon: int | None
    shaped: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Of the dimensions of an observation: `object[0]`, `object[1]`, …"""
        return tuple(f"{key}[{index}]" for key, size in self.parts for index in range(size))


class _Demonstrations:
    """One open file."""

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.name = f"dataset {path}"
        self.checked = CheckedHdf5(path, self.name)
        self.keys = keys

    def numbers(self, data: h5py.h5g.GroupID) -> list[int]:
        """Of the demonstrations, ascending."""
        names = [str(name) for name in h5py.Group(data)]
        unknown = [name for name in names if not _DEMO.fullmatch(name)]
        if unknown:
            raise DataError(f"{self.name}: data/{ascii(unknown[0])[1:-1][:60]} is no demo_N")
        if not names:
            raise DataError(f"{self.name}: data holds no demonstrations")
        return sorted(int(name.removeprefix("demo_")) for name in names)

    def group(self, parent: h5py.h5g.GroupID, name: str, place: str) -> h5py.h5g.GroupID:
        """A group that must be there."""
        path = f"{place}/{name}".lstrip("/")
        if not parent.links.exists(name.encode()):
            raise DataError(f"{self.name}: {path} is missing")
        found = self.checked.open(parent, name.encode(), path.encode())
        if not isinstance(found, h5py.h5g.GroupID):
            raise DataError(f"{self.name}: {path} is no group")
        return found

    def array(self, group: h5py.h5g.GroupID, key: str, place: str) -> np.ndarray:
        """An array that must be there."""
        values = self.checked.array(group, key, place)
        if isinstance(values, str):
            raise DataError(f"{self.name}: {place} {values}")
        return values

    def layout(self, data: h5py.h5g.GroupID) -> _Layout:
        """As the first demonstration has it."""
        place = f"data/demo_{self.numbers(data)[0]}"
        demo = self.group(data, place.removeprefix("data/"), "data")
        arguments = self._arguments(data)
        keywords = arguments.get("env_kwargs")
        keywords = keywords if isinstance(keywords, dict) else {}
        horizon = keywords.get("horizon")
        actions = self.array(demo, "actions", place)
        if actions.ndim != 2:
            raise DataError(f"{self.name}: {place}/actions has shape {actions.shape}, expected rows of numbers")
        return _Layout(
            parts=self._parts(self.group(demo, "obs", place), f"{place}/obs"),
            action_dim=actions.shape[1],
            horizon=horizon if isinstance(horizon, int) and horizon > 0 else None,
            shaped=bool(keywords.get("reward_shaping")),
        )

    def _parts(self, group: h5py.h5g.GroupID, place: str) -> tuple[tuple[str, int], ...]:
        found = sorted(str(name) for name in h5py.Group(group))
        for key in self.keys:
            if key not in found:
                raise DataError(f"dataset.observation_keys: {key} is not one of {', '.join(found)} in {self.name}")
        parts = []
        for key in self.keys or found:
            shape = self.checked.shape(group, key, place)
            if isinstance(shape, str):
                raise DataError(f"{self.name}: {place} {shape}")
            if len(shape[0]) > 2:
                flat = ", ".join(name for name in found if name != key)
                raise DataError(
                    f"{self.name}: {place}/{key} holds images of shape {shape[0][1:]}, which are not supported; "
                    f"dataset.observation_keys chooses others of {flat}"
                )
            parts.append((key, shape[0][1] if len(shape[0]) == 2 else 1))
        if not parts:
            raise DataError(f"{self.name}: {place} holds no observations")
        return tuple(parts)

    def _arguments(self, data: h5py.h5g.GroupID) -> dict[str, Any]:
        """`env_args`, as data."""
        attributes = h5py.Group(data).attrs
        text = attributes["env_args"] if "env_args" in attributes else "{}"
        try:
            content = json.loads(text) if len(text) <= LARGEST_ARGUMENTS_BYTES else None
        except (TypeError, ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise DataError(f"{self.name}: env_args of data is not a JSON object")
        return content

    def episode(self, data: h5py.h5g.GroupID, index: int, number: int, layout: _Layout) -> RawEpisode:
        """One demonstration, whatever is wrong with it."""
        origin = Origin(f"demo_{number}", observation_names=layout.names)
        try:
            return self._episode(data, index, number, layout, origin)
        except _Unfit as error:
            return unreadable(index, str(error), origin)

    def _episode(
        self, data: h5py.h5g.GroupID, index: int, number: int, layout: _Layout, origin: Origin
    ) -> RawEpisode:
        place = f"data/demo_{number}"
        demo = self.group(data, f"demo_{number}", "data")
        actions, rewards, dones = (self._required(demo, key, place) for key in ("actions", "rewards", "dones"))
        if rewards.ndim != 1 or dones.shape != rewards.shape or len(actions) != len(rewards):
            raise _Unfit(
                f"actions have shape {actions.shape}, rewards {rewards.shape}, dones {dones.shape}, expected one "
                "row a step"
            )
        observations = self._observations(demo, "obs", place, layout, len(rewards))
        following = None
        if demo.links.exists(b"next_obs"):
            following = self._observations(demo, "next_obs", place, layout, len(rewards))
        reached = np.flatnonzero((dones != 0) & (rewards > 0))
        whole = len(rewards)
        length = int(reached[0]) + 1 if len(reached) else whole
        at_limit = layout.horizon is not None and length >= layout.horizon
        terminated = bool(len(reached)) and not (layout.shaped and at_limit)
        done = bool(whole) and bool(dones[length - 1])
        episode = episode_of_rows(
            index,
            observations[:length],
            actions[:length],
            rewards[:length],
            terminated=terminated,
            truncated=not terminated and (at_limit or done),
            last_observation=None if following is None or not length else following[length - 1],
            note=f"episode {index} (demo_{number}): {whole - length} steps after its success are left out"
            if length < whole
            else "",
            origin=origin,
        )
        if episode is None:
            raise _Unfit("has no steps" if whole == 0 else "has one step, and not what was seen after it")
        return episode

    def _observations(
        self, demo: h5py.h5g.GroupID, key: str, place: str, layout: _Layout, length: int
    ) -> np.ndarray:
        if not demo.links.exists(key.encode()):
            raise _Unfit(f"has no {key}")
        group = self.group(demo, key, place)
        columns = []
        for part, size in layout.parts:
            values = self._required(group, part, f"{place}/{key}")
            if values.ndim == 1:
                values = values[:, None]
            if values.shape != (length, size):
                raise _Unfit(f"{key}/{part} has shape {values.shape}, expected {(length, size)}")
            columns.append(values)
        return np.concatenate(columns, axis=1)

    def _required(self, group: h5py.h5g.GroupID, key: str, place: str) -> np.ndarray:
        values = self.checked.array(group, key, place)
        if isinstance(values, str):
            raise _Unfit(values)
        return values


class _Unfit(Exception):
    """A demonstration that can't be read; its message is what is wrong."""


def recognises(path: Path) -> bool:
    """An HDF5 file with a group `data` at its root."""
    return "data" in root_names(path)


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """Sizes and names of the parts, and how long an episode could be."""
    demonstrations = _Demonstrations(path, options.observation_keys)
    with demonstrations.checked.opened() as root:
        data = demonstrations.group(root, "data", "")
        layout = demonstrations.layout(data)
        total = len(demonstrations.numbers(data))
    return SourceFacts(
        observation_space=BoxBounds(len(layout.names), None, None),
        action_space=BoxBounds(layout.action_dim, None, None),
        max_episode_steps=layout.horizon,
        total_episodes=total,
        observation_names=layout.names,
    )


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """The demonstrations, in the order of their numbers."""
    demonstrations = _Demonstrations(path, options.observation_keys)
    with demonstrations.checked.opened() as root:
        data = demonstrations.group(root, "data", "")
        layout = demonstrations.layout(data)
        for index, number in enumerate(demonstrations.numbers(data)):
            yield demonstrations.episode(data, index, number, layout)


SOURCE = Source(
    name="robomimic",
    looks_like="an HDF5 file with data/demo_0 and so on",
    recognises=recognises,
    describe=describe,
    read=read,
)
