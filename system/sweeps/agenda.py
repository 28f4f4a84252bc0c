"""Which trial comes next: the search, then the best ones again; what the ledger holds is left out."""

from collections.abc import Sequence

from system.sweeps.ledger import Job, TrialLedger
from system.sweeps.proposers import Proposer
from system.sweeps.ranking import Objective, Outcome, Ranked, Round, rank


class Agenda:
    """The order of a sweep's work.

    Args:
        ledger: what was done before, and takes what is done now.
        proposer: of new configurations.
        seeds: of which every configuration gets a trial each.
        finalists: best ones whose trials are repeated in the final round.
        objective: how a configuration's episodes become its score.

    Attributes:
        failures: one line for each trial that was given up since this object was made.
    """

    def __init__(
        self,
        ledger: TrialLedger,
        proposer: Proposer,
        *,
        seeds: Sequence[int],
        finalists: int,
        objective: Objective,
    ) -> None:
        self.ledger = ledger
        self.proposer = proposer
        self.seeds = list(seeds)
        self.finalists = finalists
        self.objective = objective
        self.failures: dict[tuple[Round, int, int], str] = {}
        self._under_way: set[tuple[Round, int, int]] = set()
        self._exhausted = False
        for number in sorted(ledger.points):
            self._learn(number)

    @property
    def waits(self) -> bool:
        """Whether trials are under way."""
        return bool(self._under_way)

    @property
    def num_done(self) -> int:
        """Trials that are finished or given up."""
        return len(self.ledger.outcomes.keys() | self.failures.keys())

    @property
    def num_planned(self) -> int:
        """Trials of the whole sweep, as far as is known."""
        configurations = len(self.ledger.points) if self._exhausted else self.proposer.trials
        return (configurations + min(self.finalists, configurations)) * len(self.seeds)

    def next_job(self) -> Job | None:
        """The next trial, which now is under way; None if there is none, or none before others are finished."""
        job = self._missing("search", sorted(self.ledger.points)) or self._propose()
        if job is None and not any(key[0] == "search" for key in self._under_way):
            job = self._missing("final", [each.number for each in self.ranking("search")[: self.finalists]])
        if job is not None:
            self._under_way.add(job.key)
        return job

    def put_back(self, job: Job) -> None:
        """A trial that was taken is not begun after all."""
        self._under_way.discard(job.key)

    def record(self, job: Job, outcome: Outcome) -> None:
        """Takes the outcome of a trial; on return it is on disk. One that is there already stays."""
        self._under_way.discard(job.key)
        if job.key in self.ledger.outcomes:
            return
        self.ledger.add_outcome(job, outcome)
        if job.round == "search":
            self._learn(job.number)

    def give_up(self, job: Job, message: str) -> None:
        """A trial cannot be finished; the sweep goes on without it, and one that is resumed tries it again."""
        self._under_way.discard(job.key)
        self.failures[job.key] = message

    def ranking(self, round_name: Round) -> list[Ranked]:
        """Configurations with an outcome for every seed, the best first."""
        found = {}
        for number in sorted(self.ledger.points):
            outcomes = self._outcomes(round_name, number)
            if outcomes is not None:
                found[number] = outcomes
        return rank(round_name, self.ledger.points, found, self.objective)

    def _missing(self, round_name: Round, numbers: Sequence[int]) -> Job | None:
        for number in numbers:
            for seed in self.seeds:
                job = Job(round_name, number, seed, self.ledger.points[number])
                if not any(job.key in keys for keys in (self.ledger.outcomes, self.failures, self._under_way)):
                    return job
        return None

    def _propose(self) -> Job | None:
        number = len(self.ledger.points)
        if self._exhausted:
            return None
        point = self.proposer.propose(number, list(self.ledger.points.values()))
        if point is None:
            self._exhausted = True
            return None
        self.ledger.add_point(number, point)
        return Job("search", number, self.seeds[0], point)

    def _learn(self, number: int) -> None:
        outcomes = self._outcomes("search", number)
        if outcomes is not None:
            ranked = rank("search", self.ledger.points, {number: outcomes}, self.objective)[0]
            self.proposer.learn(ranked.point, ranked.score)

    def _outcomes(self, round_name: Round, number: int) -> list[Outcome] | None:
        """Of every seed, in their order; None while one is missing."""
        found = [self.ledger.outcomes.get((round_name, number, seed)) for seed in self.seeds]
        complete = [outcome for outcome in found if outcome is not None]
        return complete if len(complete) == len(found) else None
