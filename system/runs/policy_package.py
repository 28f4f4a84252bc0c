"""An exported policy: a sealed folder that torch and NumPy are enough to act with.

    weights.safetensors   the agent's weights; what standardises its inputs is among them
    configuration.json    of the run that it comes from
    task.json             spaces and bounds, and which policy it was exported for
    example.npz           observations of an episode's beginning, and what is done at each
    README.md             what it is, what it learnt from, what it reached, how to load it
    one_pass.pt2          where it was asked for: the policy as a program of torch alone
    manifest.json         format, versions, and size and sha256 of the first three
    COMPLETE              sha256 of the manifest

It is written aside and renamed. Only safetensors and JSON are read when it is loaded.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from system.errors import CheckpointError, ConfigError
from system.files import sync_folder, write_and_sync
from system.runs.checkpoint import package_versions
from system.safetensors_reader import read_safetensors
from system.sealed_folder import mark_complete, parse_object, read_files, write_files

WEIGHTS, CONFIGURATION, TASK = "weights.safetensors", "configuration.json", "task.json"
EXAMPLE, CARD, PROGRAM = "example.npz", "README.md", "one_pass.pt2"


@dataclass(frozen=True)
class PolicyPackage:
    """What a package holds of the agent.

    Attributes:
        weights: of the agent, by name.
        config: of its run, as `to_dict` gives it.
        task: `tasks`, `policy` and `stage`, and what a person wants to know of the spaces.
    """

    weights: dict[str, torch.Tensor]
    config: dict[str, Any]
    task: dict[str, Any]


def is_package(path: Path) -> bool:
    """Whether this folder is an exported policy, sound or not."""
    return (path / TASK).is_file() and (path / CONFIGURATION).is_file()


def read_package(path: Path) -> PolicyPackage:
    """Reads and verifies a package.

    Raises:
        CheckpointError: a file is missing, damaged or not what it should be; names it.
    """
    files = read_files(path)
    for name in (WEIGHTS, CONFIGURATION, TASK):
        if name not in files:
            raise CheckpointError(f"{path / name}: missing")
    return PolicyPackage(
        weights=read_safetensors(files[WEIGHTS], str(path / WEIGHTS)),
        config=parse_object(path / CONFIGURATION, files[CONFIGURATION]),
        task=parse_object(path / TASK, files[TASK]),
    )


def check_free(folder: Path) -> None:
    """That a package can be written there.

    Raises:
        ConfigError: the folder holds something already, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise ConfigError(f"{folder}: {what}; a policy is exported to a new folder")


def write_package(folder: Path, package: PolicyPackage, others: Mapping[str, bytes]) -> None:
    """Writes a package that appears whole or not at all.

    Args:
        folder: a new one, or empty.
        package: what is sealed.
        others: name → content of the files beside it, which nothing depends on.

    Raises:
        ConfigError: the folder holds something already, or cannot be written; what was begun is deleted.
    """
    from safetensors.torch import save

    check_free(folder)
    weights = {name: value.detach().cpu().contiguous() for name, value in package.weights.items()}
    sealed = {
        WEIGHTS: save(weights),
        CONFIGURATION: _encode(package.config),
        TASK: _encode(package.task),
    }
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        for name, data in others.items():
            write_and_sync(aside / name, data)
        write_files(aside, sealed, package_versions("torch", "numpy"))
        mark_complete(aside)
        os.rename(aside, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _encode(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
