"""Checkpoints: one folder per save, verified before anything in it is believed.

    000012-online/
      learner.safetensors    weights, optimiser moments, dual variables
      progress.json …        counters, faults, configuration, tracking ids
      manifest.json          format, versions, and size and sha256 of every file above
      COMPLETE               sha256 of the manifest; written last

A save is written aside, fsynced, renamed and only then marked COMPLETE; the file `latest` names the newest one.
Only safetensors and JSON are read: nothing in a checkpoint can execute code.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from system import fault_points
from system.errors import CheckpointError
from system.training.files import sync_folder, write_durably

FORMAT_VERSION = 1
MANIFEST, COMPLETE, LATEST = "manifest.json", "COMPLETE", "latest"
FOLDER = "checkpoints"


@dataclass(frozen=True)
class CheckpointContent:
    """What a checkpoint holds.

    Attributes:
        tensors: component → flat state by name.
        documents: name → JSON object.
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    documents: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class FoundCheckpoint:
    """The newest valid checkpoint of a folder.

    Attributes:
        path, content: of it.
        skipped: a line for each newer one that was invalid.
    """

    path: Path
    content: CheckpointContent
    skipped: list[str]


def save_checkpoint(folder: Path, name: str, content: CheckpointContent) -> Path:
    """Writes a checkpoint that appears whole or not at all.

    Args:
        folder: of all checkpoints of a run.
        name: sorts after the names of earlier ones.
        content: what to save.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside, path = folder / f".{name}", folder / name
    for leftover in (aside, path):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    files = {
        f"{component}.safetensors": save_tensors(_contiguous(state))
        for component, state in content.tensors.items()
    }
    files |= {f"{document}.json": json.dumps(value).encode() for document, value in content.documents.items()}
    for file, data in files.items():
        _write(aside / file, data)
        fault_points.reach("checkpoint.mid_write")
    manifest = json.dumps(_manifest(files), indent=1).encode()
    _write(aside / MANIFEST, manifest)
    sync_folder(aside)
    os.rename(aside, path)
    sync_folder(folder)
    fault_points.reach("checkpoint.before_complete")
    _write(path / COMPLETE, hashlib.sha256(manifest).hexdigest().encode())
    sync_folder(path)
    fault_points.reach("checkpoint.after_complete")
    write_durably(folder / LATEST, name.encode())
    return path


def load_checkpoint(path: Path) -> CheckpointContent:
    """Reads and verifies a checkpoint.

    Args:
        path: a checkpoint's folder.

    Raises:
        CheckpointError: it is missing, incomplete, corrupt or not a checkpoint; names the file.
    """
    if path.is_file():
        raise CheckpointError(
            f"{path}: a checkpoint is a folder; single files, pickled ones above all, are never loaded"
        )
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint")
    manifest_data = _read(path / MANIFEST)
    if _read(path / COMPLETE).decode(errors="replace").strip() != hashlib.sha256(manifest_data).hexdigest():
        raise CheckpointError(f"{path / MANIFEST}: corrupt (sha256 differs)")
    manifest = json.loads(manifest_data)
    if manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(f"{path / MANIFEST}: format {manifest.get('format')}, expected {FORMAT_VERSION}")
    files = {name: _verified(path / name, entry) for name, entry in manifest["files"].items()}
    try:
        tensors = {
            Path(name).stem: load_tensors(data) for name, data in files.items() if name.endswith(".safetensors")
        }
        documents = {Path(name).stem: json.loads(data) for name, data in files.items() if name.endswith(".json")}
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: unreadable ({error})") from None
    return CheckpointContent(tensors, documents)


def checkpoint_names(folder: Path) -> list[str]:
    """Names of all checkpoints, oldest first; those being written are left out."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def newest_valid(folder: Path) -> FoundCheckpoint | None:
    """The newest checkpoint that is sound, or None where there are none at all.

    Raises:
        CheckpointError: there are checkpoints, and none of them is valid.
    """
    skipped: list[str] = []
    for name in reversed(checkpoint_names(folder)):
        try:
            return FoundCheckpoint(folder / name, load_checkpoint(folder / name), skipped)
        except CheckpointError as error:
            # A save that was cut off before COMPLETE is no damage: it never counted.
            if (folder / name / COMPLETE).exists():
                skipped.append(str(error))
    if skipped:
        raise CheckpointError(f"{folder}: no valid checkpoint is left; the newest: {skipped[0]}")
    return None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint a user means: its own folder, or a run directory's newest one.

    Raises:
        CheckpointError: there is none.
    """
    if not (path / FOLDER).is_dir():
        return path
    names = [name for name in checkpoint_names(path / FOLDER) if (path / FOLDER / name / COMPLETE).exists()]
    if not names:
        raise CheckpointError(f"{path / FOLDER}: no checkpoint yet")
    return path / FOLDER / names[-1]


def prune(folder: Path, keep: int, protect: Iterable[str]) -> None:
    """Deletes old checkpoints.

    Args:
        folder: of all checkpoints.
        keep: how many of the newest complete ones stay.
        protect: names that stay in any case.
    """
    names = checkpoint_names(folder)
    complete = [name for name in names if (folder / name / COMPLETE).exists()]
    staying = {*complete[-keep:], *protect}
    for name in names[:-1]:
        if name not in staying:
            shutil.rmtree(folder / name, ignore_errors=True)


def _manifest(files: dict[str, bytes]) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "versions": package_versions("torch", "safetensors"),
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
    }


def package_versions(*names: str) -> dict[str, str]:
    """Installed versions of some distributions; `absent` for one that is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def _contiguous(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None


def _verified(path: Path, entry: dict[str, Any]) -> bytes:
    data = _read(path)
    if len(data) != entry["bytes"]:
        raise CheckpointError(f"{path}: truncated ({len(data)} of {entry['bytes']} bytes)")
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path}: corrupt (sha256 differs)")
    return data
