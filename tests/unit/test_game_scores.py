"""Atari scores against figures worked out by hand."""

import numpy as np
import pytest

from system.envs.atari_games import GAMES
from system.evaluation.game_scores import (
    aggregate_scores,
    format_games,
    game_score,
    reference_range,
    summarize_games,
)
from system.evaluation.statistics import mean

PONG, BREAKOUT, ALIEN = "ALE/Pong-v5", "ALE/Breakout-v5", "ALE/Alien-v5"
AIR_RAID = "ALE/AirRaid-v5"  # nobody's score is known


def record(environment: str, policy: str, returns: list[float], stage: str = "offline") -> dict:
    return {"environment": environment, "policy": policy, "stage": stage, "returns": returns}


def test_random_play_scores_0_and_the_reference_100() -> None:
    """Pong: −20.7, 14.6 and 16.6; Breakout: 1.7, 30.5 and 96.2."""
    assert game_score(PONG, "human", -20.7) == 0.0
    assert game_score(PONG, "human", 14.6) == pytest.approx(100.0)
    assert game_score(PONG, "dqn", 16.6) == pytest.approx(100.0)
    assert game_score(BREAKOUT, "human", 16.1) == pytest.approx(50.0)
    assert game_score(BREAKOUT, "dqn", 1.7 + 94.5 * 2) == pytest.approx(200.0)
    assert game_score(PONG, "human", 35.3, difference=True) == pytest.approx(100.0)


def test_what_is_not_known_has_no_score() -> None:
    assert game_score(ALIEN, "human", 1000.0) == pytest.approx(100 * (1000.0 - 227.8) / (7127.7 - 227.8))
    assert game_score(ALIEN, "dqn", 1000.0) is None
    assert game_score(AIR_RAID, "human", 1000.0) is None
    assert game_score("Hopper-v5", "human", 1000.0) is None


def test_every_scale_goes_upwards() -> None:
    ranges = [reference_range(game, each) for game in GAMES for each in ("human", "dqn")]
    known = [each for each in ranges if each is not None]
    assert len(known) == 56 + 21
    assert all(low < high for low, high in known)


def test_scores_are_aggregated_over_games_and_runs() -> None:
    """Human-normalised 0 and 100 in Pong, 50 in Breakout by one run each."""
    strata = [
        [{PONG: np.array([-20.7, -20.7])}, {PONG: np.array([14.6])}],
        [{BREAKOUT: np.array([16.1, 16.1])}],
    ]
    found = aggregate_scores(strata, "human", statistic=mean)
    assert found is not None
    assert (found.environments, found.num_runs) == ([PONG, BREAKOUT], 3)
    assert found.value == pytest.approx(50.0)
    assert (found.low, found.high) == (pytest.approx(50 / 3), pytest.approx(250 / 3))
    gains = aggregate_scores([[{PONG: np.array([35.3])}]], "human", difference=True)
    assert gains is not None
    assert gains.value == pytest.approx(100.0)


def test_the_statistic_is_an_interquartile_mean() -> None:
    """Of five cells 0, 0, 50, 100 and 1000, the least and the largest are left out."""
    returns = [1.7, 1.7, 16.1, 30.5, 1.7 + 288.0]
    found = aggregate_scores([[{BREAKOUT: np.array([each])} for each in returns]], "human")
    assert found is not None
    assert found.value == pytest.approx(50.0)


def test_games_without_a_reference_and_runs_without_a_game_are_left_out() -> None:
    strata = [
        [{PONG: np.array([16.6]), ALIEN: np.array([0.0])}, {ALIEN: np.array([1.0])}],
        [{AIR_RAID: np.array([5.0])}],
    ]
    found = aggregate_scores(strata, "dqn")
    assert found is not None
    assert (found.environments, found.num_runs, found.value) == ([PONG], 1, pytest.approx(100.0))
    assert aggregate_scores(strata[1:], "human") is None
    assert aggregate_scores([], "human") is None


def test_a_summary_holds_each_game_and_all_together() -> None:
    records = [
        record(PONG, "beam", [14.6, 14.6], "online"),
        record(PONG, "beam", [-20.7, 14.6]),
        record(ALIEN, "beam", [227.8, 227.8]),
        record("Hopper-v5", "beam", [1000.0]),
    ]
    first, second = summarize_games(records)
    assert (first["stage"], second["stage"], first["policy"]) == ("offline", "online", "beam")
    assert first["games"] == {
        PONG: {"human": pytest.approx(50.0), "dqn": pytest.approx(100 * 17.65 / 37.3)},
        ALIEN: {"human": 0.0, "dqn": None},
    }
    assert first["human"]["iqm"] == pytest.approx(25.0)
    assert first["human"]["ci95"] == [pytest.approx(0.0), pytest.approx(50.0)]
    assert (first["human"]["games"], first["dqn"]["games"]) == (2, 1)
    assert second["human"]["iqm"] == pytest.approx(100.0)
    assert summarize_games(records[3:]) == []


def test_a_person_is_told_which_games_have_no_score() -> None:
    both = [record(PONG, "beam", [14.6, 14.6]), record(ALIEN, "beam", [7127.7])]
    lines = format_games(summarize_games(both)).splitlines()
    assert lines[0].startswith("interquartile mean over 2 games [95 % over episodes]; random play 0")
    assert lines[1].split() == "beam offline human 100.0 [100.0, 100.0] DQN 94.6 [94.6, 94.6]".split()
    assert lines[2] == f"(no score of DQN is known of {ALIEN})"
    alone = format_games(summarize_games([record(ALIEN, "beam", [7127.7])])).splitlines()
    assert alone[0].startswith(ALIEN)
    assert alone[1].split() == "beam offline human 100.0 [100.0, 100.0] DQN –".split()
    assert format_games([]) == ""
