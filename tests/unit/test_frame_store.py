"""Stores of frames and tokens: nothing changes its type, frames are not copied, games are kept apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_episodes
from frame_factory import BREAKOUT, PONG, TOKENS, frame_episode, frame_episodes, token_episode

from system.data.replay.growing_store import GrowingStore
from system.data.store.column_files import ColumnWriter
from system.data.store.episodes import COLUMNS, EpisodeStore, concatenate, gather_segments
from system.data.store.row_view import RowView
from system.data.store.split import split_by_game, split_episodes
from system.data.store.statistics import compute_statistics, target_return_table
from system.errors import DataError

DISCOUNT = 0.9


def frames() -> EpisodeStore:
    return EpisodeStore.from_episodes(frame_episodes(), discount=DISCOUNT)


def two_games() -> EpisodeStore:
    return concatenate([frames(), EpisodeStore.from_episodes(frame_episodes(BREAKOUT), discount=DISCOUNT)])


def same(first: EpisodeStore, second: EpisodeStore) -> bool:
    return all(
        np.array_equal(np.asarray(getattr(first, name)), np.asarray(getattr(second, name)))
        and getattr(first, name).dtype == getattr(second, name).dtype
        for name in COLUMNS
    )


def test_frames_and_discrete_actions_keep_their_types_everywhere(tmp_path: Path) -> None:
    store = frames()
    store.save(tmp_path / "store")
    for each in (store, EpisodeStore.open(tmp_path / "store"), store.select([0, 1, 2, 3, 4])):
        assert (each.observation_shape, each.observations.dtype) == ((7, 5), np.uint8)
        assert (each.action_shape, each.actions.dtype) == ((), np.int64)
        assert same(each, store)
        for index, episode in enumerate(frame_episodes()):
            found = each.episode(index)
            np.testing.assert_array_equal(found.observations, episode.observations)
            np.testing.assert_array_equal(found.actions, episode.actions)
            assert found.game == PONG.game


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_observations_that_would_lose_their_meaning_are_refused(dtype: type) -> None:
    episode = frame_episode(2, "cut")
    with pytest.raises(DataError, match=f"observations of type {np.dtype(dtype)} are not stored"):
        EpisodeStore.from_episodes(
            [replace(episode, observations=episode.observations.astype(dtype))], discount=DISCOUNT
        )


def test_episodes_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match=r"episode 1 of 2 steps has observations \(3, 4\)"):
        EpisodeStore.from_episodes([frame_episode(2, "cut"), token_episode(2, "cut")], discount=DISCOUNT)
    episode = frame_episode(2, "cut")
    wide = replace(episode, observations=episode.observations.astype(np.int16))
    with pytest.raises(DataError, match="episode 1 has int16 observations and int64 actions, expected uint8"):
        EpisodeStore.from_episodes([episode, wide], discount=DISCOUNT)


def test_selecting_and_joining_copy_no_frame(tmp_path: Path) -> None:
    frames().save(tmp_path / "store")
    mapped = EpisodeStore.open(tmp_path / "store")
    chosen = mapped.select([4, 2])
    assert isinstance(chosen.observations, RowView)
    assert chosen.observations.parts[0] is mapped.observations
    other = EpisodeStore.from_episodes(frame_episodes(BREAKOUT), discount=DISCOUNT)
    both = concatenate([chosen, other.select([1]), mapped]).select([3, 0, 2, 1])
    assert isinstance(both.observations, RowView)
    assert both.observations.parts[2] is mapped.observations
    expected = [frame_episodes()[0], frame_episodes()[4], frame_episodes(BREAKOUT)[1], frame_episodes()[2]]
    assert same(both, EpisodeStore.from_episodes(expected, discount=DISCOUNT))
    both.save(tmp_path / "both")
    assert same(EpisodeStore.open(tmp_path / "both"), both)


@pytest.mark.parametrize(
    "index",
    [0, -1, slice(2, 9), slice(None, None, -3), np.array([7, 0, 7]), np.array([[1, -2], [9, 3]])],
    ids=str,
)
def test_a_view_is_indexed_as_an_array(index: int | slice | np.ndarray) -> None:
    parts = [np.arange(12).reshape(4, 3), np.arange(12, 30).reshape(6, 3), np.arange(30, 36).reshape(2, 3)]
    rows = np.array([11, 0, 5, 4, 3, 9, 10, 1, 1, 8])
    for view, whole in (
        (RowView(parts, rows), np.concatenate(parts)[rows]),
        (RowView(parts), np.concatenate(parts)),
        (RowView(parts[1:2], rows % 6), parts[1][rows % 6]),
    ):
        np.testing.assert_array_equal(view[index], whole[index])
        assert (view.shape, view.ndim, len(view), view.dtype) == (whole.shape, 2, len(whole), whole.dtype)
        np.testing.assert_array_equal(np.asarray(view), whole)


def test_tokens_take_the_place_of_frames(tmp_path: Path) -> None:
    store = two_games()
    tokens = np.random.default_rng(0).integers(0, 2048, size=(len(store.observations), TOKENS)).astype(np.int16)
    tokenized = store.with_observations(tokens)
    tokenized.save(tmp_path / "tokens")
    for each in (tokenized, EpisodeStore.open(tmp_path / "tokens")):
        assert each.observations.dtype == np.int16
        np.testing.assert_array_equal(each.observations, tokens)
        for name in COLUMNS[1:]:
            np.testing.assert_array_equal(getattr(each, name), getattr(store, name))
    with pytest.raises(ValueError, match="read-only"):
        tokenized.observations[0] = 0
    tokens[0] = 0
    assert isinstance(tokenized.select([1]).observations, np.ndarray)
    with pytest.raises(DataError, match=rf"{len(tokens) - 1} observations for a store of {len(tokens)}"):
        store.with_observations(tokens[1:])


def test_joined_stores_keep_their_games_and_must_be_of_one_kind() -> None:
    store = two_games()
    assert store.game.tolist() == [39] * 5 + [13] * 5
    assert store.games.tolist() == [13, 39]
    assert concatenate([store]) is store
    vectors = EpisodeStore.from_episodes(make_episodes(), discount=DISCOUNT)
    assert concatenate([vectors, vectors]).num_steps == 2 * vectors.num_steps
    with pytest.raises(DataError, match="can't follow"):
        concatenate([store, vectors])
    with pytest.raises(DataError, match=r"discount 0\.5 can't follow"):
        concatenate([store, EpisodeStore.from_episodes(frame_episodes(), discount=0.5)])
    with pytest.raises(DataError, match="no stores"):
        concatenate([])


def test_segments_know_where_episodes_end_and_of_which_game_they_are() -> None:
    store = two_games()
    for index in range(store.num_episodes):
        episode, length = store.episode(index), int(store.lengths[index])
        batch = gather_segments(store, np.full(length, index), np.arange(length), 4)
        last = np.zeros((length, 4), dtype=bool)
        last[-1, -1] = episode.terminated
        np.testing.assert_array_equal(batch.terminated, last)
        assert batch.game.tolist() == [episode.game] * length
        assert (batch.observations.dtype, batch.actions.dtype) == (np.uint8, np.int64)
        assert not batch.observations[~batch.valid].any()
        assert not batch.actions[~batch.valid].any()


def test_a_growing_store_is_the_store_of_its_episodes() -> None:
    episodes = [token_episode(1 + index % 6, "terminated", index) for index in range(40)]
    whole = EpisodeStore.from_episodes(episodes, discount=DISCOUNT)
    growing = GrowingStore(whole.layout, DISCOUNT, whole.readings)
    growing.append(episodes[:3])
    growing.append(episodes[3:])
    assert same(growing.view(40), whole)
    assert same(growing.view(7), whole.select(range(7)))
    with pytest.raises(DataError, match="episode 40 of 2 steps"):
        growing.append([frame_episode(2, "cut")])
    assert same(growing.view(40), whole)


def test_writing_one_by_one_makes_the_files_of_the_whole_store(tmp_path: Path) -> None:
    for name, episodes in (("frames", frame_episodes()), ("vectors", make_episodes())):
        EpisodeStore.from_episodes(episodes, discount=DISCOUNT).save(tmp_path / name / "whole")
        EpisodeStore.write(tmp_path / name / "pieces", iter(episodes), discount=DISCOUNT)
        files = sorted(path.name for path in (tmp_path / name / "whole").iterdir())
        assert sorted(path.name for path in (tmp_path / name / "pieces").iterdir()) == files
        for file in files:
            whole, pieces = (tmp_path / name / folder / file for folder in ("whole", "pieces"))
            assert pieces.read_bytes() == whole.read_bytes()


def test_writing_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    EpisodeStore.write(tmp_path / "store", frame_episodes(), discount=DISCOUNT)
    with pytest.raises(DataError, match="episode 1 of 2 steps"):
        EpisodeStore.write(
            tmp_path / "store", [frame_episode(2, "cut"), token_episode(2, "cut")], discount=DISCOUNT
        )
    with pytest.raises(DataError, match="no episodes"):
        EpisodeStore.write(tmp_path / "store", [], discount=DISCOUNT)
    assert same(EpisodeStore.open(tmp_path / "store"), frames())
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_column_grows_without_moving_its_header(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "column.npy", np.dtype(np.int16), (3,))
    parts = [np.full((count, 3), count) for count in (1, 0, 998, 12_000)]
    for part in parts:
        writer.append(part)
    writer.close()
    np.testing.assert_array_equal(np.load(tmp_path / "column.npy"), np.concatenate(parts))


def test_frames_and_tokens_are_not_normalised() -> None:
    statistics = compute_statistics(frames(), 8)
    assert statistics.observation_mean.shape == statistics.observation_std.shape == (7, 5)
    assert not statistics.observation_mean.any()
    assert (statistics.observation_std == 1.0).all()
    assert statistics.episode_return_mean == frames().episode_returns.mean()
    cut = EpisodeStore.from_episodes([token_episode(3, "cut")], discount=DISCOUNT)
    assert (compute_statistics(cut, 8).return_mean, compute_statistics(cut, 8).return_std) == (0.0, 1.0)
    assert target_return_table(cut, 8).tolist() == [-np.inf] * 8


def test_every_game_is_split_in_the_same_share() -> None:
    game = np.array([39] * 10 + [13] * 30 + [39] * 10)
    train, validation = split_by_game(game, 0.2, 3)
    assert sorted([*train, *validation]) == list(range(50))
    assert np.bincount(game[validation])[[13, 39]].tolist() == [6, 4]
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    for single, joined in zip(
        split_episodes(50, 0.2, 3), split_by_game(np.zeros(50, dtype=np.int64), 0.2, 3), strict=True
    ):
        np.testing.assert_array_equal(single, joined)
