"""Returns-to-go of episodes that end without termination: as observed, continued, or unknown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import ENVIRONMENTS, make_dataset, make_episode, make_episodes
from hypothesis import given
from hypothesis import strategies as st

from system.config import DatasetConfig
from system.config.sections import EndReading
from system.data.doctor import check_dataset
from system.data.loading import load_dataset
from system.data.replay.buffer import ReplayBuffer
from system.data.replay.sampling import SampleRequest
from system.data.store.column_files import is_current
from system.data.store.episodes import EpisodeStore, concatenate, gather_segments
from system.data.store.returns import AS_OBSERVED, EndReadings, label_returns, returns_to_go, worth_of_going_on
from system.data.store.statistics import compute_statistics
from system.errors import DataError
from system.types import Episode, EpisodeKey

CONTINUED = EndReadings("continued", "continued")
READINGS: tuple[EndReading, ...] = ("complete", "continued", "unknown")


def labels(
    rewards: list[float] | np.ndarray, discount: float, ending: str, readings: EndReadings
) -> tuple[np.ndarray, np.ndarray]:
    return label_returns(
        np.asarray(rewards, dtype=np.float32),
        discount,
        terminated=ending == "terminated",
        at_limit=ending == "time_limit",
        readings=readings,
    )


@pytest.mark.parametrize("ending", ["time_limit", "cut"])
def test_an_episode_that_is_ended_at_a_steady_pace_is_worth_the_same_all_along(ending: str) -> None:
    observed, known = labels([1.0] * 10, 0.99, ending, EndReadings("complete", "complete"))
    assert known.all()
    np.testing.assert_allclose(observed[[0, -1]], [9.56, 1.0], atol=0.01)
    continued, known = labels([1.0] * 10, 0.99, ending, CONTINUED)
    assert known.all()
    np.testing.assert_allclose(continued, 100.0, rtol=1e-6)
    unread, known = labels([1.0] * 10, 0.99, ending, EndReadings("unknown", "unknown"))
    assert not known.any()
    np.testing.assert_array_equal(unread, observed)


@pytest.mark.parametrize("reading", READINGS)
@given(st.lists(st.floats(-5.0, 5.0, width=32), min_size=1, max_size=30), st.floats(0.0, 1.0))
def test_nothing_comes_after_a_terminal_state(reading: EndReading, rewards: list[float], discount: float) -> None:
    values, known = labels(rewards, discount, "terminated", EndReadings(reading, reading))
    assert known.all()
    np.testing.assert_array_equal(values, returns_to_go(np.asarray(rewards, np.float32), discount).astype("f4"))


@given(st.lists(st.floats(-5.0, 5.0, width=32), min_size=1, max_size=30), st.floats(0.0, 1.0))
def test_continued_labels_are_discounted_sums_that_end_in_what_goes_on(
    rewards: list[float], discount: float
) -> None:
    given_rewards = np.asarray(rewards, dtype=np.float32)
    values, _ = labels(rewards, discount, "time_limit", CONTINUED)
    following = np.append(values[1:].astype(np.float64), worth_of_going_on(given_rewards, discount))
    np.testing.assert_allclose(values, given_rewards + discount * following, rtol=1e-4, atol=1e-3)


def test_the_pace_is_that_of_the_last_quarter_of_the_horizon() -> None:
    rewards = np.concatenate([np.zeros(60), np.full(5, 8.0), np.full(20, 2.0)])
    assert worth_of_going_on(rewards, 0.99) == pytest.approx(100.0 * (5 * 8.0 + 20 * 2.0) / 25)
    assert worth_of_going_on(rewards[:-15], 0.8) == pytest.approx(5.0 * 2.0), "at least one step of five"
    assert worth_of_going_on(np.array([3.0, -1.0]), 0.0) == -1.0
    assert worth_of_going_on(np.array([3.0, 1.0]), 1.0) == pytest.approx(20 * 2.0), "ten times as long at most"


def test_going_on_is_worth_no_more_than_the_best_stretch_and_no_less_than_the_worst() -> None:
    rewards = np.ones(1000)
    rewards[-25:] = 3.0
    seen = returns_to_go(rewards, 0.99)[: 1000 - 229]
    assert seen.max() < 150.0
    assert worth_of_going_on(rewards, 0.99) == pytest.approx(seen.max())
    rewards[-25:] = -3.0
    seen = returns_to_go(rewards, 0.99)[: 1000 - 229]
    assert worth_of_going_on(rewards, 0.99) == pytest.approx(seen.min())


def test_labels_that_a_time_limit_changes_by_a_tenth_are_unknown() -> None:
    observed, known = labels([1.0] * 1000, 0.99, "time_limit", EndReadings("unknown"))
    assert known.tolist() == [True] * (1000 - 229) + [False] * 229, "γ^229 is just above a tenth"
    assert (observed[known] > 90.0).all()
    _, costs = labels([-1.0] * 1000, 0.99, "time_limit", EndReadings("unknown"))
    assert costs.tolist() == known.tolist()
    rare = np.zeros(300)
    rare[10] = 1.0
    _, known = labels(rare, 0.99, "time_limit", EndReadings("unknown"))
    assert known.all(), "at the pace of the last steps nothing was missed"


def test_a_store_keeps_its_readings_wherever_its_episodes_go(tmp_path: Path) -> None:
    stores = {
        readings: EpisodeStore.from_episodes(make_episodes(), discount=0.9, readings=readings)
        for readings in (AS_OBSERVED, CONTINUED)
    }
    store, plain = stores[CONTINUED], stores[AS_OBSERVED]
    assert store.returns_valid.all()
    assert np.repeat(plain.complete, plain.lengths).tolist() == plain.returns_valid.tolist()
    ended = np.repeat(store.terminated, store.lengths)
    assert (store.returns_to_go == plain.returns_to_go).tolist() == ended.tolist()
    store.save(tmp_path / "saved")
    EpisodeStore.write(tmp_path / "written", make_episodes(), discount=0.9, readings=CONTINUED)
    copies = [EpisodeStore.open(tmp_path / name) for name in ("saved", "written")]
    for copy in (*copies, store.select(range(5)), concatenate([store.select([0, 1]), store.select([2, 3, 4])])):
        assert copy.readings == CONTINUED
        np.testing.assert_array_equal(copy.returns_to_go, store.returns_to_go)
        np.testing.assert_array_equal(copy.returns_valid, store.returns_valid)
    with pytest.raises(DataError, match="can't follow one of"):
        concatenate([store, plain])
    manifest = tmp_path / "saved" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"continued"', '"forgotten"'))
    with pytest.raises(DataError, match="no readings of ends"):
        EpisodeStore.open(tmp_path / "saved")


def test_columns_of_an_earlier_version_are_not_current(tmp_path: Path) -> None:
    assert not is_current(tmp_path / "offline")
    EpisodeStore.write(tmp_path / "offline", make_episodes(), discount=0.9)
    assert is_current(tmp_path / "offline")
    manifest = tmp_path / "offline" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 4', '"format": 3'))
    assert not is_current(tmp_path / "offline")


def steady(ending: str, reward: float = 1.0, sequence: int = 0) -> Episode:
    episode = replace(make_episode(6, ending), rewards=np.full(6, reward, dtype=np.float32))
    return replace(episode, key=EpisodeKey(0, 0, sequence))


@pytest.mark.parametrize("reading", READINGS)
def test_statistics_and_targets_are_of_the_labels_that_are_known(reading: EndReading) -> None:
    episodes = [steady("time_limit"), steady("terminated", 0.5)]
    store = EpisodeStore.from_episodes(episodes, discount=0.9, readings=EndReadings(reading))
    statistics = compute_statistics(store, 6)
    best = {"complete": (1 - 0.9**6) / 0.1, "continued": 10.0, "unknown": 0.5 * (1 - 0.9**6) / 0.1}[reading]
    assert statistics.target_returns.tolist() == pytest.approx([best] * 6, rel=1e-5)
    known = store.returns_to_go[store.returns_valid]
    assert statistics.return_mean == pytest.approx(known.mean())
    assert len(known) == (6 if reading == "unknown" else 12)


@pytest.mark.parametrize("reading", READINGS)
def test_online_episodes_are_read_as_the_data_are(reading: EndReading) -> None:
    readings = EndReadings(reading, "unknown" if reading == "continued" else "complete")
    offline = EpisodeStore.from_episodes([steady("terminated", 0.5)], discount=0.9, readings=readings)
    replay = ReplayBuffer(offline, context_length=6, max_episode_steps=6)
    before = replay.target_returns(None)
    replay.add_episodes([steady("time_limit", 1.0, 0), steady("cut", 1.0, 1)])
    expected = EpisodeStore.from_episodes(
        [steady("time_limit"), steady("cut")], discount=0.9, readings=readings
    )
    online = replay.online.view(2)
    np.testing.assert_array_equal(online.returns_to_go, expected.returns_to_go)
    np.testing.assert_array_equal(online.returns_valid, expected.returns_valid)
    windows = gather_segments(expected, np.array([0, 1]), np.array([5, 5]), 6)
    drawn = replay.sample_segments(SampleRequest(64, 0, offline_fraction=0.0))
    for row in np.flatnonzero(drawn.valid.all(axis=1)):
        assert any(np.array_equal(drawn.returns_valid[row], each) for each in windows.returns_valid)
    table = replay.target_returns(None)
    best = {"complete": (1 - 0.9**6) / 0.1, "continued": 10.0, "unknown": (1 - 0.9**6) / 0.1}[reading]
    assert table[0] == pytest.approx(best, rel=1e-5) and table[0] > before[0]


def test_the_cache_depends_on_the_readings(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    seen = []
    for limit_ends in READINGS:
        config = DatasetConfig(id="toy/mixed-v0", path=str(tmp_path), download=False, limit_ends=limit_ends)
        loaded = load_dataset(config, environments=ENVIRONMENTS, discount=0.9, cache_folder=tmp_path / "cache")
        assert loaded.store.readings == EndReadings(limit_ends, "unknown")
        expected = EpisodeStore.from_episodes(make_episodes(), discount=0.9, readings=loaded.store.readings)
        np.testing.assert_array_equal(loaded.store.returns_to_go, expected.returns_to_go)
        seen.append((loaded.store.returns_to_go.tobytes(), loaded.store.returns_valid.tobytes()))
    assert len(set(seen)) == 3


def test_the_doctor_says_what_time_limits_hide(tmp_path: Path) -> None:
    long = replace(steady("terminated"), key=None)
    make_dataset(tmp_path, episodes=[long, replace(steady("time_limit"), key=None), make_episode(2, "cut")])
    config = DatasetConfig(id="toy/mixed-v0", path=str(tmp_path), download=False)
    report = check_dataset(config, environments=ENVIRONMENTS)
    assert report.hidden_by_limits == pytest.approx(6 / 14)
    assert check_dataset(config, environments=ENVIRONMENTS, discount=0.5).hidden_by_limits == pytest.approx(3 / 14)
