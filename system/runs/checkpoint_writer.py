"""Writes checkpoints beside the training, one at a time."""

import logging
from collections.abc import Set
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from system.runs.checkpoint import CheckpointContent, prune, save_checkpoint

_LOG = logging.getLogger(__name__)


class CheckpointWriter:
    """A thread that writes checkpoints in the order they are asked for.

    Args:
        folder: of the run's checkpoints.
        synchronous: write in the calling thread, so that nothing happens between two steps unseen.
    """

    def __init__(self, folder: Path, *, synchronous: bool) -> None:
        self.folder = folder
        self.synchronous = synchronous
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def write(self, name: str, content: CheckpointContent, *, keep: int, protect: Set[str]) -> None:
        """Starts a save; waits for the one before it.

        Args:
            name: sorts after earlier names.
            content: its tensors must not change any more: pass copies.
            keep, protect: which older ones stay.
        """
        self.flush()
        self._pending = self._executor.submit(self._write, name, content, keep, frozenset(protect))
        if self.synchronous:
            self.flush()

    def flush(self) -> None:
        """Waits until everything asked for is on disk."""
        # Forgotten first: a failure is raised once, and not again by every save after it.
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits, and ends the thread."""
        try:
            self.flush()
        finally:
            self._executor.shutdown()

    def _write(self, name: str, content: CheckpointContent, keep: int, protect: frozenset[str]) -> None:
        try:
            save_checkpoint(self.folder, name, content)
        except OSError as error:
            # The older checkpoints are untouched and training goes on; the next save tries again.
            _LOG.warning("checkpoint %s could not be written: %s", name, error)
            return
        prune(self.folder, keep, protect)
