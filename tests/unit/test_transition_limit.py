"""How much is trained on: whole episodes first, then a cut one; and what had better not be held out."""

from dataclasses import replace

import numpy as np
import pytest
from frame_factory import BREAKOUT, PONG, frame_episode

from system.config.sections import EndReading
from system.data.store.episodes import EpisodeStore, gather_segments
from system.data.store.returns import EndReadings
from system.data.store.row_view import RowView
from system.data.store.split import limit_transitions, repeated_episodes
from system.types import TaskSpec

LENGTHS = (4, 6, 3, 5, 2)


def store_of(task: TaskSpec = PONG, lengths: tuple[int, ...] = LENGTHS) -> EpisodeStore:
    episodes = [frame_episode(length, "terminated", seed, task) for seed, length in enumerate(lengths)]
    return EpisodeStore.from_episodes(episodes, discount=0.9)


def source_of(store: EpisodeStore, limited: EpisodeStore, index: int) -> int:
    """Which episode of the store another one is the beginning of."""
    first = np.asarray(limited.episode(index).observations[0])
    return next(
        other for other in range(store.num_episodes) if np.array_equal(store.episode(other).observations[0], first)
    )


@pytest.mark.parametrize("most", [1, 3, 7, 11, 14, 19])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whole_episodes_are_taken_and_one_is_cut(most: int, seed: int) -> None:
    store = store_of()
    limited = limit_transitions(store, most, seed)
    assert limited.num_steps == most
    sources = [source_of(store, limited, index) for index in range(limited.num_episodes)]
    assert len(set(sources)) == len(sources)
    for index, source in enumerate(sources):
        ours, theirs, length = limited.episode(index), store.episode(source), int(limited.lengths[index])
        is_cut = length < theirs.num_steps
        assert not is_cut or index == limited.num_episodes - 1, "only the last one is cut"
        assert (ours.terminated, ours.truncated, ours.complete) == (not is_cut, is_cut, not is_cut)
        assert np.array_equal(np.asarray(ours.observations), np.asarray(theirs.observations)[: length + 1])
        assert np.array_equal(ours.actions, theirs.actions[:length])
        assert np.array_equal(ours.rewards, theirs.rewards[:length])


def test_the_end_of_a_cut_episode_is_no_terminal_state() -> None:
    limited = limit_transitions(store_of(lengths=(6,)), 4, seed=0)
    window = gather_segments(limited, np.array([0]), np.array([3]), 4)
    assert not window.terminated.any()
    assert not window.returns_valid.any()


@pytest.mark.parametrize("reading", ["complete", "continued", "unknown"])
def test_what_is_left_out_is_not_taken_for_an_end(reading: EndReading) -> None:
    """Whatever the recordings' own cuts are taken for: the rest of this episode is there, and is not read."""
    whole = replace(store_of(lengths=(6,)), readings=EndReadings("continued", reading))
    limited = limit_transitions(whole, 4, seed=0)
    assert limited.readings == whole.readings
    assert not limited.returns_valid.any()


def test_the_seed_draws_the_episodes() -> None:
    drawn = {tuple(limit_transitions(store_of(), 6, seed).rewards.tolist()) for seed in range(8)}
    assert len(drawn) > 2
    again = [limit_transitions(store_of(), 9, seed=3).rewards.tolist() for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("most", [20, 21, 1000])
def test_a_store_within_the_limit_is_kept_whole(most: int) -> None:
    store, limited = store_of(), limit_transitions(store_of(), most, seed=0)
    assert limited.lengths.tolist() == store.lengths.tolist()
    assert limited.terminated.all()


def test_every_game_has_a_limit_of_its_own() -> None:
    pong, breakout = store_of(), store_of(BREAKOUT, (3, 3, 3))
    both = EpisodeStore.from_episodes(
        [store.episode(index) for store in (pong, breakout) for index in range(store.num_episodes)], discount=0.9
    )
    limited = limit_transitions(both, 7, seed=1)
    assert [int(limited.lengths[limited.game == task.game].sum()) for task in (PONG, BREAKOUT)] == [7, 7]
    assert limit_transitions(both, 15, seed=1).num_steps == 15 + 9


def test_frames_of_whole_episodes_are_not_copied() -> None:
    limited = limit_transitions(store_of(), 14, seed=0)
    assert isinstance(limited.observations, RowView)


def test_variants_of_one_episode_are_found() -> None:
    episode = frame_episode(10, "terminated")
    variants = [episode]
    for common in (1, 2, 9):
        actions = episode.actions.copy()
        actions[common] = next(action for action in PONG.valid_actions if action != actions[common])
        variants.append(replace(episode, actions=actions))
    variants.append(replace(episode, rewards=episode.rewards + 1.0))
    variants.append(replace(episode, game=BREAKOUT.game))
    store = EpisodeStore.from_episodes(variants, discount=0.9)
    others = np.arange(1, len(variants))
    assert repeated_episodes(store, others, np.array([0])).tolist() == [False, True, True, False, False]
    assert repeated_episodes(store, np.array([0]), others).tolist() == [True]
    assert repeated_episodes(store, np.array([0]), np.zeros(0, np.int64)).tolist() == [False]
    assert repeated_episodes(store, np.zeros(0, np.int64), others).shape == (0,)
