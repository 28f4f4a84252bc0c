"""A run directory: one run's configuration, checkpoints, replay and results, owned by one process at a time."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.config import CollectConfig, RunConfig, SweepConfig
from system.config.loading import dump_yaml, first_difference, flatten, load_config, to_dict
from system.errors import ConfigError, RunDirectoryInUse
from system.files import make_folder, write_durably, write_json
from system.runs.checkpoint import FOLDER, FoundCheckpoint, checkpoint_names, newest_valid
from system.runs.progress import STAGES, Stage

CONFIG, SUMMARY, PROCESSES, LOCK = "config.yaml", "summary.json", "processes.json", "lock"
WORKERS = ("learners", "rollout_workers", "evaluators", "placement")
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set in the environment of a command that `ray job submit` has started."""


_KINDS = {RunConfig: "run", CollectConfig: "collection", SweepConfig: "sweep"}


def is_submitted_job() -> bool:
    """Whether this process was started by `ray job submit`, in a copy of the submitter's working directory."""
    return bool(os.environ.get(SUBMITTED))


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run and the few files in it that are not checkpoints or logs.

    Attributes:
        path: of the directory.
    """

    path: Path

    @classmethod
    @contextmanager
    def claim(
        cls, path: Path, config: RunConfig | CollectConfig | SweepConfig, *, restart: bool
    ) -> Iterator["RunDirectory"]:
        """Owns the directory until the context ends.

        Args:
            path: created if it is not there.
            config: resolved; must be the one the directory was made with.
            restart: move what is there aside and begin anew.

        Raises:
            RunDirectoryInUse: another process owns it.
            ConfigError: it cannot be used, or was made with another configuration; names the first key that
                differs. Workers may be others than before, unless the run is deterministic.
        """
        if is_submitted_job() and not path.is_absolute():
            raise ConfigError(
                f"--run-dir: {path} is relative, and a submitted job's working directory is a copy that is thrown "
                "away; give an absolute path on storage that every node sees"
            )
        directory = cls(path)
        with ExitStack() as locks:
            locks.enter_context(_locked(path))
            if restart and directory._holds_a_run():
                _move_aside(path)
                # The old lock is kept until the new one is held, so that no third process slips in between.
                locks.enter_context(_locked(path))
            directory._check_config(config)
            yield directory

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
        stage = summary.get("next_stage") if isinstance(summary, dict) else None
        return summary if stage in STAGES and STAGES.index(stage) >= STAGES.index(until) else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json."""
        write_json(self.path / SUMMARY, dict(summary))

    def write_processes(self, processes: Mapping[str, int]) -> None:
        """Writes processes.json: role → process id."""
        write_json(self.path / PROCESSES, dict(processes))

    def _holds_a_run(self) -> bool:
        return (self.path / CONFIG).exists() or bool(checkpoint_names(self.checkpoints))

    def _check_config(self, config: RunConfig | CollectConfig | SweepConfig) -> None:
        file = self.path / CONFIG
        if not file.exists():
            if checkpoint_names(self.checkpoints):
                raise ConfigError(
                    f"{file}: missing, so its checkpoints are of an unknown run; --restart moves them aside"
                )
            write_durably(file, dump_yaml(config).encode())
            return
        if {each.name for each in self.path.iterdir()} <= {CONFIG, LOCK}:
            # A request that was refused left it: nothing was done by it.
            write_durably(file, dump_yaml(config).encode())
            return
        try:
            before = load_config(type(config), str(file), (), presets=self.path)
        except ConfigError as error:
            raise ConfigError(
                f"{file}: not the configuration of a {_KINDS[type(config)]} ({error}); another --run-dir, or "
                "--restart, which moves the old one aside"
            ) from None
        key = first_difference(_of_the_result(before), _of_the_result(config))
        if key is not None:
            was, now = flatten(to_dict(before)).get(key), flatten(to_dict(config)).get(key)
            raise ConfigError(
                f"{key}: {self.path} was made with {was!r}, now {now!r} is asked for; "
                "another --run-dir leaves that run alone, --restart moves it aside"
            )
        if before != config and self.finished("done") is None:
            write_durably(file, dump_yaml(config).encode())


def _of_the_result(config: RunConfig | CollectConfig | SweepConfig) -> dict[str, Any]:
    """What a run must go on with: all but who works on it, and where, unless that decides its very bits."""
    values = to_dict(config)
    if isinstance(config, RunConfig) and not config.deterministic:
        return {key: value for key, value in values.items() if key not in WORKERS}
    return values


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock of a directory, which is created if need be; the system frees it when its holder dies."""
    try:
        make_folder(path)
        # A link in the lock's place could have us overwrite any file.
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be used as a run directory ({error.strerror})") from None
    try:
        _acquire(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 200, 0).decode(errors="replace")
        holder = "".join(filter(str.isprintable, text)).strip() or "another process"
        raise RunDirectoryInUse(f"{path}: locked by {holder}") from None
    except OSError as error:
        raise ConfigError(f"{path}: its file system cannot lock files ({error.strerror})") from None
    if not _is_at(descriptor, path / LOCK):
        # What was opened has been moved aside since, by a --restart: this lock guards the old directory.
        raise RunDirectoryInUse(f"{path}: being restarted by another process")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _move_aside(path: Path) -> None:
    """Renames a directory to `<name>.<n>`, the first n that is free; a link to it keeps pointing to a new one."""
    target = path.resolve()
    if Path.cwd().is_relative_to(target):
        raise ConfigError(f"{path}: cannot be moved aside from within; change to another folder first")
    number = 1
    while (aside := target.with_name(f"{target.name}.{number}")).exists():
        number += 1
    try:
        os.rename(target, aside)
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be moved aside ({error.strerror})") from None
