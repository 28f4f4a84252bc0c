"""Several trackers as one, and the ones a run has."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from system.config import RunConfig
from system.tracking.console import ConsoleTracker
from system.tracking.event_log import FILE, EventLog
from system.training.protocols import Artifact, Tracker


class CompositeTracker:
    """Passes everything on to each of its trackers.

    Args:
        trackers: in the order they are told.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = list(trackers)

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """How far a stage is."""
        for tracker in self.trackers:
            tracker.progress(stage, done, total, unit)

    def note(self, message: str) -> None:
        """One line that a person should see."""
        for tracker in self.trackers:
            tracker.note(message)

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Settings of the run, flat."""
        for tracker in self.trackers:
            tracker.log_parameters(parameters)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Numbers at a step."""
        for tracker in self.trackers:
            tracker.log_metrics(metrics, step=step)

    def log_dataset(self, name: str, digest: str, profile: Mapping[str, object]) -> None:
        """What is learnt from."""
        for tracker in self.trackers:
            tracker.log_dataset(name, digest, profile)

    def log_artifact(self, artifact: Artifact) -> None:
        """A file."""
        for tracker in self.trackers:
            tracker.log_artifact(artifact)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Searchable labels."""
        for tracker in self.trackers:
            tracker.set_tags(tags)

    def state(self) -> dict[str, str]:
        """What a resumed run needs."""
        return {name: value for tracker in self.trackers for name, value in tracker.state().items()}

    def close(self, status: str = "FINISHED") -> None:
        """Closes all."""
        for tracker in self.trackers:
            tracker.close(status)


def make_tracker(config: RunConfig, run_dir: Path, *, tracking_uri: str, run_name: str, quiet: bool) -> Tracker:
    """The trackers of a run: console, event log and, unless it is turned off, MLflow.

    Args:
        config: of the run.
        run_dir: the event log lies in it.
        tracking_uri: of MLflow.
        run_name: shown in MLflow.
        quiet: no progress on the console.
    """
    console = ConsoleTracker(quiet=quiet)
    trackers: list[Tracker] = [console, EventLog(run_dir / FILE)]
    if config.tracking.mlflow:
        from system.tracking.mlflow import MLflowTracker

        trackers.append(
            MLflowTracker(
                run_dir / FILE,
                tracking_uri=tracking_uri,
                experiment=config.tracking.experiment,
                run_name=run_name,
                report=console.note,
            )
        )
    return CompositeTracker(trackers)
