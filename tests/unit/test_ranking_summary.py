"""Records of how utilities rank, their lines and picture, and what keeps them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from system.config import RunConfig
from system.config.registry import FAMILIES
from system.evaluation.policies import follower_name
from system.evaluation.ranking_figure import draw_utility_ranking
from system.evaluation.ranking_summary import format_rankings, ranking_figures, ranking_record
from system.runs.progress import Progress
from system.types import UtilityRanking
from tests.support import toy_family
from tests.support.configs import masked_config, world_config

RANKING = UtilityRanking(
    [0.5, -0.5, 0.6], [1.0, -0.4, 0.3], horizon=4, num_candidates=12, num_left_out=2, episodes=[1, 2, 3]
)
NOTHING = UtilityRanking([], [], horizon=None, num_candidates=12, num_left_out=5, episodes=[])


def record(ranking: UtilityRanking = RANKING, **changes: Any) -> dict[str, Any]:
    return {**ranking_record("offline", "Hopper-v5", "planner", ranking), **changes}


def test_a_record_has_means_and_their_intervals() -> None:
    found = record()
    assert (found["spearman"], found["gain_share"]) == pytest.approx((0.2, 0.3))
    for value, interval, values in (
        ("spearman", "ci95", RANKING.correlations),
        ("gain_share", "gain_share_ci95", RANKING.gain_shares),
    ):
        low, high = found[interval]
        assert min(values) - 1e-9 < low < found[value] < high < max(values) + 1e-9
    assert (found["states"], found["left_out"], found["candidates"], found["horizon"]) == (3, 2, 12, 4)
    assert ranking_figures(found) == pytest.approx({("ranking", "spearman"): 0.2, ("ranking", "gain_share"): 0.3})


def test_of_no_state_there_is_no_mean_and_of_one_no_interval(tmp_path: Path) -> None:
    none = record(NOTHING)
    assert [none[name] for name in ("spearman", "ci95", "gain_share", "gain_share_ci95")] == [None] * 4
    assert ranking_figures(none) == {}
    one = record(replace(NOTHING, correlations=[0.25], gain_shares=[0.5], episodes=[1]))
    assert (one["spearman"], one["ci95"], one["gain_share_ci95"]) == (0.25, None, None)
    json.dumps([none, one], allow_nan=False)
    assert "–" in format_rankings([none]) and "5 left out" in format_rankings([none])
    assert "+0.25 –" in format_rankings([one])
    draw_utility_ranking([none], "offline", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists(), "there is nothing to show"
    draw_utility_ranking([none, one, record()], "offline", tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 0


def test_intervals_are_over_episodes_whose_states_are_alike() -> None:
    alike = replace(RANKING, correlations=[0.2, 0.2, 0.2, 0.8], gain_shares=[0.0] * 4, episodes=[7, 7, 7, 8])
    found = record(alike)
    assert found["spearman"] == pytest.approx(0.35)
    means = replace(alike, correlations=[0.2, 0.8], gain_shares=[0.0] * 2, episodes=[7, 8])
    assert found["ci95"] == pytest.approx(record(means)["ci95"])
    assert record(replace(alike, episodes=[7] * 4))["ci95"] is None


def test_what_is_reachable_is_said_where_it_is_known() -> None:
    assert "reachable" not in format_rankings([record()])
    assert record()["reachable"] is None
    known = record(replace(RANKING, reachable=[0.5, 0.7]))
    assert known["reachable"] == pytest.approx(0.6)
    assert "linearly reachable +0.60" in format_rankings([known])


def test_a_line_a_record_that_names_the_environment_where_there_are_several() -> None:
    here, there = record(), record(environment="Ant-v5", left_out=0)
    assert len(format_rankings([here, here]).splitlines()) == 3
    assert "Hopper" not in format_rankings([here, here])
    lines = format_rankings([here, there]).splitlines()
    assert "Hopper-v5 planner" in lines[1] and "left out" in lines[1]
    assert "Ant-v5 planner" in lines[2] and "left out" not in lines[2]


def test_progress_keeps_records_and_earlier_checkpoints_have_none() -> None:
    progress = Progress(utility_rank_correlation=[record()])
    kept = json.loads(json.dumps(progress.to_dict()))
    assert Progress.from_dict(kept).utility_rank_correlation == [record()]
    del kept["utility_rank_correlation"]
    assert Progress.from_dict(kept).utility_rank_correlation == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [(masked_config(), "rcbc_mode"), (world_config(), "q_greedy")],
    ids=["masked_trajectory", "world_action"],
)
def test_what_follows_does_not_plan(config: RunConfig, expected: str) -> None:
    assert follower_name(config) == expected


def test_a_planner_that_stays_one_at_horizon_0_is_followed_by_a_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, toy_family.NAME, toy_family.FAMILY)
    config = RunConfig(family=toy_family.NAME)
    assert toy_family.FAMILY.planner_policy(config) == "toy_forward_mpc"
    assert follower_name(config) == "linear"
