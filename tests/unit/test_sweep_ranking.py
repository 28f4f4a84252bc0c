"""Ranks, intervals, differences and the Pareto front of a sweep's configurations."""

import numpy as np
import pytest

from system.sweeps.ranking import Outcome, Ranked, differences_to_best, pareto_front, rank

GENERATOR = np.random.default_rng(0)


def outcome(returns: list[float], *, milliseconds: float | None = 1.0, first: int = 0, stopped: int | None = None):
    return Outcome(returns, list(range(first, first + len(returns))), milliseconds, 1.0, 7, stopped)


def ranking_of(outcomes: dict[int, list[Outcome]], objective: str = "return_mean") -> list[Ranked]:
    return rank("search", {number: {"planner.horizon": number} for number in outcomes}, outcomes, objective)


def test_the_best_comes_first_and_what_was_stopped_last() -> None:
    found = ranking_of({1: [outcome([5.0])], 2: [outcome([9.0], stopped=100)], 3: [outcome([7.0])]})
    assert [each.number for each in found] == [3, 1, 2]
    assert [each.stopped for each in found] == [False, False, True]


def test_the_objective_decides() -> None:
    outcomes = {1: [outcome([0.0, 10.0, 10.0, 100.0])], 2: [outcome([20.0, 20.0, 20.0, 20.0])]}
    assert [each.number for each in ranking_of(outcomes)] == [1, 2]
    by_middle = ranking_of(outcomes, "return_iqm")
    assert [(each.number, each.score) for each in by_middle] == [(2, 20.0), (1, 10.0)]


def test_an_interval_over_seeds_knows_that_seeds_differ() -> None:
    alike = [outcome(list(GENERATOR.normal(0, 1, 20)), first=20 * seed) for seed in range(3)]
    apart = [outcome(list(GENERATOR.normal(10 * seed, 1, 20)), first=20 * seed) for seed in range(3)]
    one, several = ranking_of({1: alike})[0], ranking_of({1: apart})[0]
    assert one.high - one.low < 1.5
    assert several.high - several.low > 10
    assert several.low <= several.score <= several.high


def test_an_interval_of_unequal_numbers_of_episodes_stays_among_them() -> None:
    # Zeros that only fill up must not be drawn.
    found = ranking_of({1: [outcome([50.0]), outcome([60.0, 70.0, 80.0], first=5)]})[0]
    assert 50.0 <= found.low <= found.high <= 80.0


def test_differences_are_paired_by_episode() -> None:
    common = GENERATOR.normal(1000, 10, 12)
    found = ranking_of(
        {
            1: [outcome(list(common + 2))],
            2: [outcome(list(common))],
            3: [outcome(list(common + GENERATOR.normal(-5, 100, 12) - 1.0))],
            4: [outcome([-1e6], first=99)],
        }
    )
    found.sort(key=lambda each: each.number)
    first, second = differences_to_best(found)
    assert (first.number, first.pairs) == (2, 12)
    assert first.value == pytest.approx(2.0)
    assert first.is_clear
    assert second.number == 3
    assert not second.is_clear


def test_the_front_holds_what_none_beats_in_both() -> None:
    found = ranking_of(
        {
            1: [outcome([10.0], milliseconds=1.0)],
            2: [outcome([20.0], milliseconds=2.0)],
            3: [outcome([15.0], milliseconds=3.0)],
            4: [outcome([30.0], milliseconds=4.0)],
            5: [outcome([99.0], milliseconds=None)],
            6: [outcome([9.0], milliseconds=1.0)],
        }
    )
    assert [each.number for each in pareto_front(found)] == [1, 2, 4]
    assert pareto_front([]) == []
