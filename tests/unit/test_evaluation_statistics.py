"""Means and intervals against closed forms, and against how often they cover what is known."""

from collections.abc import Callable

import numpy as np
import pytest

from system.errors import ShapeError
from system.evaluation.statistics import (
    bootstrap_interval,
    hierarchical_interval,
    interquartile_mean,
    match_episodes,
    mean,
    paired_difference,
    stratified_interval,
)

NORMAL_975 = 1.959964


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def coverage(draw: Callable[[np.random.Generator], tuple[float, float]], truth: float, repetitions: int) -> float:
    generator = np.random.default_rng(7)
    intervals = [draw(generator) for _ in range(repetitions)]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 9.0], 4.0),
        ([9.0, 1.0, 2.0, 3.0], 2.5),
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 100.0], 5.5),
        ([1.0, 2.0, 3.0, 4.0, 60.0], 3.0),
    ],
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end(values: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(expected)
    assert interquartile_mean(np.array([values, [2.0 * value for value in values]])) == pytest.approx(
        [expected, 2.0 * expected]
    )


def test_the_interquartile_mean_of_an_exponential_distribution() -> None:
    """2 ∫ x e^(−x) dx between its quartiles ln 4/3 and ln 4."""
    quantiles = -np.log1p(-(np.arange(40_000) + 0.5) / 40_000)
    expected = 1.5 * (np.log(4.0 / 3.0) + 1.0) - 0.5 * (np.log(4.0) + 1.0)
    assert interquartile_mean(quantiles) == pytest.approx(expected, abs=1e-4)
    assert mean(quantiles) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("level", "expected"), [(0.95, (0.0, 1.0)), (0.4, (0.5, 0.5))])
def test_the_interval_of_two_values(level: float, expected: tuple[float, float]) -> None:
    """Resampled means are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4."""
    assert bootstrap_interval(np.array([0.0, 1.0]), level=level) == expected


def test_the_interval_of_many_values_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(values)
    arm = NORMAL_975 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - arm, values.mean() + arm), abs=0.06 * arm)
    assert width(bootstrap_interval(values, level=0.5)) == pytest.approx(2 * arm * 0.674490 / NORMAL_975, rel=0.06)
    assert bootstrap_interval(values, seed=1) != (low, high) == bootstrap_interval(values)


def test_the_interval_is_of_the_statistic_asked_for() -> None:
    values = np.array([*np.linspace(0.0, 1.0, 40), 1000.0])
    assert bootstrap_interval(values, interquartile_mean)[1] < 1.0
    assert bootstrap_interval(values)[1] > 20.0


def test_the_interval_of_one_run_covers_the_truth_nearly_as_often_as_it_says() -> None:
    def draw(generator: np.random.Generator) -> tuple[float, float]:
        return bootstrap_interval(generator.normal(3.0, 2.0, size=20), num_resamples=500)

    assert 0.89 <= coverage(draw, truth=3.0, repetitions=400) <= 0.97
    assert coverage(draw, truth=4.5, repetitions=400) < 0.2


def test_nothing_to_resample_is_refused() -> None:
    with pytest.raises(ShapeError, match="no episodes"):
        bootstrap_interval(np.zeros(0))
    with pytest.raises(ShapeError, match="no episodes"):
        hierarchical_interval([])
    with pytest.raises(ShapeError, match="no episodes"):
        hierarchical_interval([np.ones(3), np.zeros(0)])


def test_of_a_single_run_its_episodes_are_resampled() -> None:
    values = np.random.default_rng(1).normal(size=30)
    expected = bootstrap_interval(values)
    assert hierarchical_interval([values]) == pytest.approx(expected, abs=0.05 * width(expected))
    assert hierarchical_interval([np.array([4.0])]) == (4.0, 4.0)


def test_runs_without_spread_of_their_own_still_differ() -> None:
    """Means of two drawn runs are 0, 1/2, 1; the pooled episodes would say 0.5 ± 0.1."""
    runs = [np.zeros(50), np.ones(50)]
    assert hierarchical_interval(runs) == (0.0, 1.0)
    assert width(bootstrap_interval(np.concatenate(runs))) < 0.25


def test_the_interval_adds_the_variance_between_runs_to_that_within() -> None:
    """B/k + W/(k·n) for k runs of n episodes, B and W being the variances of what is resampled."""
    generator = np.random.default_rng(2)
    episodes = generator.normal(size=10)
    within = episodes.var() / (20 * 10)
    alike = hierarchical_interval([episodes.copy() for _ in range(20)], num_resamples=4000)
    assert width(alike) == pytest.approx(2 * NORMAL_975 * np.sqrt(within), rel=0.07)
    shifts = generator.normal(size=20)
    apart = hierarchical_interval([episodes + shift for shift in shifts], num_resamples=4000)
    assert width(apart) == pytest.approx(2 * NORMAL_975 * np.sqrt(shifts.var() / 20 + within), rel=0.07)
    assert width(apart) > 2.0 * width(alike)


def test_copies_of_a_run_have_episodes_of_their_own() -> None:
    """Were they shared, the variance would be almost twice W/(k·n)."""
    episodes = np.random.default_rng(3).normal(size=25)
    expected = 2 * NORMAL_975 * episodes.std() / np.sqrt(4 * 25)
    assert width(hierarchical_interval([episodes.copy() for _ in range(4)])) == pytest.approx(expected, rel=0.06)


def test_intervals_across_runs_cover_the_truth_where_pooled_ones_do_not() -> None:
    def draw_runs(generator: np.random.Generator) -> list[np.ndarray]:
        return [generator.normal(generator.normal(5.0, 1.0), 1.0, size=10) for _ in range(10)]

    def draw(generator: np.random.Generator) -> tuple[float, float]:
        return hierarchical_interval(draw_runs(generator), num_resamples=300)

    def draw_pooled(generator: np.random.Generator) -> tuple[float, float]:
        return bootstrap_interval(np.concatenate(draw_runs(generator)), num_resamples=300)

    hierarchical, pooled = (coverage(each, truth=5.0, repetitions=200) for each in (draw, draw_pooled))
    assert 0.86 <= hierarchical <= 0.98
    assert pooled < 0.7


def test_every_run_counts_the_same_however_many_episodes_it_has_left() -> None:
    difference, interval = paired_difference([np.full(2, 3.0), np.full(90, 1.0)], [np.zeros(2), np.zeros(90)])
    assert difference == 2.0
    assert interval == (1.0, 3.0)


def test_the_difference_is_first_minus_second() -> None:
    first, second = np.array([5.0, 7.0]), np.array([1.0, 1.0])
    difference, (low, high) = paired_difference([first], [second])
    assert (difference, low, high) == (5.0, 4.0, 6.0)
    assert paired_difference([second], [first]) == (-5.0, (-6.0, -4.0))


def test_pairing_takes_out_what_both_share() -> None:
    luck = np.random.default_rng(4).normal(scale=100.0, size=(3, 20))
    difference, interval = paired_difference(list(luck + 2.0), list(luck))
    assert (difference, *interval) == pytest.approx((2.0, 2.0, 2.0))
    _, unpaired = paired_difference(list(luck + 2.0), list(luck[:, ::-1].copy()))
    assert width(unpaired) > 20.0


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ShapeError, match="can't be paired"):
        paired_difference([np.ones(20)], [np.ones(1)])
    with pytest.raises(ShapeError, match="can't be paired"):
        paired_difference([np.ones(2)], [np.ones(2), np.ones(2)])


def test_episodes_are_matched_by_their_seeds() -> None:
    first, second = match_episodes({3: 30.0, 1: 10.0, 2: 20.0}, {2: -2.0, 4: -4.0, 3: -3.0})
    assert first.tolist() == [20.0, 30.0]
    assert second.tolist() == [-2.0, -3.0]
    assert [len(each) for each in match_episodes({1: 1.0}, {2: 1.0})] == [0, 0]


def run_of(*games: float, episodes: int = 1) -> list[np.ndarray]:
    return [np.full(episodes, game) for game in games]


def test_a_statistic_over_games_is_of_every_run_in_every_game() -> None:
    """Eight cells 0 … 7 in two games: the middle four are 2 … 5. Episodes count within their run alone."""
    groups = (range(4), range(4, 8))
    strata = [[run_of(float(value), episodes=1 + value) for value in group] for group in groups]
    assert stratified_interval(strata)[0] == 3.5
    strata[1][3][0][:] = 700.0
    assert stratified_interval(strata)[0] == 3.5
    assert stratified_interval(strata, mean)[0] == pytest.approx((21 + 700) / 8)


def test_games_are_never_resampled_and_runs_only_among_those_of_their_game() -> None:
    """Two games of two runs each: the mean of four is of 0, 1 (twice a game) and 100: no game is ever left out."""
    strata = [[run_of(0.0), run_of(4.0)], [run_of(100.0), run_of(104.0)]]
    value, (low, high) = stratified_interval(strata, mean, level=1.0)
    assert (value, low, high) == (52.0, 50.0, 54.0)
    alike = [[run_of(0.0), run_of(0.0)], [run_of(100.0), run_of(100.0)]]
    assert stratified_interval(alike, mean) == (50.0, (50.0, 50.0))


def test_a_run_is_drawn_with_all_its_games() -> None:
    """What one run gains in a game it loses in the other: together its runs are all the same."""
    value, interval = stratified_interval([[run_of(0.0, 10.0), run_of(10.0, 0.0), run_of(4.0, 6.0)]], mean)
    assert (value, interval) == (5.0, (5.0, 5.0))
    apart = [[run_of(0.0), run_of(10.0), run_of(4.0)], [run_of(10.0), run_of(0.0), run_of(6.0)]]
    assert width(stratified_interval(apart, mean)[1]) > 4.0


def test_episodes_of_a_single_run_of_each_game_are_resampled() -> None:
    episodes = np.array([0.0, 1.0])
    value, interval = stratified_interval([[[episodes]], [[episodes + 10.0]]], mean, level=1.0)
    assert (value, interval) == (5.5, (5.0, 6.0))


def test_of_one_game_it_is_the_interval_over_seeds() -> None:
    runs = [np.random.default_rng(seed).normal(seed, 1.0, size=20) for seed in range(5)]
    _, ours = stratified_interval([[[run] for run in runs]], mean)
    assert ours == pytest.approx(hierarchical_interval(runs), abs=0.1)


def test_runs_of_a_stratum_must_play_the_same_games() -> None:
    with pytest.raises(ShapeError, match="differ in their games"):
        stratified_interval([[run_of(1.0, 2.0), run_of(1.0)]])
    for nothing in ([], [[[np.zeros(0)]]]):
        with pytest.raises(ShapeError, match="no episodes"):
            stratified_interval(nothing)
