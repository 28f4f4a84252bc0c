"""Statistics, the target-return table and the split, against values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from dataset_factory import make_episode, make_episodes
from hypothesis import given
from hypothesis import strategies as st

from system.data.store.episodes import EpisodeStore
from system.data.store.split import split_episodes
from system.data.store.statistics import compute_statistics
from system.errors import DataError


def test_moments_are_of_the_observations_that_were_acted_on() -> None:
    store = EpisodeStore.from_episodes(make_episodes(), discount=0.9)
    statistics = compute_statistics(store, 6)
    acted_on = np.concatenate([episode.observations[:-1] for episode in make_episodes()]).astype(np.float64)
    rewards = np.concatenate([episode.rewards for episode in make_episodes()]).astype(np.float64)
    np.testing.assert_allclose(statistics.observation_mean, acted_on.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.observation_std, acted_on.std(axis=0), rtol=1e-6)
    assert statistics.reward_mean == pytest.approx(rewards.mean())
    assert statistics.reward_std == pytest.approx(rewards.std())
    assert (statistics.num_episodes, statistics.num_steps) == (5, 19)


def test_returns_of_cut_episodes_count_nowhere_but_in_the_summary() -> None:
    cut = replace(make_episode(6, "cut", 9), rewards=np.full(6, 1e3, dtype=np.float32))
    with_cut = compute_statistics(EpisodeStore.from_episodes([*make_episodes(), cut], discount=0.9), 6)
    without = compute_statistics(EpisodeStore.from_episodes(make_episodes(), discount=0.9), 6)
    np.testing.assert_array_equal(with_cut.target_returns, without.target_returns)
    assert (with_cut.return_mean, with_cut.return_std) == (without.return_mean, without.return_std)
    assert with_cut.episode_return_max == pytest.approx(6e3)


def test_the_target_table_never_falls() -> None:
    def rewarded(length: int, reward: float) -> object:
        return replace(make_episode(length, "terminated"), rewards=np.full(length, reward, dtype=np.float32))

    store = EpisodeStore.from_episodes([rewarded(2, 5.0), rewarded(4, 2.0)], discount=1.0)
    assert compute_statistics(store, 7).target_returns.tolist() == [10.0] * 7
    assert compute_statistics(store, 3).target_returns.tolist() == [10.0] * 3
    costs = EpisodeStore.from_episodes([rewarded(2, -5.0), rewarded(4, -2.0)], discount=1.0)
    assert compute_statistics(costs, 6).target_returns.tolist() == [-8.0, -5.0, -4.0, -2.0, -2.0, -2.0]


@pytest.mark.parametrize(
    ("rewards", "lowest"),
    [
        ({2: -5.0, 4: -2.0}, [-10.0] * 5),
        ({2: 5.0, 4: -2.0}, [-8.0] * 5),
        ({2: 5.0, 4: 2.0}, [0.0] * 5),
    ],
)
def test_the_lowest_return_by_step_is_nowhere_above_0(rewards: dict[int, float], lowest: list[float]) -> None:
    episodes = [
        replace(make_episode(length, "terminated"), rewards=np.full(length, reward, dtype=np.float32))
        for length, reward in rewards.items()
    ]
    cut = replace(make_episode(5, "cut"), rewards=np.full(5, -100.0, dtype=np.float32))
    store = EpisodeStore.from_episodes([*episodes, cut], discount=1.0)
    assert compute_statistics(store, 5).low_returns.tolist() == lowest


def test_a_constant_dimension_is_not_divided_by() -> None:
    episode = make_episode(5, "terminated")
    observations = episode.observations.copy()
    observations[:, 1] = 4.0
    episode = replace(episode, observations=observations, rewards=np.ones(5, dtype=np.float32))
    statistics = compute_statistics(EpisodeStore.from_episodes([episode], discount=0.0), 6)
    assert statistics.observation_std[1] == 1.0
    assert statistics.observation_mean[1] == 4.0
    assert (statistics.reward_std, statistics.return_std) == (1.0, 1.0)


def test_a_dataset_of_cut_episodes_alone_has_no_targets() -> None:
    store = EpisodeStore.from_episodes([make_episode(3, "cut")], discount=0.9)
    with pytest.raises(DataError, match="none of 1 episodes is complete"):
        compute_statistics(store, 6)


@given(st.integers(1, 300), st.floats(0.0, 0.5), st.integers(0, 2**31))
def test_split_is_a_partition(num_episodes: int, fraction: float, seed: int) -> None:
    train, validation = split_episodes(num_episodes, fraction, seed)
    assert sorted([*train, *validation]) == list(range(num_episodes))
    assert len(train) >= 1
    assert abs(len(validation) - fraction * num_episodes) <= 1.0
    again = split_episodes(num_episodes, fraction, seed)
    np.testing.assert_array_equal(train, again[0])


def test_split_is_shuffled_and_depends_on_the_seed() -> None:
    first, second = split_episodes(100, 0.2, 0)[1], split_episodes(100, 0.2, 1)[1]
    assert len(first) == 20
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(20))
    assert not np.array_equal(first, np.arange(80, 100))
    assert len(split_episodes(2, 0.01, 0)[1]) == 1
    assert len(split_episodes(1, 0.5, 0)[1]) == 0
    assert len(split_episodes(50, 0.0, 0)[1]) == 0
