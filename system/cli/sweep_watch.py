"""What the driver of a sweep does with news of its trials: shows them, tracks them, and stops when asked to."""

from system.sweeps.agenda import Agenda
from system.sweeps.ledger import Job
from system.sweeps.ranking import Outcome
from system.tracking.trial_runs import TrialRuns
from system.training.interruption import Interruption
from system.training.protocols import Tracker


class Watch:
    """Tells person, ledger's readers and MLflow how a sweep goes.

    Args:
        agenda: knows how much is done.
        tracker: of the sweep.
        trials: of which each becomes a run.
        interruption: asked between any two events.
        publishes: whether trials are sent one by one as they finish, with logs written here.
    """

    def __init__(
        self, agenda: Agenda, tracker: Tracker, trials: TrialRuns, interruption: Interruption, *, publishes: bool
    ) -> None:
        self.agenda = agenda
        self.tracker = tracker
        self.trials = trials
        self.interruption = interruption
        self.publishes = publishes
        self.num_retried = 0
        self.look()

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Shows it."""
        ranking = self.agenda.ranking("search")
        score = sum(outcome.returns) / len(outcome.returns)
        metrics = {"sweep/return_mean": score} | ({"sweep/best_score": ranking[0].score} if ranking else {})
        self.tracker.log_metrics(metrics, step=self.agenda.num_done)
        if self.publishes:
            self.write(job, outcome)
            self.trials.publish([job.name])
        self._show()

    def write(self, job: Job, outcome: Outcome) -> None:
        """The log of a trial that has none of its own."""
        times = {} if outcome.decision_ms is None else {"decision_ms_p50": outcome.decision_ms}
        score = sum(outcome.returns) / len(outcome.returns)
        self.trials.write(
            job.name,
            {**job.point, "seed": job.seed},
            {"return_mean": score, "seconds": outcome.seconds, "episodes": float(len(outcome.returns)), **times},
            {"round": job.round, "configuration": str(job.number)},
        )

    def given_up(self, job: Job, message: str) -> None:
        """Says so."""
        self.tracker.note(f"trial {job.name} is given up: {message}")
        self._show()

    def retried(self, job: Job) -> None:
        """Says so."""
        self.num_retried += 1
        self.tracker.note(f"trial {job.name} crashed and is taken up again")

    def look(self) -> None:
        """Ends the sweep if a signal came."""
        self.interruption.raise_if_asked()

    def _show(self) -> None:
        self.tracker.progress("sweep", self.agenda.num_done, self.agenda.num_planned, "trials")
