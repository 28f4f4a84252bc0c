"""A disk that loses power: what would be left of a folder, seen from the calls of `os.fsync` alone.

A file keeps the bytes that it had when it was last synced, a folder the names that it had. Whatever was written,
created or renamed since is gone, or, in the other reading that a file system is free to choose, the names are
there and the bytes are not.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

Check = Callable[[], None]


class RecordingDisk:
    """Stands in front of `os.fsync` and remembers what each call made durable.

    Args:
        root: what is looked at; as it is now, it is durable.
        monkeypatch: undoes it.

    Attributes:
        after_sync: called after every sync of something below `root`; a test's own check.
        num_syncs: how many there were.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.after_sync: Check | None = None
        self.num_syncs = 0
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, int]] = {}
        self._kept: list[int] = []
        self._sync = os.fsync
        for folder in [root, *(each for each in root.rglob("*") if each.is_dir())]:
            self._note(os.open(folder, os.O_RDONLY))
        for file in (each for each in root.rglob("*") if each.is_file()):
            self._note(os.open(file, os.O_RDONLY))
        monkeypatch.setattr(os, "fsync", self._fsync)

    def left(self, target: Path, *, names_first: bool = False) -> Path:
        """Writes what a loss of power would leave into a new folder.

        Args:
            target: made here.
            names_first: names that were not synced are there all the same, without the bytes behind them.
        """
        self._restore(os.stat(self.root).st_ino, self.root, target, names_first)
        return target

    def close(self) -> None:
        """Lets go of the files that were kept open, so that no number of an inode is used twice."""
        for descriptor in self._kept:
            os.close(descriptor)

    def _fsync(self, descriptor: int) -> None:
        self._sync(descriptor)
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if place.is_relative_to(self.root):
            self._note(os.dup(descriptor))
            self.num_syncs += 1
            if self.after_sync is not None:
                self.after_sync()

    def _note(self, descriptor: int) -> None:
        self._kept.append(descriptor)
        status = os.fstat(descriptor)
        place = Path(f"/proc/self/fd/{descriptor}")
        if stat.S_ISDIR(status.st_mode):
            self._folders[status.st_ino] = {each.name: each.inode() for each in os.scandir(place)}
        else:
            self._files[status.st_ino] = place.read_bytes()

    def _restore(self, inode: int, now: Path | None, target: Path, names_first: bool) -> None:
        target.mkdir()
        names = dict(self._folders.get(inode, {}))
        current = {each.name: each for each in os.scandir(now)} if now is not None and now.is_dir() else {}
        if names_first:
            names |= {name: each.inode() for name, each in current.items()}
        for name, number in names.items():
            there = current.get(name)
            same = there is not None and there.inode() == number
            if number in self._folders or (same and there is not None and there.is_dir()):
                self._restore(number, now / name if same and now is not None else None, target / name, names_first)
            else:
                (target / name).write_bytes(self._files.get(number, b""))
