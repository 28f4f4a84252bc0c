"""Which steps are drawn: none that is not there, all of them, and in the proportions that are promised."""

import numpy as np
import pytest

from system.data.replay.step_draws import BalancedSteps, draw_by_return, draw_uniform
from system.data.store.episodes import EpisodeStore
from tests.support.dataset_factory import make_episode


def store_of(*lengths: int) -> EpisodeStore:
    return EpisodeStore.from_episodes(
        [make_episode(length, "terminated", index) for index, length in enumerate(lengths)], discount=0.9
    )


def counts(episode: np.ndarray, step: np.ndarray) -> dict[tuple[int, int], int]:
    places, number = np.unique(np.stack([episode, step], 1), axis=0, return_counts=True)
    return {(int(row[0]), int(row[1])): int(each) for row, each in zip(places, number, strict=True)}


@pytest.mark.parametrize("beyond", [0, 2])
def test_every_step_and_those_behind_an_end_are_drawn_equally_often(beyond: int) -> None:
    found = counts(*draw_uniform(store_of(2, 3), 20_000, np.random.default_rng(0), beyond))
    assert set(found) == {(row, step) for row, length in enumerate((2, 3)) for step in range(length + beyond)}
    assert np.allclose(np.array(list(found.values())) / 20_000, 1 / len(found), atol=0.015)


def test_of_a_single_step_only_that_is_drawn() -> None:
    assert set(counts(*draw_uniform(store_of(1), 100, np.random.default_rng(0)))) == {(0, 0)}
    assert [len(each) for each in draw_uniform(store_of(1), 0, np.random.default_rng(0))] == [0, 0]


@pytest.mark.parametrize("beyond", [0, 2])
def test_episodes_are_drawn_by_rank_and_their_steps_uniformly(beyond: int) -> None:
    store = store_of(3, 5, 2)
    ranks = np.argsort(np.argsort(store.episode_returns)) + 1
    found = counts(*draw_by_return(store, 30_000, np.random.default_rng(0), beyond))
    places = [(row, step) for row in range(3) for step in range(int(store.lengths[row]) + beyond)]
    assert set(found) == set(places)
    for row, step in places:
        expected = ranks[row] / 6 / (int(store.lengths[row]) + beyond)
        assert found[row, step] / 30_000 == pytest.approx(expected, abs=0.015)


def test_a_single_game_is_drawn_from_as_if_there_were_no_games() -> None:
    store = store_of(3, 5, 2)
    ours = BalancedSteps(store).draw(50, np.random.default_rng(1), 2)
    theirs = draw_uniform(store, 50, np.random.default_rng(1), 2)
    assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))
