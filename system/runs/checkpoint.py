"""Checkpoints: one folder per save, verified before anything in it is believed.

    000012-online/
      learner.safetensors    weights, optimiser moments, dual variables
      progress.json …        counters, faults, configuration, tracking ids
      manifest.json          format, versions, and size and sha256 of every file above
      COMPLETE               sha256 of the manifest; written last

A save is written aside, fsynced, renamed and only then marked COMPLETE; the file `latest` names the newest one.
Only safetensors and JSON are read: nothing in a checkpoint can execute code.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from system import fault_points
from system.errors import CheckpointError
from system.files import make_folder, sync_folder, write_durably
from system.sealed_folder import COMPLETE, mark_complete, parse_object, read_files, write_files

LATEST, FOLDER = "latest", "checkpoints"

_NAME = re.compile(r"\d+-\w+", re.ASCII)
_MAX_NAME_BYTES = 255


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
        name: `<number>-<stage>`; sorts after the names of earlier ones.
        content: what to save.

    Raises:
        OSError: the disk is full or broken; what was begun is deleted, and the older checkpoints are untouched.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a checkpoint's name, such as 000012-online")
    make_folder(folder)
    aside, path = folder / f".{name}", folder / name
    for leftover in (aside, path):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        aside.mkdir()
        write_files(aside, _encode(content), package_versions("torch", "safetensors"))
        os.rename(aside, path)
        sync_folder(folder)
        fault_points.reach("checkpoint.before_complete")
        mark_complete(path)
    except OSError:
        # A full disk is not to be kept full by what it cut off.
        for leftover in (aside, path):
            shutil.rmtree(leftover, ignore_errors=True)
        raise
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
    try:
        if path.is_file():
            raise CheckpointError(
                f"{path}: a checkpoint is a folder; single files, pickled ones above all, are never loaded"
            )
        if not path.is_dir():
            raise CheckpointError(f"{path}: no such checkpoint")
    except OSError as error:
        raise CheckpointError(f"{str(path)[:200]}: cannot be read ({error.strerror})") from None
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    content = CheckpointContent(tensors={}, documents={})
    for name, data in read_files(path).items():
        if name.endswith(".json"):
            content.documents[Path(name).stem] = parse_object(path / name, data)
            continue
        try:
            content.tensors[Path(name).stem] = load_tensors(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path / name}: not safetensors ({error})") from None
    return content


def checkpoint_names(folder: Path) -> list[str]:
    """Names of all checkpoints, oldest first; those being written, and what is not ours, are left out."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def newest_valid(folder: Path) -> FoundCheckpoint | None:
    """The newest checkpoint that is sound, or None where there are none at all.

    Raises:
        CheckpointError: there are checkpoints, and none of them is valid.
    """
    skipped: list[str] = []
    latest = _latest(folder)
    for name in sorted({*checkpoint_names(folder), *latest}, reverse=True):
        try:
            return FoundCheckpoint(folder / name, load_checkpoint(folder / name), skipped)
        except CheckpointError as error:
            # A save that was cut off before COMPLETE is no damage: it never counted. One that `latest` names did.
            if name in latest or (folder / name / COMPLETE).exists():
                skipped.append(str(error))
    if skipped:
        raise CheckpointError(f"{folder}: no valid checkpoint is left; the newest: {skipped[0]}")
    return None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint a user means: its own folder, or a run directory's newest one.

    Raises:
        CheckpointError: there is none.
    """
    try:
        if not (path / FOLDER).is_dir():
            if (path / "config.yaml").is_file():
                raise CheckpointError(f"{path}: no checkpoint yet")
            return path
        names = [name for name in checkpoint_names(path / FOLDER) if (path / FOLDER / name / COMPLETE).exists()]
    except OSError as error:
        raise CheckpointError(f"{str(path)[:200]}: cannot be read ({error.strerror})") from None
    if not names:
        raise CheckpointError(f"{path / FOLDER}: no checkpoint yet")
    return path / FOLDER / names[-1]


def prune(folder: Path, keep: int, protect: Iterable[str]) -> None:
    """Deletes old checkpoints, and what cut-off saves left behind.

    Args:
        folder: of all checkpoints; nothing is being written to it.
        keep: how many of the newest complete ones stay, besides the one that `latest` names: after damage that
            one may be older than the damaged ones.
        protect: names that stay in any case.
    """
    names = checkpoint_names(folder)
    complete = [name for name in names if (folder / name / COMPLETE).exists()]
    staying = {*complete[-keep:], *_latest(folder), *protect}
    for name in names[:-1]:
        if name not in staying:
            shutil.rmtree(folder / name, ignore_errors=True)
    for aside in folder.glob(".[0-9]*-*"):
        shutil.rmtree(aside, ignore_errors=True)


def package_versions(*names: str) -> dict[str, str]:
    """Installed versions of some distributions; `absent` for one that is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def _encode(content: CheckpointContent) -> dict[str, bytes]:
    """File name → bytes."""
    from safetensors.torch import save as save_tensors

    tensors = {
        f"{component}.safetensors": save_tensors(
            {name: value.detach().cpu().contiguous() for name, value in state.items()}
        )
        for component, state in content.tensors.items()
    }
    return tensors | {f"{name}.json": json.dumps(value).encode() for name, value in content.documents.items()}


def _latest(folder: Path) -> set[str]:
    """The name in `latest`; empty where there is none that can be believed."""
    try:
        with (folder / LATEST).open("rb") as stream:
            name = stream.read(_MAX_NAME_BYTES).decode("ascii")
    except (OSError, ValueError):
        return set()
    return {name} if _NAME.fullmatch(name) else set()
