"""The trials of a sweep as MLflow runs under the sweep's own, sent by one thread that nobody waits for.

Each trial has a folder with an event log, as runs have. What could not be sent stays there, and is sent when the
sweep is started again.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from system.tracking.event_log import FILE, EventLog
from system.tracking.sending import Send

PARENT_TAG = "mlflow.parentRunId"
PARENT_SECONDS = 20.0
PAUSE_SECONDS = 0.2


class TrialRuns:
    """Writes trials' event logs and sends them.

    Args:
        folder: with a folder for each trial.
        parent_run: the sweep's MLflow run, None while it is not known.
        send: None where nothing is sent.
        report: is told, once, that trials could not be sent.
    """

    def __init__(
        self,
        folder: Path,
        parent_run: Callable[[], str | None],
        send: Send | None,
        report: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.parent_run = parent_run
        self.send = send
        self.report = report
        self._away = False
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="trials")

    def write(
        self, name: str, parameters: Mapping[str, object], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """The whole event log of a short trial; one that is there already stays."""
        path = self.folder / name / FILE
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".partial")
        aside.unlink(missing_ok=True)
        log = EventLog(aside)
        log.log_parameters(parameters)
        log.log_metrics(metrics, step=0)
        log.set_tags(tags)
        log.close()
        os.replace(aside, path)

    def publish(self, names: Iterable[str]) -> None:
        """Sends trials sooner or later; those that were sent already cost nothing."""
        if self.send is not None:
            for name in names:
                self._sender.submit(self._publish, name, self.send)

    def finish(self, names: Iterable[str]) -> None:
        """Sends what is left of these trials, and waits for it; gives up where the server is still away."""
        self._sender.submit(self._forgive)
        self.publish(names)
        self._sender.shutdown(wait=True)
        if self._away:
            self.report("not all trials are in MLflow; the same command sends the rest")

    def close(self) -> None:
        """Leaves unsent what waits; for a sweep that is cut off."""
        self._sender.shutdown(wait=True, cancel_futures=True)

    def _forgive(self) -> None:
        self._away = False

    def _publish(self, name: str, send: Send) -> None:
        path = self.folder / name / FILE
        if self._away or not path.exists():
            return
        parent = self._wait_for_parent()
        if parent is None:
            self._away = True
            return
        # A trial whose process was killed says nothing of its end, and one whose process wrote its own log may
        # not have known the sweep's run.
        if not _is_adopted(path, parent):
            log = EventLog(path)
            log.set_tags({PARENT_TAG: parent})
            log.close()
        self._away = not send(path, name)

    def _wait_for_parent(self) -> str | None:
        deadline = time.monotonic() + PARENT_SECONDS
        while (parent := self.parent_run()) is None and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return parent


def _is_adopted(path: Path, parent: str) -> bool:
    """Whether the log ends with the name of the sweep's run and the end of the trial."""
    *_, before, last = ["", "", *path.read_text(encoding="utf-8").splitlines()]
    return PARENT_TAG in before and parent in before and '"status"' in last
