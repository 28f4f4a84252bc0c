"""Reads episodes from an HDF5 file of Minari's layout, trusting nothing that the file declares.

HDF5 can reach other files (external links, external storage, virtual datasets) and can claim gigabytes in a
kilobyte. Only hard links to plain numeric datasets with built-in filters are followed, and a size is checked
before it is read.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from system.errors import DataError

FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
LARGEST_TOTAL_BYTES = 4 * 2**30
LARGEST_TOTAL_BYTES_OF_FRAMES = 64 * 2**30
LARGEST_ARRAY_BYTES = 4 * 2**30
LARGEST_COMPRESSION_RATIO = 2000
_EPISODE = re.compile(r"episode_(0|[1-9][0-9]{0,8})")
_BUILT_IN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})


@dataclass(frozen=True)
class RawEpisode:
    """An episode as it lies in the file, unchecked but for safety.

    Attributes:
        number: N of the group episode_N.
        problem: why it could not be read; the arrays are empty then.
    """

    number: int
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    problem: str | None = None


class Hdf5Episodes:
    """Iterates over the episodes of one file, in order of their numbers.

    Args:
        file: the `main_data.hdf5`.
        dataset_id: named in errors.
        largest_total_bytes: of everything declared together.
    """

    def __init__(self, file: Path, dataset_id: str, largest_total_bytes: int = LARGEST_TOTAL_BYTES):
        self.file = file
        self.dataset_id = dataset_id
        self.largest_total_bytes = largest_total_bytes
        self._bytes_left = largest_total_bytes

    def __iter__(self) -> Iterator[RawEpisode]:
        """Yields every episode.

        Raises:
            DataError: the file is no HDF5 file, is damaged, reaches outside itself or declares too much.
        """
        try:
            with h5py.File(self.file, "r") as root:
                for number in self._numbers(root):
                    yield self._read(root, number)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            cause = " ".join(str(error).split())[:200]
            raise DataError(f"dataset {self.dataset_id}: {self.file.name} cannot be read ({cause})") from error

    def _numbers(self, root: h5py.File) -> list[int]:
        matches = [(name, _EPISODE.fullmatch(name)) for name in root]
        unknown = [name for name, match in matches if match is None]
        if unknown:
            shown = ascii(unknown[0])[:60]
            raise DataError(f"dataset {self.dataset_id}: unexpected entry {shown} in {self.file.name}")
        return sorted(int(match[1]) for _, match in matches if match)

    def _read(self, root: h5py.File, number: int) -> RawEpisode:
        name = b"episode_%d" % number
        group = self._open(root.id, name, name)
        arrays = {field: np.zeros(0, dtype=np.float32) for field in FIELDS}
        if not isinstance(group, h5py.h5g.GroupID):
            return RawEpisode(number, **arrays, problem="is not a group")
        problem = None
        for field in FIELDS:
            values = self._read_field(group, field, name)
            if isinstance(values, str):
                problem = problem or values
            else:
                arrays[field] = values
        return RawEpisode(number, **arrays, problem=problem)

    def _read_field(self, group: h5py.h5g.GroupID, field: str, episode: bytes) -> np.ndarray | str:
        """The field's values, or why there are none.

        The low-level interface is used because short episodes spend all their time in opening arrays.
        """
        key = field.encode()
        if not group.links.exists(key):
            return f"has no {field}"
        place = episode + b"/" + key
        dataset = self._open(group, key, place)
        if not isinstance(dataset, h5py.h5d.DatasetID):
            return f"{field} is a group, not an array"
        dtype = dataset.dtype
        if dtype.kind not in "fiub":
            return f"{field} has type {dtype!s:.40}, expected numbers"
        if dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            return f"{field} is empty"
        self._check_storage(dataset, dtype, place)
        values = np.empty(dataset.shape, dtype=dtype)
        if values.size:
            dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        return values

    def _open(self, parent: h5py.h5g.GroupID, name: bytes, place: bytes) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
        if parent.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise DataError(f"dataset {self.dataset_id}: {place.decode()} is a link, which is refused")
        return h5py.h5o.open(parent, name)

    def _check_storage(self, dataset: h5py.h5d.DatasetID, dtype: np.dtype, place: bytes) -> None:
        where = f"dataset {self.dataset_id}: {place.decode()}"
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
