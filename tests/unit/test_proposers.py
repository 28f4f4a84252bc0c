"""Searchers: what they propose is new, valid, and depends on seed, number and experience alone."""

import sys

import pytest

from system.config import SweepConfig
from system.errors import ConfigError
from system.sweeps.proposers import OptunaProposer, Proposer, make_proposer
from system.sweeps.search_space import parse_space

SPACE = parse_space(
    {
        "planner.horizon": {"grid": [1, 2, 3]},
        "planner.td_lambda": {"uniform": [0, 1], "when": {"planner.horizon": [2, 3]}},
        "planner.temperature": {"loguniform": [0.1, 10]},
        "planner.num_candidates": {"randint": [1, 64]},
    }
)
LISTED = parse_space({"planner.horizon": {"grid": [1, 2, 3]}, "planner.beam_width": {"choice": [1, 2]}})


def propose(proposer: Proposer, count: int) -> list[dict]:
    points: list[dict] = []
    while len(points) < count and (point := proposer.propose(len(points), points)) is not None:
        points.append(point)
    return points


def test_a_grid_is_gone_through_without_what_does_not_fit() -> None:
    config = SweepConfig(searcher="grid")
    proposer = make_proposer(
        config, LISTED, lambda point: point["planner.horizon"] * point["planner.beam_width"] < 6
    )
    points = propose(proposer, 100)
    assert proposer.trials == len(points) == 5
    assert {"planner.horizon": 3, "planner.beam_width": 2} not in points


def test_random_draws_go_through_the_grid_in_turn() -> None:
    points = propose(make_proposer(SweepConfig(trials=9), SPACE, lambda point: True), 9)
    assert [point["planner.horizon"] for point in points] == [1, 2, 3] * 3
    assert len({point["planner.temperature"] for point in points}) == 9


def test_random_draws_follow_from_seed_and_number() -> None:
    first, second, other = (
        make_proposer(SweepConfig(trials=9, seed=seed), SPACE, lambda point: True) for seed in (0, 0, 1)
    )
    points = propose(first, 5)
    assert second.propose(4, points[:4]) == points[4]
    assert other.propose(4, points[:4]) != points[4]


def test_random_draws_end_when_there_is_nothing_new() -> None:
    points = propose(make_proposer(SweepConfig(trials=50), LISTED, lambda point: True), 50)
    assert len(points) == 6
    assert len(propose(make_proposer(SweepConfig(trials=4), LISTED, lambda point: True), 50)) == 4


def test_random_draws_fit() -> None:
    proposer = make_proposer(SweepConfig(trials=6), SPACE, lambda point: point["planner.num_candidates"] > 32)
    assert all(point["planner.num_candidates"] > 32 for point in propose(proposer, 6))


def distance(point: dict) -> float:
    return abs(point["planner.num_candidates"] - 50) + 10 * abs(point["planner.horizon"] - 2)


def test_optuna_learns_what_is_good_and_repeats_itself() -> None:
    pytest.importorskip("optuna")
    config = SweepConfig(searcher="optuna", trials=40)
    searched: list[dict] = []
    proposer = make_proposer(config, SPACE, lambda point: True)
    for number in range(40):
        point = proposer.propose(number, searched)
        assert point is not None
        assert point not in searched
        assert ("planner.td_lambda" in point) == (point["planner.horizon"] > 1)
        searched.append(point)
        proposer.learn(point, -distance(point))
    early, late = searched[:10], searched[-10:]
    assert sum(map(distance, late)) < 0.8 * sum(map(distance, early))
    # A sweep that is resumed learns from its ledger, and goes on with the same proposal.
    again = make_proposer(config, SPACE, lambda point: True)
    for point in searched[:20]:
        again.learn(point, -distance(point))
    assert again.propose(20, searched[:20]) == searched[20]
    assert proposer.propose(40, searched) is None


def test_optuna_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"searcher: optuna is not installed; pip install .*\[sweep\]"):
        OptunaProposer(LISTED, lambda point: True, 0, 4)


def test_searcher_trials_and_space_go_together() -> None:
    with pytest.raises(ConfigError, match="trials: needed with searcher random"):
        make_proposer(SweepConfig(), SPACE, lambda point: True)
    with pytest.raises(ConfigError, match="trials: does not go with searcher grid"):
        make_proposer(SweepConfig(searcher="grid", trials=3), LISTED, lambda point: True)
    with pytest.raises(ConfigError, match=r"space.planner.\w+: \w+ has no grid"):
        make_proposer(SweepConfig(searcher="grid"), SPACE, lambda point: True)
    with pytest.raises(ConfigError, match="space: no combination"):
        make_proposer(SweepConfig(searcher="grid"), LISTED, lambda point: False)
