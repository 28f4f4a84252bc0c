"""Files that appear whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_durably(path: Path, data: bytes) -> None:
    """Writes aside, fsyncs, renames, and fsyncs the folder."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_and_sync(aside, data)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_and_sync(path: Path, data: bytes) -> None:
    """Writes a file in place and fsyncs it; a crash leaves a part of it."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON document durably; numbers that JSON does not know become null."""
    write_durably(path, (json.dumps(_finite(value), indent=1, allow_nan=False) + "\n").encode())


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it that are missing, each of them durable in the one that holds it."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(exist_ok=True)
        sync_folder(missing.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and new files in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
