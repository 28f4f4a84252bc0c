"""The files of one checkpoint: sealed by a manifest when written, verified against it before they are believed."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system import fault_points
from system.errors import CheckpointError
from system.files import sync_folder, write_and_sync

FORMAT_VERSION = 1
MANIFEST, COMPLETE = "manifest.json", "COMPLETE"
MAX_MANIFEST_BYTES = 1 << 20

_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+\.(safetensors|json)")


def write_files(folder: Path, files: Mapping[str, bytes], versions: Mapping[str, str]) -> None:
    """Writes files and the manifest that names them, all of them fsynced.

    Args:
        folder: empty.
        files: name → content.
        versions: of the packages that made them.
    """
    entries: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        write_and_sync(folder / name, data)
        entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        fault_points.reach("checkpoint.mid_write")
    manifest = {"format": FORMAT_VERSION, "versions": dict(versions), "files": entries}
    write_and_sync(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    sync_folder(folder)


def mark_complete(folder: Path) -> None:
    """Writes COMPLETE, from which on the files count."""
    write_and_sync(folder / COMPLETE, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest().encode())
    sync_folder(folder)


def read_files(folder: Path) -> dict[str, bytes]:
    """Reads what the manifest names, and nothing else.

    Raises:
        CheckpointError: a file is missing, truncated, corrupt or unexpected; names it.
    """
    manifest = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
    seal = _read(folder / COMPLETE, MAX_MANIFEST_BYTES)
    if seal != hashlib.sha256(manifest).hexdigest().encode():
        raise CheckpointError(f"{folder / MANIFEST}: corrupt (sha256 differs from the one in {COMPLETE})")
    entries = _entries(folder / MANIFEST, manifest)
    return {name: _verified(folder / name, *entry) for name, entry in entries.items()}


def parse_object(path: Path, data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: it is not one; names the file.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def _entries(path: Path, data: bytes) -> dict[str, tuple[int, str]]:
    """File name → size and sha256, of a manifest that anyone may have written."""
    manifest = parse_object(path, data)
    if manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format {manifest.get('format')!r}, expected {FORMAT_VERSION}")
    try:
        files = manifest["files"].items()
        entries = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not describe its files ({type(error).__name__})") from None
    for name in entries:
        # A name with a separator would lead out of the folder.
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise CheckpointError(f"{path}: unexpected file {name[:100]!r}")
    return entries


def _verified(path: Path, size: int, sha256: str) -> bytes:
    data = _read(path, size)
    if len(data) != size:
        raise CheckpointError(f"{path}: truncated ({len(data)} of {size} bytes)")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{path}: corrupt (sha256 differs)")
    return data


def _read(path: Path, max_bytes: int) -> bytes:
    """A regular file's content; size and kind are looked at first, so that no pipe or giant is waited for."""
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: not a file")
        if path.stat().st_size > max_bytes:
            raise CheckpointError(f"{path}: corrupt ({path.stat().st_size} bytes, more than {max_bytes})")
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
