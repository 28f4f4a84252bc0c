"""MLflow, fed from the run's event log by a thread of its own.

The thread reads events from where it stopped, sends them in batches, and only then remembers the new
position. While the server is away the position stays, training goes on, and nothing is lost: what could
not be sent is sent once the server answers, or when the run is started again.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from system.errors import CheckpointError, SystemFailure
from system.tracking.event_log import read_events
from system.training.protocols import Artifact

STATE_FILE = "mlflow.json"
EVENTS_PER_BATCH = 500
METRICS_PER_CALL, PARAMETERS_PER_CALL, TAGS_PER_CALL = 1000, 100, 100
SECONDS_BETWEEN_BATCHES = 2.0
LONGEST_WAIT_SECONDS = 30.0
CLOSE_SECONDS = 60.0
ATTEMPTS_AT_THE_END = 3
SYSTEM_METRICS_SECONDS = 10
CHECKPOINT_TAG = "o2o.checkpoint"


class MLflowTracker:
    """Uploads the event log; its own log methods do nothing, for the events are in the file.

    Args:
        event_log: the file that is uploaded.
        tracking_uri: of the server or store.
        experiment: created if it is not there.
        run_name: of a new run.
        report: is told, once, that the server is away, and what is left unsent in the end.
        connect: makes the client; replaced in tests.
        monitor: sends what the machine is doing, too.
    """

    def __init__(
        self,
        event_log: Path,
        *,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        report: Callable[[str], None],
        connect: Callable[[str], Any] | None = None,
        monitor: bool = True,
    ) -> None:
        self.event_log = event_log
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_name = run_name
        self.report = report
        self._connect = connect or connect_client
        self._state_file = event_log.parent / STATE_FILE
        self._state: dict[str, Any] = read_state(event_log, tracking_uri)
        self._client: Any = None
        self._monitor: Any = None
        self._monitored = monitor
        self._away = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Not sent."""

    def note(self, message: str) -> None:
        """In the event log."""

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """In the event log."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """In the event log."""

    def log_dataset(self, name: str, digest: str, profile: Mapping[str, object]) -> None:
        """In the event log."""

    def log_artifact(self, artifact: Artifact) -> None:
        """In the event log."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """In the event log."""

    def state(self) -> dict[str, str]:
        """The MLflow run, once it exists; a resumed run finds it in its own directory."""
        return {"mlflow_run_id": self._state["run_id"]} if "run_id" in self._state else {}

    def close(self, status: str = "FINISHED") -> None:
        """Sends the rest, for a bounded time."""
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)
        if self._monitor is not None:
            self._monitor.finish()
        if self._pending():
            self.report(f"MLflow at {self.tracking_uri} has not got everything; the rest is in {self.event_log}")

    def _work(self) -> None:
        wait, attempts = SECONDS_BETWEEN_BATCHES, ATTEMPTS_AT_THE_END
        while attempts > 0:
            closing = self._closing.is_set()
            try:
                more, pause = self._send_batch(), SECONDS_BETWEEN_BATCHES
                wait, self._away = SECONDS_BETWEEN_BATCHES, False
            except Exception as error:  # noqa: BLE001 (whatever a server or store does, training goes on)
                more, pause, wait = True, wait, min(2 * wait, LONGEST_WAIT_SECONDS)
                attempts -= closing
                self._tell_away(error)
            if closing and not more:
                return
            if self._away and closing:
                time.sleep(pause)
            elif self._away or not more:
                self._closing.wait(pause)

    def _send_batch(self) -> bool:
        """Sends the next events; True if there may be more."""
        # A batch that was cut off half-way is read again to the same end, so that its calls are the same.
        start, end = int(self._state.get("calls_done", 0)), self._state.get("batch_end")
        position = int(self._state.get("offset", 0))
        events, offset = read_events(self.event_log, position, EVENTS_PER_BATCH, end=end)
        if not events:
            return False
        self._ensure_run()
        for number, call in enumerate(upload_calls(events, self._state["run_id"])):
            if number >= start:
                call(self._client)
                self._remember(calls_done=number + 1, batch_end=offset)
        self._remember(offset=offset, calls_done=0, batch_end=None)
        return len(events) == EVENTS_PER_BATCH

    def _ensure_run(self) -> None:
        if self._client is not None and "run_id" in self._state:
            return
        self._client = self._client or self._connect(self.tracking_uri)
        if "run_id" in self._state:
            self._client.update_run(self._state["run_id"], status="RUNNING")
        else:
            self._create_run()
        if self._monitored:
            self._monitor = start_system_metrics(self._state["run_id"], self.tracking_uri)

    def _create_run(self) -> None:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            experiment_id = self._client.create_experiment(self.experiment, artifact_location(self.tracking_uri))
        else:
            experiment_id = found.experiment_id
        run = self._client.create_run(experiment_id, run_name=self.run_name)
        self._remember(run_id=run.info.run_id)

    def _remember(self, **values: object) -> None:
        self._state = {**self._state, **values, "tracking_uri": self.tracking_uri}
        aside = self._state_file.with_suffix(".partial")
        aside.write_text(json.dumps(self._state))
        os.replace(aside, self._state_file)

    def _pending(self) -> bool:
        return bool(read_events(self.event_log, int(self._state.get("offset", 0)), 1)[0])

    def _tell_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            self.report(f"MLflow at {self.tracking_uri} does not answer ({type(error).__name__}); the run goes on")


def read_state(event_log: Path, tracking_uri: str) -> dict[str, Any]:
    """Where an earlier process stopped sending to this place: `run_id`, `offset` and more; empty if none did."""
    try:
        state: dict[str, Any] = json.loads((event_log.parent / STATE_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return state if state.get("tracking_uri") == tracking_uri else {}


def is_sent(event_log: Path, tracking_uri: str) -> bool:
    """Whether all of an event log has been sent to this place."""
    return int(read_state(event_log, tracking_uri).get("offset", 0)) >= event_log.stat().st_size


def upload_calls(events: Sequence[Mapping[str, Any]], run_id: str) -> list[Callable[[Any], None]]:
    """The calls that send some events, always the same ones for the same events.

    Args:
        events: as read from the event log.
        run_id: of the MLflow run.

    Returns:
        Functions of the client, in order; batches are as large as MLflow allows.
    """
    from mlflow.entities import Metric, Param, RunTag

    metrics, parameters, tags = [], [], []
    calls: list[Callable[[Any], None]] = []
    for event in events:
        kind, milliseconds = event["kind"], int(1000 * event["time"])
        if kind == "metrics":
            metrics += [
                Metric(name, value, milliseconds, event["step"]) for name, value in event["values"].items()
            ]
        elif kind == "parameters":
            parameters += [Param(name, value[:6000]) for name, value in event["values"].items()]
        elif kind == "tags":
            tags += [RunTag(name, str(value)) for name, value in event["values"].items()]
    for name, items, size in (
        ("params", parameters, PARAMETERS_PER_CALL),
        ("tags", tags, TAGS_PER_CALL),
        ("metrics", metrics, METRICS_PER_CALL),
    ):
        for start in range(0, len(items), size):
            calls.append(_batch_call(run_id, name, items[start : start + size]))
    for event in events:
        if event["kind"] == "dataset":
            calls.append(_dataset_call(run_id, event))
        elif event["kind"] == "artifact" and Path(event["path"]).is_file():
            calls.append(_artifact_call(run_id, event["path"], event["folder"]))
        elif event["kind"] == "status":
            calls.append(_status_call(run_id, event["status"]))
    return calls


def _batch_call(run_id: str, name: str, items: list[Any]) -> Callable[[Any], None]:
    return lambda client: client.log_batch(run_id, **{name: items})


def _dataset_call(run_id: str, event: Mapping[str, Any]) -> Callable[[Any], None]:
    """The dataset as an input of the run; MLflow takes up to 36 characters of a digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=event["name"][:500],
        digest=event["digest"][:36],
        source_type="local",
        source=json.dumps({"name": event["name"], "sha256": event["digest"]}),
        profile=json.dumps(event["profile"]),
    )
    given = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
    return lambda client: client.log_inputs(run_id, [given])


def _artifact_call(run_id: str, path: str, folder: str) -> Callable[[Any], None]:
    return lambda client: client.log_artifact(run_id, path, folder or None)


def _status_call(run_id: str, status: str) -> Callable[[Any], None]:
    return lambda client: client.set_terminated(run_id, status)


def connect_client(tracking_uri: str) -> Any:
    """An MLflow client; the schema of a SQLite store is made under a lock, by one process at a time."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    with _schema_lock(tracking_uri):
        client = MlflowClient(tracking_uri)
        client.search_experiments(max_results=1)
    return client


def register_folder(folder: Path, place: str, name: str, run_id: str, tracking_uri: str) -> str:
    """Uploads a checkpoint or a policy and makes it a version of a registered model, unless it is one already.

    Args:
        folder: with its files.
        place: among the run's artifacts; the last part tells it from the run's others.
        name: of the model; created if it is not there.
        run_id: of the run that it is of.
        tracking_uri: of server or store.

    Returns:
        `models:/NAME/VERSION`.

    Raises:
        SystemFailure: MLflow does not answer, or refuses the name.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = connect_client(tracking_uri)
        label = place.rpartition("/")[2]
        for known in client.search_model_versions(f"run_id='{run_id}'"):
            if known.name == name and known.tags.get(CHECKPOINT_TAG) == label:
                return f"models:/{name}/{known.version}"
        client.log_artifacts(run_id, str(folder), place)
        with contextlib.suppress(MlflowException):
            client.create_registered_model(name)
        source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
        made = client.create_model_version(name, source, run_id, tags={CHECKPOINT_TAG: label})
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SystemFailure(f"--register {name}: {first}; the same command tries again") from error
    return f"models:/{name}/{made.version}"


def fetch_checkpoint(uri: str, folder: Path, tracking_uri: str) -> Path:
    """A registered checkpoint as a folder of files; what is there already is not fetched again.

    Args:
        uri: `models:/NAME/VERSION`.
        folder: for all fetched ones.
        tracking_uri: of server or store.

    Raises:
        CheckpointError: there is no such version, or it could not be fetched; what was fetched is checked like
            any other checkpoint when it is opened.
    """
    from mlflow.artifacts import download_artifacts

    name, _, version = uri.removeprefix("models:/").rpartition("/")
    target = folder / f"{name}-{version}"
    if target.exists():
        return target
    aside = folder / f".{target.name}.{os.getpid()}"
    try:
        found = connect_client(tracking_uri).get_model_version(name, version)
        aside.mkdir(parents=True)
        fetched = Path(download_artifacts(found.source, dst_path=str(aside), tracking_uri=tracking_uri))
        os.replace(fetched, target)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{uri}: {first}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def start_system_metrics(run_id: str, tracking_uri: str) -> Any:
    """MLflow's own monitor of processor, memory and GPU; None where it can't run."""
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            run_id,
            sampling_interval=SYSTEM_METRICS_SECONDS,
            samples_before_logging=3,
            tracking_uri=tracking_uri,  # MLflow's global one would be left in the environment
        )
        monitor.start()
    except Exception:  # noqa: BLE001 (a convenience: a run without it is complete)
        return None
    return monitor


def artifact_location(tracking_uri: str) -> str | None:
    """Artefacts of a SQLite store lie beside it; servers decide for themselves."""
    store = _sqlite_file(tracking_uri)
    return None if store is None else (store.parent / "mlflow-artifacts").as_uri()


@contextlib.contextmanager
def _schema_lock(tracking_uri: str) -> Iterator[None]:
    store = _sqlite_file(tracking_uri)
    if store is None:
        yield
        return
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _sqlite_file(tracking_uri: str) -> Path | None:
    prefix = "sqlite:///"
    return Path(tracking_uri[len(prefix) :]).resolve() if tracking_uri.startswith(prefix) else None
