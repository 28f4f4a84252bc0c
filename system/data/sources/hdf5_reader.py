"""Reads numbers from HDF5 files, and episodes from one of Minari's layout, trusting nothing that a file declares.

HDF5 can reach other files (external links, external storage, virtual datasets) and can claim gigabytes in a
kilobyte. Only hard links to plain numeric datasets with built-in filters are followed, and a size is checked
before it is read.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from system.data.raw_episode import RawEpisode, unreadable
from system.data.sources.minari_layout import ObservationPart
from system.errors import DataError

FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
LARGEST_TOTAL_BYTES = 4 * 2**30
LARGEST_TOTAL_BYTES_OF_FRAMES = 64 * 2**30
LARGEST_ARRAY_BYTES = 4 * 2**30
LARGEST_COMPRESSION_RATIO = 2000
_EPISODE = re.compile(r"episode_(0|[1-9][0-9]{0,8})")
_BUILT_IN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})


class CheckedHdf5:
    """One HDF5 file, from which nothing is read before it has been checked.

    Args:
        file: to read.
        name: of the dataset, with which errors begin.
        largest_total_bytes: of everything declared together.
    """

    def __init__(self, file: Path, name: str, largest_total_bytes: int = LARGEST_TOTAL_BYTES) -> None:
        self.file = file
        self.name = name
        self.largest_total_bytes = largest_total_bytes
        self._bytes_left = largest_total_bytes

    @contextmanager
    def opened(self) -> Iterator[h5py.h5g.GroupID]:
        """The root group.

        Raises:
            DataError: the file is no HDF5 file, is damaged, reaches outside itself or declares too much; also of
                what is done while it is open.
        """
        try:
            with h5py.File(self.file, "r") as root:
                yield root.id
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            cause = " ".join(str(error).split())[:200]
            raise DataError(f"{self.name}: {self.file.name} cannot be read ({cause})") from error

    def open(self, parent: h5py.h5g.GroupID, name: bytes, place: bytes) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
        """A group or array that a hard link leads to.

        Args:
            parent: a group of the file.
            name: within it.
            place: path for messages.
        """
        if parent.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise DataError(f"{self.name}: {place.decode()} is a link, which is refused")
        return h5py.h5o.open(parent, name)

    def array(self, group: h5py.h5g.GroupID, key: str, place: str = "") -> np.ndarray | str:
        """The numbers of an array, or why there are none.

        The low-level interface is used because short episodes spend all their time in opening arrays.

        Args:
            group: that holds it.
            key: its name.
            place: of the group, for messages.
        """
        dataset = self._dataset(group, key, place)
        if isinstance(dataset, str):
            return dataset
        values = np.empty(dataset.shape, dtype=dataset.dtype)
        if values.size:
            dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        return values

    def shape(self, group: h5py.h5g.GroupID, key: str, place: str = "") -> tuple[tuple[int, ...], np.dtype] | str:
        """The shape and type of an array, or why there is none; as `array`."""
        dataset = self._dataset(group, key, place)
        return dataset if isinstance(dataset, str) else (dataset.shape, dataset.dtype)

    def _dataset(self, group: h5py.h5g.GroupID, key: str, place: str) -> h5py.h5d.DatasetID | str:
        name = key.encode()
        if not group.links.exists(name):
            return f"has no {key}"
        path = f"{place}/{key}".lstrip("/").encode()
        dataset = self.open(group, name, path)
        if not isinstance(dataset, h5py.h5d.DatasetID):
            return f"{key} is a group, not an array"
        dtype = dataset.dtype
        if dtype.kind not in "fiub":
            return f"{key} has type {dtype!s:.40}, expected numbers"
        if dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            return f"{key} is empty"
        self._check_storage(dataset, dtype, path)
        return dataset

    def _check_storage(self, dataset: h5py.h5d.DatasetID, dtype: np.dtype, place: bytes) -> None:
        where = f"{self.name}: {place.decode()}"
        properties = dataset.get_create_plist()
        if properties.get_external_count() or properties.get_layout() == h5py.h5d.VIRTUAL:
            raise DataError(f"{where} is stored in another file, which is refused")
        filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
        if not filters <= _BUILT_IN_FILTERS:
            raise DataError(f"{where} uses a filter plug-in, which is refused")
        declared = math.prod(dataset.shape) * dtype.itemsize
        if declared > LARGEST_COMPRESSION_RATIO * dataset.get_storage_size():
            raise DataError(f"{where} declares {declared} bytes but stores far less")
        if declared > LARGEST_ARRAY_BYTES:
            raise DataError(f"{where} declares {declared} bytes, more than the {LARGEST_ARRAY_BYTES} of one array")
        self._bytes_left -= declared
        if self._bytes_left < 0:
            raise DataError(f"{where} exceeds the {self.largest_total_bytes} bytes that a dataset may declare")


class Hdf5Episodes:
    """Iterates over the episodes of one file, in order of their numbers.

    Args:
        file: the `main_data.hdf5`.
        dataset_id: named in errors.
        largest_total_bytes: of everything declared together.
        parts: what observations are stored in.
    """

    def __init__(
        self,
        file: Path,
        dataset_id: str,
        largest_total_bytes: int = LARGEST_TOTAL_BYTES,
        parts: tuple[ObservationPart, ...] = (ObservationPart((), 0),),
    ):
        self.file = file
        self.dataset_id = dataset_id
        self.parts = parts
        self._checked = CheckedHdf5(file, f"dataset {dataset_id}", largest_total_bytes)

    def __iter__(self) -> Iterator[RawEpisode]:
        """Yields every episode.

        Raises:
            DataError: the file is no HDF5 file, is damaged, reaches outside itself or declares too much.
        """
        with self._checked.opened() as root:
            for number in self._numbers(root):
                yield self._read(root, number)

    def _numbers(self, root: h5py.h5g.GroupID) -> list[int]:
        matches = [(name, _EPISODE.fullmatch(name)) for name in h5py.Group(root)]
        unknown = [name for name, match in matches if match is None]
        if unknown:
            shown = ascii(unknown[0])[:60]
            raise DataError(f"dataset {self.dataset_id}: unexpected entry {shown} in {self.file.name}")
        return sorted(int(match[1]) for _, match in matches if match)

    def _read(self, root: h5py.h5g.GroupID, number: int) -> RawEpisode:
        name = f"episode_{number}"
        group = self._checked.open(root, name.encode(), name.encode())
        if not isinstance(group, h5py.h5g.GroupID):
            return unreadable(number, "is not a group")
        arrays = []
        for field in FIELDS:
            if field == "observations" and (len(self.parts) != 1 or self.parts[0].path or self.parts[0].choices):
                values = self._flat_observations(group, name)
            else:
                values = self._checked.array(group, field, name)
            if isinstance(values, str):
                return unreadable(number, values)
            arrays.append(values)
        observations, actions, rewards, terminations, truncations = arrays
        return RawEpisode(number, observations, actions, rewards, terminations, truncations)

    def _flat_observations(self, episode: h5py.h5g.GroupID, name: str) -> np.ndarray | str:
        """The parts side by side, numbered values one-hot; or why there are none."""
        columns: list[np.ndarray] = []
        for part in self.parts:
            group, place = episode, name
            for step in ("observations", *part.path)[:-1]:
                if not group.links.exists(step.encode()):
                    return f"has no {step}"
                place = f"{place}/{step}"
                group = self._checked.open(group, step.encode(), place.encode())
                if not isinstance(group, h5py.h5g.GroupID):
                    return f"{step} is no group"
            values = self._checked.array(group, ("observations", *part.path)[-1], place)
            if isinstance(values, str):
                return values
            flat = _one_hot(values, part) if part.choices else values.reshape(len(values), -1)
            if isinstance(flat, str) or flat.shape[1] != part.dim:
                shown = ".".join(part.path) or "observations"
                problem = flat if isinstance(flat, str) else f"has {flat.shape[1]} numbers a step, not {part.dim}"
                return f"{shown} {problem}"
            columns.append(flat.astype(np.float32))
        if len({len(column) for column in columns}) > 1:
            return "the parts of its observations have different numbers of steps"
        return np.concatenate(columns, axis=1)


def _one_hot(values: np.ndarray, part: ObservationPart) -> np.ndarray | str:
    """A column of zeros and a one for each choice, as Gymnasium flattens numbered values."""
    rows = values.reshape(len(values), -1)
    if rows.dtype.kind not in "iu" or rows.shape[1] != len(part.choices):
        return f"has type {values.dtype} and shape {values.shape}, expected {len(part.choices)} numbered values"
    columns = []
    for index, (count, start) in enumerate(part.choices):
        chosen = rows[:, index].astype(np.int64) - start
        if ((chosen < 0) | (chosen >= count)).any():
            step = int(np.argmax((chosen < 0) | (chosen >= count)))
            return f"step {step}: {int(rows[step, index])} is none of {count} values from {start}"
        columns.append(np.eye(count, dtype=np.float32)[chosen])
    return np.concatenate(columns, axis=1)
