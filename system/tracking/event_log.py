"""Everything that is tracked, as JSON lines in the run directory: always there, whatever servers do.

Each line is one event: {"time", "kind", …} with kind metrics (step, values), parameters (values), tags (values),
dataset (name, digest, profile), artifact (path, folder), note (message) or status (status). Uploaders read the
file from where they stopped.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from system.training.protocols import Artifact

FILE = "events.jsonl"


class EventLog:
    """Appends events to a file.

    Args:
        path: of the file; created if it is not there.
    """

    def __init__(self, path: Path) -> None:
        _end_last_line(path)
        self._stream = path.open("a", encoding="utf-8")

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Not kept: the metrics carry their steps."""

    def note(self, message: str) -> None:
        """Keeps the line."""
        self._write("note", {"message": message})

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Keeps them."""
        self._write("parameters", {"values": {name: str(value) for name, value in parameters.items()}})

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Keeps them with their step."""
        self._write("metrics", {"step": step, "values": {name: float(value) for name, value in metrics.items()}})

    def log_dataset(self, name: str, digest: str, profile: Mapping[str, object]) -> None:
        """Keeps it."""
        self._write("dataset", {"name": name, "digest": digest, "profile": dict(profile)})

    def log_artifact(self, artifact: Artifact) -> None:
        """Keeps its path."""
        self._write("artifact", {"path": str(artifact.path.resolve()), "folder": artifact.folder})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Keeps them."""
        self._write("tags", {"values": dict(tags)})

    def state(self) -> dict[str, str]:
        """Nothing to remember: the file is appended to."""
        return {}

    def close(self, status: str = "FINISHED") -> None:
        """Keeps the status and closes the file."""
        self._write("status", {"status": status})
        self._stream.close()

    def _write(self, kind: str, values: Mapping[str, object]) -> None:
        self._stream.write(json.dumps({"time": round(time.time(), 3), "kind": kind, **values}) + "\n")
        self._stream.flush()


def read_events(path: Path, offset: int, limit: int, *, end: int | None = None) -> tuple[list[dict], int]:
    """Complete lines from a byte offset on.

    Args:
        path: of the event log.
        offset: where the last reading ended.
        limit: at most this many events.
        end: offset at which to stop; None reads to the end of the file.

    Returns:
        The events, lines that are no JSON left out, and the offset behind them.
    """
    events: list[dict] = []
    with path.open("rb") as stream:
        stream.seek(offset)
        while len(events) < limit and (end is None or offset < end):
            line = stream.readline()
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
    return events, offset


def _end_last_line(path: Path) -> None:
    """A writer that was killed may have left half a line; what follows must not be glued to it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.write(b"\n")
