"""Reads OGBench's .npz files: rows of all trajectories one after the other.

- `terminals` mark the last row of a trajectory. It is no termination of the task: the row holds what was seen
  last, and an action that was not taken.
- A file without `rewards` is of reaching goals; its rewards are zero here, and the file's notes say so.
- Where there are `rewards` and `masks` (single tasks), a mask of zero is a termination, and what follows in the
  trajectory is an episode of its own.
- `qpos`, `qvel` and whatever else is in the file is not read.

Nothing is unpickled, and no more is read than a file of that size can hold.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from system.data.raw_episode import Origin, RawEpisode, episode_of_rows
from system.data.sources.d4rl import check_columns
from system.data.sources.hdf5_reader import LARGEST_TOTAL_BYTES
from system.data.sources.minari_layout import BoxBounds, DiscreteSpace
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.errors import DataError
from system.types import TaskSpec

KEYS = ("observations", "actions", "terminals")
OPTIONAL_KEYS = ("rewards", "masks")


def recognises(path: Path) -> bool:
    """An archive with the member `observations.npy`, or a file that is named as one."""
    if not path.is_file():
        return False
    if not zipfile.is_zipfile(path):
        return path.suffix == ".npz"
    try:
        with zipfile.ZipFile(path) as archive:
            return "observations.npy" in archive.namelist() or path.suffix == ".npz"
    except (zipfile.BadZipFile, OSError):
        return path.suffix == ".npz"


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """Dimensions; neither bounds nor environment, which the layout doesn't have."""
    columns = _read(path)
    actions = columns["actions"]
    discrete = actions.ndim == 1
    count = int(actions.max()) + 1 if discrete else 0
    goals = "no rewards: the data are of reaching goals, and every reward is 0 here"
    return SourceFacts(
        observation_space=BoxBounds(columns["observations"].shape[1], None, None),
        action_space=DiscreteSpace(count, is_least=True) if discrete else BoxBounds(actions.shape[1], None, None),
        has_scores="rewards" in columns,
        notes=() if "rewards" in columns else (goals,),
    )


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """The episodes, in the order of the rows."""
    columns = _read(path)
    length = len(columns["terminals"])
    rewards = columns.get("rewards", np.zeros(length, dtype=np.float32))
    last_rows = columns["terminals"] != 0
    reached = columns["masks"] == 0 if "masks" in columns else np.zeros(length, dtype=bool)
    reached = reached & ~last_rows
    borders = [0, *(np.flatnonzero(last_rows | reached) + 1).tolist()]
    number = 0
    for start, stop in pairwise(borders if borders[-1] == length else [*borders, length]):
        terminated = bool(reached[stop - 1])
        episode = episode_of_rows(
            number,
            columns["observations"][start:stop],
            columns["actions"][start:stop],
            rewards[start:stop],
            terminated=terminated,
            truncated=bool(last_rows[stop - 1]),
            last_observation=columns["observations"][stop] if terminated and stop < length else None,
            origin=Origin(first=start),
        )
        if episode is not None:
            yield episode
            number += 1


def _read(path: Path) -> dict[str, np.ndarray]:
    name = f"dataset {path}"
    columns: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            for key in (*KEYS, *OPTIONAL_KEYS):
                if f"{key}.npy" in members:
                    columns[key] = _array(name, archive, key)
                elif key in KEYS:
                    raise DataError(f"{name}: has no {key}")
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"{name}: cannot be read ({cause})") from error
    check_columns(name, columns)
    return columns


def _array(name: str, archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """One member of the archive; its header is compared with its size before anything is set aside for it."""
    with archive.open(f"{key}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"{name}: {key} is written in format {version}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = header(stream)
        if dtype.kind not in "fiub":
            raise DataError(f"{name}: {key} has type {dtype!s:.40}, expected numbers")
        size = math.prod(shape) * dtype.itemsize
        if size > min(archive.getinfo(f"{key}.npy").file_size, LARGEST_TOTAL_BYTES):
            raise DataError(f"{name}: {key} declares {size} bytes, more than the file can hold")
        content = stream.read(size)
    if len(content) < size:
        raise DataError(f"{name}: {key} ends before its {shape[0] if shape else 1} rows")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if is_fortran else "C")


SOURCE = Source(
    name="OGBench",
    looks_like="an .npz file with observations, actions and terminals of all steps",
    recognises=recognises,
    describe=describe,
    read=read,
)
