"""What a sweep has done so far, as JSON lines on disk: what stands here is never done again."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from system import fault_points
from system.errors import DataError
from system.files import sync_folder
from system.sweeps.ranking import Outcome, Point, Round


@dataclass(frozen=True)
class Job:
    """One trial: a configuration with one seed.

    Attributes:
        round: the search, or the comparison of the best.
        number: of the configuration.
        seed: of the trial.
        point: the configuration.
    """

    round: Round
    number: int
    seed: int
    point: Point

    @property
    def key(self) -> tuple[Round, int, int]:
        """What tells it from all others of the sweep."""
        return self.round, self.number, self.seed

    @property
    def name(self) -> str:
        """Of its folder and its MLflow run."""
        return f"{self.number:04d}-seed{self.seed}" + ("-final" if self.round == "final" else "")


class TrialLedger:
    """Proposals and outcomes in the order in which they came.

    Args:
        path: of the file; created if it is not there.

    Attributes:
        points: configurations by number.
        outcomes: of finished trials.

    Raises:
        DataError: a line in the file is not of a ledger; names it. Half a last line is what a kill leaves
            behind, and is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points: dict[int, Point] = {}
        self.outcomes: dict[tuple[Round, int, int], Outcome] = {}
        self._stream = path.open("ab+")
        sync_folder(path.parent)
        self._read()

    def add_point(self, number: int, point: Point) -> None:
        """Notes a proposal; on return it is on disk."""
        self._write({"kind": "proposed", "number": number, "point": point})
        self.points[number] = point

    def add_outcome(self, job: Job, outcome: Outcome) -> None:
        """Notes an outcome; on return it is on disk."""
        place = {"round": job.round, "number": job.number, "seed": job.seed}
        self._write({"kind": "finished", **place, "outcome": asdict(outcome)})
        self.outcomes[job.key] = outcome
        fault_points.reach("sweep.after_outcome")

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._stream.write(json.dumps(entry).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _read(self) -> None:
        self._stream.seek(0)
        content = self._stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._stream.truncate(whole)
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{self.path}: line {number} is not of a sweep ({error})") from None

    def _take(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "proposed":
            self.points[int(entry["number"])] = dict(entry["point"])
            return
        key = entry["round"], int(entry["number"]), int(entry["seed"])
        self.outcomes[key] = Outcome(**entry["outcome"])
