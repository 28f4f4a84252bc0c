"""Event logs that nobody writes any more, sent to MLflow: short trials, and what was left when a run ended."""

from collections.abc import Callable
from pathlib import Path

from system.tracking.event_log import FILE

Send = Callable[[Path, str], bool]
"""(event log, name of a new run) → whether everything in it has been sent."""


def send_to_mlflow(tracking_uri: str, experiment: str, report: Callable[[str], None]) -> Send:
    """Sends event logs to an MLflow server or store.

    Args:
        tracking_uri, experiment: where to.
        report: is told that the server is away.
    """

    def send(event_log: Path, name: str) -> bool:
        from system.tracking.mlflow import MLflowTracker, is_sent

        if not is_sent(event_log, tracking_uri):
            MLflowTracker(
                event_log,
                tracking_uri=tracking_uri,
                experiment=experiment,
                run_name=name,
                report=report,
                monitor=False,
            ).close()
        return is_sent(event_log, tracking_uri)

    return send


def send_rest(run_dir: Path, send: Send) -> None:
    """What is left of a finished run; one without an event log has nothing left.

    Args:
        run_dir: named as the run.
        send: as `send_to_mlflow` makes it.
    """
    if (run_dir / FILE).exists():
        send(run_dir / FILE, run_dir.name)


def tracked_run(run_dir: Path, tracking_uri: str) -> str | None:
    """MLflow's id of a run, None if it has none in this place."""
    from system.tracking.mlflow import read_state

    return read_state(run_dir / FILE, tracking_uri).get("run_id")
