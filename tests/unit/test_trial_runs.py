"""Trials as runs under the sweep's own: sent once, adopted, and never waited for."""

import json
from pathlib import Path

from system.tracking.event_log import FILE, EventLog
from system.tracking.trial_runs import PARENT_TAG, TrialRuns


class Server:
    """Notes what is sent; answers as long as it is told to."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.sent: list[str] = []

    def send(self, event_log: Path, name: str) -> bool:
        if self.answers:
            self.sent.append(name)
        return self.answers


def write(runs: TrialRuns, name: str) -> None:
    runs.write(name, {"planner.horizon": 2}, {"return_mean": 3.0}, {"round": "search"})


def events(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name / FILE).read_text().splitlines()]


def test_a_trial_is_written_once_and_adopted_once(tmp_path: Path) -> None:
    server, notes = Server(), []
    runs = TrialRuns(tmp_path, lambda: "parent-7", server.send, notes.append)
    write(runs, "0001-seed0")
    runs.publish(["0001-seed0"])
    write(runs, "0001-seed0")
    runs.finish(["0001-seed0"])
    found = events(tmp_path, "0001-seed0")
    assert [each["kind"] for each in found] == ["parameters", "metrics", "tags", "status", "tags", "status"]
    assert found[4]["values"] == {PARENT_TAG: "parent-7"}
    assert server.sent == ["0001-seed0"] * 2
    assert notes == []


def test_a_run_that_was_cut_off_gets_its_end(tmp_path: Path) -> None:
    (tmp_path / "0002-seed0").mkdir()
    EventLog(tmp_path / "0002-seed0" / FILE).set_tags({PARENT_TAG: "parent-7", "dataset": "toy"})
    server = Server()
    runs = TrialRuns(tmp_path, lambda: "parent-7", server.send, lambda line: None)
    runs.finish(["0002-seed0"])
    assert server.sent == ["0002-seed0"]
    assert [each["kind"] for each in events(tmp_path, "0002-seed0")] == ["tags", "tags", "status"]


def test_a_server_that_is_away_is_asked_once_and_once_more_at_the_end(tmp_path: Path) -> None:
    server, notes = Server(answers=False), []
    runs = TrialRuns(tmp_path, lambda: "parent-7", server.send, notes.append)
    names = [f"{number:04d}-seed0" for number in range(4)]
    for name in names:
        write(runs, name)
    runs.publish(names[:2])
    runs.finish(names)
    assert notes == ["not all trials are in MLflow; the same command sends the rest"]
    server.answers = True
    TrialRuns(tmp_path, lambda: "parent-7", server.send, notes.append).finish(names)
    assert server.sent == names
    assert len(notes) == 1


def test_without_mlflow_only_logs_are_written(tmp_path: Path) -> None:
    runs = TrialRuns(tmp_path, lambda: None, None, lambda line: None)
    write(runs, "0001-seed0")
    runs.finish(["0001-seed0"])
    assert [each["kind"] for each in events(tmp_path, "0001-seed0")] == ["parameters", "metrics", "tags", "status"]
