"""Reads D4RL's flat HDF5 files: rows of all episodes one after the other, ends marked by flags.

Every row is (observation, action, reward) with `terminals` and, mostly, `timeouts` and `next_observations`.

- An episode ends at a row that is a terminal or a time-out, wherever that stands and however long it has become.
- Where `next_observations` does not lead to the next row although no end is marked, an episode was cut.
- Files that have neither time-outs nor next observations are cut at the environment's time limit, as D4RL does.
- What was seen after the last action is the row's next observation, unless that is the first observation of the
  episode that follows (files made by shifting the rows); then, and without next observations, it is not known and
  `episode_of_rows` says what becomes of the episode.
- What follows the last end is a cut episode.

`infos/…` and `metadata/…` are not read.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from system.data.raw_episode import Origin, RawEpisode, episode_of_rows
from system.data.sources.hdf5_reader import CheckedHdf5
from system.data.sources.minari_layout import BoxBounds, DiscreteSpace
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.errors import DataError
from system.types import TaskSpec

KEYS = ("observations", "actions", "rewards", "terminals")
OPTIONAL_KEYS = ("timeouts", "next_observations")


def recognises(path: Path) -> bool:
    """An HDF5 file with observations, actions or terminals at its root."""
    return not {"observations", "actions", "terminals"}.isdisjoint(root_names(path))


def root_names(path: Path) -> list[str]:
    """Names at the root of an HDF5 file; none of what is no HDF5 file.

    Raises:
        DataError: it is one, and damaged.
    """
    if not path.is_file() or not h5py.is_hdf5(path):
        return []
    with CheckedHdf5(path, f"dataset {path}").opened() as root:
        return [str(name) for name in h5py.Group(root)]


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """Dimensions; neither bounds nor environment, which the layout doesn't have."""
    columns = _read(path)
    actions = columns["actions"]
    discrete = actions.ndim == 1 and actions.dtype.kind in "iu"
    count = int(actions.max()) + 1 if discrete else 0
    return SourceFacts(
        observation_space=BoxBounds(columns["observations"].shape[1], None, None),
        action_space=DiscreteSpace(count, is_least=True) if discrete else BoxBounds(actions.shape[1], None, None),
        notes=tuple(_notes(columns)),
    )


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """The episodes, in the order of the rows."""
    columns = _read(path)
    terminals = columns["terminals"] != 0
    timeouts = columns["timeouts"] != 0 if "timeouts" in columns else np.zeros_like(terminals)
    length = len(terminals)
    ends = terminals | timeouts | _breaks(columns)
    if columns.keys().isdisjoint(OPTIONAL_KEYS):
        timeouts = _time_limits(terminals, task.max_episode_steps)
        ends |= timeouts
    borders = [0, *(np.flatnonzero(ends) + 1).tolist()]
    number = 0
    for start, stop in pairwise(borders if borders[-1] == length else [*borders, length]):
        last = stop - 1
        episode = episode_of_rows(
            number,
            *(columns[key][start:stop] for key in KEYS[:3]),
            terminated=bool(terminals[last]),
            truncated=bool(timeouts[last]),
            last_observation=_last_observation(columns, last),
            origin=Origin(first=start),
        )
        if episode is not None:
            yield episode
            number += 1


def _notes(columns: dict[str, np.ndarray]) -> Iterator[str]:
    """What the absence of a column means for the episodes."""
    followed = "next_observations" in columns
    if "timeouts" not in columns:
        other = "where next_observations does not lead to the next row" if followed else "at the time limit"
        yield f"no timeouts: episodes end at terminals and {other}"
    if not followed:
        yield "no next_observations: episodes that did not terminate lose their last transition"


def _last_observation(columns: dict[str, np.ndarray], row: int) -> np.ndarray | None:
    """What was seen after an episode's last row, if the file has that and not what the next row saw first."""
    if "next_observations" not in columns:
        return None
    seen = columns["next_observations"][row]
    following = columns["observations"][(row + 1) % len(columns["observations"])]
    return None if np.array_equal(seen, following) else seen


def _breaks(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Rows whose next observation is not that of the row that follows."""
    breaks = np.zeros(len(columns["rewards"]), dtype=bool)
    if "next_observations" in columns:
        seen, following = columns["next_observations"][:-1], columns["observations"][1:]
        known = np.isfinite(seen) & np.isfinite(following)
        breaks[:-1] = (known & ~np.isclose(seen, following, rtol=1e-5, atol=1e-6)).any(axis=1)
    return breaks


def _time_limits(terminals: np.ndarray, limit: int) -> np.ndarray:
    """Where an environment with a time limit must have stopped."""
    stops = np.zeros(len(terminals), dtype=bool)
    starts = [0, *(np.flatnonzero(terminals) + 1).tolist(), len(terminals)]
    for start, stop in pairwise(starts):
        stops[start + limit - 1 : stop : limit] = True
    return stops


def _read(path: Path) -> dict[str, np.ndarray]:
    """The columns, of one length and of the shapes that they must have."""
    name = f"dataset {path}"
    checked = CheckedHdf5(path, name)
    columns = {}
    with checked.opened() as root:
        for key in (*KEYS, *OPTIONAL_KEYS):
            if key in OPTIONAL_KEYS and not root.links.exists(key.encode()):
                continue
            values = checked.array(root, key)
            if isinstance(values, str):
                raise DataError(f"{name}: {values}")
            columns[key] = values
    check_columns(name, columns)
    return columns


def check_columns(name: str, columns: dict[str, np.ndarray]) -> None:
    """Refuses rows that do not fit together; a column of one number a row may have a second axis, and loses it.

    Args:
        name: with which errors begin.
        columns: `observations`, `actions` and others by name; altered.

    Raises:
        DataError: naming the column.
    """
    length = len(columns["observations"]) if columns["observations"].ndim else 0
    for key, values in columns.items():
        if values.ndim == 2 and values.shape[1] == 1 and not key.endswith(("observations", "actions")):
            columns[key] = values = values[:, 0]
        dimensions = (2,) if key.endswith("observations") else (1, 2) if key == "actions" else (1,)
        if values.ndim not in dimensions:
            what = "one number a row" if dimensions == (1,) else "rows of numbers"
            raise DataError(f"{name}: {key} has shape {values.shape}, expected {what}")
        if len(values) != length:
            raise DataError(f"{name}: {key} has {len(values)} rows, observations has {length}")
        if key in ("terminals", "timeouts", "masks"):
            _check_flags(name, key, values)
    if not length:
        raise DataError(f"{name}: observations has no rows")
    if columns["actions"].ndim == 1 and columns["actions"].dtype.kind not in "iu":
        columns["actions"] = columns["actions"][:, None]
    if "next_observations" in columns and columns["next_observations"].shape != columns["observations"].shape:
        shapes = f"{columns['next_observations'].shape}, observations {columns['observations'].shape}"
        raise DataError(f"{name}: next_observations has shape {shapes}")


def _check_flags(name: str, key: str, values: np.ndarray) -> None:
    odd = ~np.isin(values, (0, 1))
    if odd.any():
        row = int(np.argmax(odd))
        raise DataError(f"{name}: {key}, row {row}: {float(values[row]):g} is neither 0 nor 1")


SOURCE = Source(
    name="D4RL",
    looks_like="an HDF5 file with observations, actions, rewards and terminals of all steps",
    recognises=recognises,
    describe=describe,
    read=read,
)
