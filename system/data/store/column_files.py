"""A folder of columns, one `.npy` file each, with a manifest of their checksums."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from system.data.store.row_view import Column
from system.errors import DataError

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
CHUNK_BYTES = 2**24


class ColumnWriter:
    """Writes one `.npy` file whose number of rows is known only at the end.

    Args:
        file: must not exist.
        dtype: of the column.
        row_shape: of one row.
    """

    def __init__(self, file: Path, dtype: np.dtype, row_shape: Sequence[int]) -> None:
        self._dtype, self._row_shape, self._rows = dtype, tuple(row_shape), 0
        self._stream = file.open("xb")
        self._header_bytes = self._write_header()

    def append(self, values: Shaped[np.ndarray, "rows *row"]) -> None:
        """Adds rows, converted to the column's dtype."""
        np.ascontiguousarray(values, dtype=self._dtype).tofile(self._stream)
        self._rows += len(values)

    def close(self) -> None:
        """Completes the file."""
        try:
            self._stream.seek(0)
            if self._write_header() != self._header_bytes:
                raise OSError("the header of an .npy file does not leave room for its rows")
        finally:
            self._stream.close()

    def _write_header(self) -> int:
        """NumPy pads the header so that the first axis may grow; returns its length."""
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._stream, header)
        return self._stream.tell()


def write_column(file: Path, column: Column) -> None:
    """Writes a column piece by piece, so that one which does not fit into memory can be copied."""
    writer = ColumnWriter(file, column.dtype, column.shape[1:])
    row_bytes = column.dtype.itemsize * int(np.prod(column.shape[1:]))
    step = max(CHUNK_BYTES // max(row_bytes, 1), 1)
    try:
        for first in range(0, len(column), step):
            writer.append(column[first : first + step])
    finally:
        writer.close()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` if the block succeeds, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield aside
        _replace_folder(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_manifest(folder: Path, names: Sequence[str], values: Mapping[str, Any]) -> None:
    """Describes the columns that lie in a folder.

    Args:
        folder: with a file for every column.
        names: of the columns.
        values: anything else to remember.
    """
    digests = {name: _sha256(folder / f"{name}.npy") for name in names}
    manifest = {"format": FORMAT_VERSION, **values, "sha256": digests}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def is_current(folder: Path) -> bool:
    """Whether a folder of columns is there, and of today's format: what an earlier version kept is made again."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text())["format"] == FORMAT_VERSION)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_columns(folder: Path, names: Sequence[str]) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    """Memory-maps the columns of a folder.

    Args:
        folder: as it was written.
        names: the columns to open.

    Returns:
        The columns and the manifest.

    Raises:
        DataError: the folder holds no such columns, or one is missing or changed.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT_VERSION:
            raise DataError(f"{folder}: format {manifest['format']}, expected {FORMAT_VERSION}")
        float(manifest["discount"])
        digests = dict(manifest["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not an episode store ({type(error).__name__}: {error})") from error
    return {name: _open_column(folder / f"{name}.npy", digests.get(name)) for name in names}, manifest


def _open_column(file: Path, digest: str | None) -> np.ndarray:
    try:
        if _sha256(file) != digest:
            raise DataError(f"{file}: does not match its checksum")
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {error}") from error


def _replace_folder(aside: Path, folder: Path) -> None:
    """Renames `aside` to `folder`; an earlier folder is moved away first, for a rename cannot overwrite it."""
    discarded = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        if folder.exists():
            os.rename(folder, discarded / "old")
        os.rename(aside, folder)
    finally:
        shutil.rmtree(discarded, ignore_errors=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
