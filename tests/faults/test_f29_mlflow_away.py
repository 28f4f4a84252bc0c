"""F29: the MLflow server is down, slow or failing: training does not notice, and every event arrives once."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from system.tracking import mlflow as tracking
from system.tracking.composite import CompositeTracker
from system.tracking.event_log import FILE, EventLog, read_events
from system.tracking.mlflow import MLflowTracker
from system.training.protocols import Artifact
from tests.support.tiny_runs import finish_run, write_tiny_config


class StubClient:
    """An MLflow client in memory that can be made to fail."""

    def __init__(self) -> None:
        self.away = False
        self.fail_next = 0
        self.metrics: list[tuple[str, float, int]] = []
        self.parameters: dict[str, str] = {}
        self.artifacts: list[str] = []
        self.inputs: list[tuple[str, str, str]] = []
        self.statuses: list[str] = []
        self.runs = 0
        self.failed = threading.Event()

    def _answer(self) -> None:
        if self.away or self.fail_next > 0:
            self.fail_next -= 1
            self.failed.set()
            raise ConnectionError("server away")

    def get_experiment_by_name(self, name: str) -> None:
        self._answer()

    def create_experiment(self, name: str, location: str | None) -> str:
        self._answer()
        return "1"

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        self._answer()
        self.runs += 1
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run{self.runs}"))

    def update_run(self, run_id: str, status: str) -> None:
        self._answer()

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self._answer()
        self.metrics += [(each.key, each.value, each.step) for each in metrics]
        self.parameters |= {each.key: each.value for each in params}

    def log_inputs(self, run_id: str, datasets: Any) -> None:
        self._answer()
        self.inputs += [(each.dataset.name, each.dataset.digest, each.dataset.profile) for each in datasets]

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        self._answer()
        self.artifacts.append(path)

    def set_terminated(self, run_id: str, status: str) -> None:
        self._answer()
        self.statuses.append(status)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> StubClient:
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_BATCHES", 0.01)
    monkeypatch.setattr(tracking, "LONGEST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(tracking, "start_system_metrics", lambda run_id, uri: None)
    return StubClient()


def open_tracker(folder: Path, client: StubClient, messages: list[str]) -> CompositeTracker:
    log = EventLog(folder / FILE)
    uploader = MLflowTracker(
        folder / FILE,
        tracking_uri="http://stub",
        experiment="test",
        run_name="run",
        report=messages.append,
        connect=lambda uri: client,
    )
    return CompositeTracker([log, uploader])


def log(tracker: CompositeTracker, steps: range) -> None:
    for step in steps:
        tracker.log_metrics({"loss": float(step)}, step=step)


def expected(steps: range) -> list[tuple[str, float, int]]:
    return [("loss", float(step), step) for step in steps]


def test_everything_arrives_once_and_in_order(tmp_path: Path, client: StubClient) -> None:
    tracker = open_tracker(tmp_path, client, [])
    (tmp_path / "figure.png").write_bytes(b"png")
    tracker.log_parameters({"seed": 3})
    tracker.log_dataset("hopper/mine-v0", "a" * 64, {"episodes": 5})
    log(tracker, range(1200))
    tracker.log_artifact(Artifact(tmp_path / "figure.png", "figures"))
    tracker.close()
    assert client.metrics == expected(range(1200))
    assert client.parameters == {"seed": "3"}
    assert client.inputs == [("hopper/mine-v0", "a" * 36, '{"episodes": 5}')]
    assert client.artifacts == [str((tmp_path / "figure.png").resolve())]
    assert client.statuses == ["FINISHED"]


def test_an_outage_loses_nothing_and_is_told_once(tmp_path: Path, client: StubClient) -> None:
    messages: list[str] = []
    client.away = True
    tracker = open_tracker(tmp_path, client, messages)
    log(tracker, range(50))
    assert client.failed.wait(20)
    log(tracker, range(50, 100))
    client.away = False
    tracker.close()
    assert client.metrics == expected(range(100))
    assert [message for message in messages if "does not answer" in message] == messages
    assert len(messages) == 1


def test_a_call_that_fails_half_way_through_a_batch_is_not_sent_twice(tmp_path: Path, client: StubClient) -> None:
    client.away = True
    tracker = open_tracker(tmp_path, client, [])
    tracker.log_parameters({f"parameter{index}": index for index in range(250)})
    log(tracker, range(300))
    original = client.log_batch

    def fail_once_after_the_first(run_id: str, **batch: Any) -> None:
        original(run_id, **batch)
        if "params" in batch and not client.failed.is_set():
            client.fail_next = 1

    client.failed.clear()
    client.log_batch = fail_once_after_the_first  # type: ignore[method-assign]
    client.away = False
    tracker.close()
    assert client.metrics == expected(range(300))


def test_what_could_not_be_sent_is_sent_by_the_next_process(tmp_path: Path, client: StubClient) -> None:
    messages: list[str] = []
    client.away = True
    tracker = open_tracker(tmp_path, client, messages)
    log(tracker, range(10))
    tracker.close("KILLED")
    assert client.metrics == []
    assert "has not got everything" in messages[-1]
    client.away = False
    tracker = open_tracker(tmp_path, client, messages)
    log(tracker, range(10, 20))
    tracker.close()
    assert client.metrics == expected(range(20))
    assert client.runs == 1


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(tmp_path: Path, client: StubClient) -> None:
    for steps in (range(5), range(5, 9)):
        tracker = open_tracker(tmp_path, client, [])
        log(tracker, steps)
        tracker.close()
    assert client.runs == 1
    assert client.metrics == expected(range(9))


def test_half_a_line_of_a_killed_writer_spoils_nothing(tmp_path: Path, client: StubClient) -> None:
    (tmp_path / FILE).write_text('{"time": 1, "kind": "metr')
    tracker = open_tracker(tmp_path, client, [])
    log(tracker, range(3))
    tracker.close()
    assert client.metrics == expected(range(3))


def test_a_finished_run_sends_what_was_left_when_it_is_asked_for_again(
    tmp_path: Path, client: StubClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client.away = True
    monkeypatch.setattr(tracking, "connect_client", lambda uri: client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://stub")
    config = write_tiny_config(tmp_path, tracking={"mlflow": True}, online={"env_steps": 0})
    finish_run(tmp_path, config)
    left = capsys.readouterr()
    assert "MLflow at http://stub has not got everything" in left.err
    assert client.metrics == []
    client.away = False
    for _ in range(2):
        finish_run(tmp_path, config)
        again = capsys.readouterr()
        assert again.out == left.out
        assert again.err == ""
        logged, _ = read_events(tmp_path / "run" / FILE, 0, 100_000)
        metrics = [
            (name, value, event["step"])
            for event in logged
            if event["kind"] == "metrics"
            for name, value in event["values"].items()
        ]
        assert client.metrics == metrics
        assert client.statuses == ["FINISHED"]
