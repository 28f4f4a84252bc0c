"""The configurations of a sweep by what they reached: ranks, intervals, differences, and the Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from system.evaluation.statistics import interquartile_mean, match_episodes, mean, paired_difference

Objective = Literal["return_mean", "return_iqm"]
Round = Literal["search", "final"]
Point = dict[str, Any]
"""A configuration that is tried: key → value, as JSON knows them; keys whose condition fails are left out."""

NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Outcome:
    """What a trial, one configuration with one seed, came to.

    Attributes:
        returns: undiscounted, of each episode; of a trial that was stopped the mean of its last evaluation.
        seeds: of these episodes; 0 stands for those of an evaluation.
        decision_ms: median time of a decision for a single environment; None if nothing was timed.
        seconds: that the trial took.
        process: that worked on it.
        stopped_env_steps: env steps at which the scheduler stopped it; None if it was finished.
    """

    returns: list[float]
    seeds: list[int]
    decision_ms: float | None
    seconds: float
    process: int
    stopped_env_steps: int | None = None


@dataclass(frozen=True)
class Ranked:
    """A configuration and what it reached in one round.

    Attributes:
        round: the search, or the comparison of the best.
        number: of the configuration.
        point: the configuration.
        outcomes: of each seed.
        score: the objective over all episodes of all seeds.
        low, high: its 95 % interval; with several seeds these are resampled first, then their episodes.
        decision_ms: median over the seeds; None if nothing was timed.
        stopped: whether the scheduler stopped one of its trials.
    """

    round: Round
    number: int
    point: Point
    outcomes: tuple[Outcome, ...]
    score: float
    low: float
    high: float
    decision_ms: float | None
    stopped: bool


@dataclass(frozen=True)
class Difference:
    """The best configuration against another one.

    Attributes:
        number: of the other.
        value: mean return of the best − that of the other, over episodes with the same seeds.
        low, high: 95 % interval, as in `Ranked`.
        pairs: of episodes.
    """

    number: int
    value: float
    low: float
    high: float
    pairs: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def rank(
    round_name: Round,
    points: Mapping[int, Point],
    outcomes: Mapping[int, Sequence[Outcome]],
    objective: Objective,
) -> list[Ranked]:
    """Configurations from the best to the worst; those that were stopped stand behind all others.

    Args:
        round_name: of the outcomes.
        points: configurations by number.
        outcomes: of some of them, one for each seed.
        objective: how episodes become a score.
    """
    ranked = [
        _judge(round_name, number, points[number], tuple(found), objective) for number, found in outcomes.items()
    ]
    return sorted(ranked, key=lambda each: (each.stopped, -each.score, each.number))


def differences_to_best(ranking: Sequence[Ranked]) -> list[Difference]:
    """The first of a ranking against each of the others, those without a common episode left out."""
    found = []
    for other in ranking[1:]:
        pairs = [
            match_episodes(_by_seed(a), _by_seed(b))
            for a, b in zip(ranking[0].outcomes, other.outcomes, strict=True)
        ]
        pairs = [pair for pair in pairs if len(pair[0])]
        if pairs:
            value, (low, high) = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
            found.append(Difference(other.number, value, low, high, sum(len(a) for a, _ in pairs)))
    return found


def pareto_front(ranking: Sequence[Ranked]) -> list[Ranked]:
    """Those that none beats in both score and decision time, the fastest first; untimed ones are left out."""
    timed = [each for each in ranking if each.decision_ms is not None]
    front: list[Ranked] = []
    for each in sorted(timed, key=lambda each: (each.decision_ms, -each.score)):
        if not front or each.score > front[-1].score:
            front.append(each)
    return front


def _judge(
    round_name: Round, number: int, point: Point, outcomes: tuple[Outcome, ...], objective: Objective
) -> Ranked:
    runs = [np.asarray(outcome.returns, np.float64) for outcome in outcomes]
    statistic = interquartile_mean if objective == "return_iqm" else mean
    low, high = _interval(runs, statistic)
    times = [outcome.decision_ms for outcome in outcomes if outcome.decision_ms is not None]
    return Ranked(
        round=round_name,
        number=number,
        point=point,
        outcomes=outcomes,
        score=float(statistic(np.concatenate(runs))),
        low=low,
        high=high,
        decision_ms=float(np.median(times)) if times else None,
        stopped=any(outcome.stopped_env_steps is not None for outcome in outcomes),
    )


def _interval(runs: Sequence[np.ndarray], statistic: Any) -> tuple[float, float]:
    """Percentile bootstrap over all episodes; of several runs these are drawn first, then episodes of each."""
    lengths = np.array([len(run) for run in runs])
    values = np.zeros((len(runs), lengths.max()))
    for row, run in zip(values, runs, strict=True):
        row[: len(run)] = run
    generator = np.random.default_rng(0)
    chosen = generator.integers(len(runs), size=(NUM_RESAMPLES, len(runs)))[..., None]
    places = (generator.random((NUM_RESAMPLES, *values.shape)) * lengths[chosen]).astype(int)
    samples = statistic(values[chosen, places].reshape(NUM_RESAMPLES, -1))
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def _by_seed(outcome: Outcome) -> dict[int, float]:
    return dict(zip(outcome.seeds, outcome.returns, strict=True))
