"""A run directory: one run's configuration, checkpoints, replay and results, owned by one process at a time."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.config import CollectConfig, RunConfig
from system.config_io import dump_yaml, first_difference, flatten, load_config, to_dict
from system.errors import ConfigError, RunDirectoryInUse
from system.training.checkpoint import FOLDER, FoundCheckpoint, newest_valid
from system.training.files import write_durably, write_json
from system.training.progress import STAGES, Stage

CONFIG, SUMMARY, PROCESSES, LOCK = "config.yaml", "summary.json", "processes.json", "lock"


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run and the few files in it that are not checkpoints or logs.

    Attributes:
        path: of the directory.
    """

    path: Path

    @classmethod
    @contextmanager
    def claim(cls, path: Path, config: RunConfig | CollectConfig, *, restart: bool) -> Iterator["RunDirectory"]:
        """Owns the directory until the context ends.

        Args:
            path: created if it is not there.
            config: resolved; must be the one the directory was made with.
            restart: move what is there aside and begin anew.

        Raises:
            RunDirectoryInUse: another process owns it.
            ConfigError: it was made with another configuration; names the first key that differs.
        """
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        try:
            if restart and (path / CONFIG).exists():
                os.rename(path, _aside(path))
                os.close(lock)
                path.mkdir(parents=True)
                lock = _lock(path)
            directory = cls(path)
            directory._check_config(config)
            yield directory
        finally:
            os.close(lock)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / FOLDER

    @property
    def replay(self) -> Path:
        """Folder of the online episodes' log."""
        return self.path / "replay"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.path / "figures"

    def newest_checkpoint(self) -> FoundCheckpoint | None:
        """The newest valid checkpoint; None in a new directory.

        Raises:
            CheckpointError: there are checkpoints, and none is valid.
        """
        return newest_valid(self.checkpoints)

    def finished(self, until: Stage) -> dict[str, Any] | None:
        """The summary, if the run has been worked through up to `until`."""
        try:
            summary: dict[str, Any] = json.loads((self.path / SUMMARY).read_text())
        except (OSError, ValueError):
            return None
        reached = STAGES.index(summary.get("next_stage", "offline"))
        return summary if reached >= STAGES.index(until) else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json."""
        write_json(self.path / SUMMARY, dict(summary))

    def write_processes(self, processes: Mapping[str, int]) -> None:
        """Writes processes.json: role → process id."""
        write_json(self.path / PROCESSES, dict(processes))

    def _check_config(self, config: RunConfig | CollectConfig) -> None:
        file = self.path / CONFIG
        if not file.exists():
            write_durably(file, dump_yaml(config).encode())
            return
        before = load_config(type(config), str(file), (), presets=self.path)
        key = first_difference(before, config)
        if key is not None:
            was, now = flatten(to_dict(before)).get(key), flatten(to_dict(config)).get(key)
            raise ConfigError(
                f"{key}: {self.path} was made with {was!r}, now {now!r} is asked for; --restart moves the old run aside"
            )


def _lock(path: Path) -> int:
    """An exclusive lock that the operating system frees when its holder dies."""
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise RunDirectoryInUse(f"{path}: locked by {holder}") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return descriptor


def _aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return aside
