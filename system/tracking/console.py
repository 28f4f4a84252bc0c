"""Progress for a person: one line that is redrawn on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Mapping
from io import TextIOBase
from typing import cast

from system.training.protocols import Artifact

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_REDRAWS = 0.2
SHOWN = {
    "nll_loss": "nll",
    "states_loss": "state error",
    "q_loss": "q error",
    "return_mean": "return",
}


class ConsoleTracker:
    """Writes to stderr, so that results on stdout stay clean.

    Args:
        stream: where to; stderr by default.
        quiet: only notes.
    """

    def __init__(self, *, stream: TextIOBase | None = None, quiet: bool = False) -> None:
        self.stream = stream or cast(TextIOBase, sys.stderr)
        self.quiet = quiet
        self.terminal = self.stream.isatty()
        self._stage = ""
        self._started = 0.0
        self._first_done = 0
        self._last_line = 0.0
        self._shown: dict[str, float] = {}
        self._line_open = False

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Shows how far a stage is, how fast it goes and how long it will take."""
        if self.quiet:
            return
        now = time.monotonic()
        if stage != self._stage:
            self._end_line()
            self._stage, self._started, self._first_done, self._last_line, self._shown = stage, now, done, 0.0, {}
        interval = SECONDS_BETWEEN_REDRAWS if self.terminal else SECONDS_BETWEEN_LINES
        if done < total and now - self._last_line < interval:
            return
        self._last_line = now
        self._write(self._line(done, total, unit, now - self._started))

    def note(self, message: str) -> None:
        """Shows a line of its own."""
        self._end_line()
        self.stream.write(message + "\n")
        self.stream.flush()

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Shows nothing."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Keeps the few that the next progress line shows."""
        for name, value in metrics.items():
            label = SHOWN.get(name.rpartition("/")[2])
            if label and not name.startswith(("schedule/", "evaluation/")):
                self._shown[label] = value

    def log_dataset(self, name: str, digest: str, profile: Mapping[str, object]) -> None:
        """Not shown: the summary says it."""

    def log_artifact(self, artifact: Artifact) -> None:
        """Shows nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Shows nothing."""

    def state(self) -> dict[str, str]:
        """Nothing to remember."""
        return {}

    def close(self, status: str = "FINISHED") -> None:
        """Ends the current line."""
        self._end_line()

    def _line(self, done: int, total: int, unit: str, seconds: float) -> str:
        rate = (done - self._first_done) / seconds if seconds > 0 else 0.0
        parts = [f"{self._stage:<16} {min(done, total)}/{total} {unit}"]
        if rate > 0:
            parts.append(f"{rate:.3g}/s")
        if rate > 0 and done < total:
            parts.append(f"{duration((total - done) / rate)} left")
        if done >= total:
            parts.append(f"in {duration(seconds)}")
        parts += [f"{label} {value:.3g}" for label, value in self._shown.items()]
        return "  ".join(parts)

    def _write(self, line: str) -> None:
        if self.terminal:
            self.stream.write(f"\r\x1b[2K{line}")
            self._line_open = True
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def _end_line(self) -> None:
        if self._line_open:
            self.stream.write("\n")
            self._line_open = False


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
