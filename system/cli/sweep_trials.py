"""What the trials of a training sweep do in their own processes: whole runs, each in its own directory."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.cli.launch import work
from system.config import RunConfig
from system.errors import SystemFailure
from system.evaluation.policies import planner_policy_name
from system.runs.run_directory import RunDirectory
from system.sweeps.ledger import Job
from system.sweeps.planner_trial import trial_config
from system.sweeps.ranking import Outcome
from system.tracking.composite import CompositeTracker, make_tracker
from system.tracking.trial_runs import PARENT_TAG
from system.training.interruption import Interruption
from system.training.protocols import Artifact, Tracker

SCHEDULED = "schedule/return_mean"


@dataclass(frozen=True)
class RunTrial:
    """A whole run, or the online stage from a checkpoint; taken up where its directory stands.

    Attributes:
        base: configuration of all trials.
        folder: of the trials' run directories.
        cache_folder: of the datasets, which all trials memory-map.
        start: a checkpoint instead of pretraining.
        address: of the Ray cluster.
        tracking_uri: of MLflow.
        parent_run: MLflow's id of the sweep; None if it is not known yet.
    """

    base: RunConfig
    folder: Path
    cache_folder: Path
    start: Path | None
    address: str | None
    tracking_uri: str
    parent_run: str | None

    def __call__(self, job: Job, report: Callable[[int, float], None]) -> Outcome:
        """Works on the run to its end, or returns what it came to when it was finished before.

        Args:
            job: the trial.
            report: told of each scheduled evaluation.
        """
        config = trial_config(self.base, job)
        with RunDirectory.claim(self.folder / job.name, config, restart=False) as run_dir:
            summary = run_dir.finished("done")
            if summary is None:
                summary = work(
                    config,
                    run_dir,
                    until="done",
                    start=self.start,
                    cache_folder=self.cache_folder,
                    address=self.address,
                    tracking=self._tracking(config, run_dir.path, report),
                    stopping=Interruption(()),
                )
        return summarized_outcome(summary, config)

    @contextmanager
    def _tracking(self, config: RunConfig, path: Path, report: Callable[[int, float], None]) -> Iterator[Tracker]:
        tracker = make_tracker(config, path, tracking_uri=self.tracking_uri, run_name=path.name, quiet=True)
        if self.parent_run is not None:
            tracker.set_tags({PARENT_TAG: self.parent_run})
        try:
            yield CompositeTracker([tracker, _ScheduleReporter(report)])
        except BaseException:
            tracker.close("FAILED")
            raise
        tracker.close("FINISHED")


def summarized_outcome(summary: Mapping[str, Any], config: RunConfig) -> Outcome:
    """What a finished run's configured planner reached in its last stage.

    Raises:
        SystemFailure: the run has not evaluated it.
    """
    policy = planner_policy_name(config)
    records = [record for record in summary["evaluations"] if record["policy"] == policy]
    if not records:
        raise SystemFailure(f"evaluation.policies: {policy} was not evaluated")
    record = records[-1]
    return Outcome(
        returns=record["returns"],
        seeds=record["seeds"],
        decision_ms=record["decision_ms_p50"],
        seconds=round(sum(stage["seconds"] for stage in summary["stages"].values()), 3),
        process=os.getpid(),
    )


class _ScheduleReporter:
    """A tracker that hears scheduled evaluations and nothing else."""

    def __init__(self, report: Callable[[int, float], None]) -> None:
        self.report = report

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Not for the sweep."""

    def note(self, message: str) -> None:
        """Not for the sweep."""

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Not for the sweep."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        if SCHEDULED in metrics:
            self.report(step, metrics[SCHEDULED])

    def log_dataset(self, name: str, digest: str, profile: Mapping[str, object]) -> None:
        """Not for the sweep."""

    def log_artifact(self, artifact: Artifact) -> None:
        """Not for the sweep."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Not for the sweep."""

    def state(self) -> dict[str, str]:
        return {}

    def close(self, status: str = "FINISHED") -> None:
        """Nothing is open."""
