"""The replay and the log of online episodes of games: balanced draws, tokens with their frames."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_episodes
from frame_factory import BREAKOUT, PONG, TOKENS, frame_episode, token_episode

from system.data.replay import episode_record
from system.data.replay.buffer import ReplayBuffer
from system.data.replay.episode_journal import EpisodeJournal
from system.data.replay.episode_log import EpisodeLog
from system.data.replay.episode_record import encode_episode, read_records
from system.data.replay.sampling import SampleRequest
from system.data.replay.step_draws import BalancedSteps, draw_uniform
from system.data.store.episodes import EpisodeStore, concatenate
from system.errors import DataError
from system.types import Episode, EpisodeKey, TaskSpec

SPACE_INVADERS = replace(PONG, environment_id="ALE/SpaceInvaders-v5", game=49)


def tokens_of(task: TaskSpec, lengths: list[int]) -> EpisodeStore:
    episodes = [token_episode(length, "terminated", index, task) for index, length in enumerate(lengths)]
    return EpisodeStore.from_episodes(episodes, discount=0.9)


@pytest.fixture
def games() -> EpisodeStore:
    """Three games of very different size, their episodes mixed."""
    stores = [tokens_of(PONG, [6] * 30), tokens_of(BREAKOUT, [2, 5]), tokens_of(SPACE_INVADERS, [1, 1, 3])]
    store = concatenate(stores)
    return store.select(np.random.default_rng(0).permutation(store.num_episodes))


def online(sequence: int, length: int = 4) -> Episode:
    return replace(token_episode(length, "terminated", sequence), key=EpisodeKey(0, 0, sequence))


def replay_of(store: EpisodeStore, log: EpisodeLog | None = None) -> ReplayBuffer:
    return ReplayBuffer(store, context_length=3, max_episode_steps=6, log=log)


@pytest.mark.parametrize("size", [3, 8, 31])
def test_each_game_has_its_equal_share_of_the_offline_rows(games: EpisodeStore, size: int) -> None:
    replay = replay_of(games)
    replay.add_episodes([online(0)])
    for seed in range(6):
        whole = replay.sample_segments(SampleRequest(size, seed))
        counts = [int((whole.game == game).sum()) for game in games.games]
        assert sum(counts) == size
        assert max(counts) - min(counts) <= 1
        mixed = replay.sample_segments(SampleRequest(size + 3, seed, offline_fraction=size / (size + 3)))
        others = [int((mixed.game == game).sum()) for game in (13, 49)]
        assert min(others) >= size // 3
        assert max(others) <= size // 3 + 1


def test_shards_are_balanced_too_and_make_up_the_whole_batch(games: EpisodeStore) -> None:
    replay = replay_of(games)
    replay.add_episodes([online(0), online(1)])
    for seed in range(4):
        request = SampleRequest(24, seed, offline_fraction=0.75)
        shards = [replay.sample_segments(replace(request, shard=(rank, 2))) for rank in range(2)]
        whole = replay.sample_segments(request)
        for name in ("observations", "actions", "rewards", "valid", "terminated", "game"):
            parts = np.concatenate([getattr(shard, name) for shard in shards])
            np.testing.assert_array_equal(parts, getattr(whole, name))
        for shard in shards:
            assert {int((shard.game == game).sum()) for game in (13, 49)} == {3}


def test_no_game_is_favoured_where_rows_are_left_over(games: EpisodeStore) -> None:
    counts = np.zeros(50, dtype=int)
    steps = BalancedSteps(games)
    for seed in range(600):
        counts += np.bincount(games.game[steps.draw(1, np.random.default_rng(seed))[0]], minlength=50)
    assert (counts[[13, 39, 49]] > 150).all()


def test_the_steps_of_a_game_are_equally_likely(games: EpisodeStore) -> None:
    episode, step = BalancedSteps(games).draw(9000, np.random.default_rng(0))
    for game in (13, 49):
        own = games.game[episode] == game
        places, counts = np.unique(np.stack([episode[own], step[own]]), axis=1, return_counts=True)
        assert places.shape[1] == games.lengths[games.game == game].sum()
        assert counts == pytest.approx(3000 / places.shape[1], rel=0.15)
        assert (places[1] < games.lengths[places[0]]).all()


def test_games_are_balanced_behind_the_ends_of_their_episodes_too(games: EpisodeStore) -> None:
    episode, step = BalancedSteps(games).draw(90_000, np.random.default_rng(0), beyond=2)
    for game in (13, 39, 49):
        own = games.game[episode] == game
        places, counts = np.unique(np.stack([episode[own], step[own]]), axis=1, return_counts=True)
        assert places.shape[1] == (games.lengths[games.game == game] + 2).sum()
        assert counts == pytest.approx(30_000 / places.shape[1], rel=0.4)
        assert (places[1] == games.lengths[places[0]] + 1).sum() == (games.game == game).sum()


def test_a_single_game_is_drawn_from_as_ever() -> None:
    store = EpisodeStore.from_episodes(make_episodes(), discount=0.9)
    expected = draw_uniform(store, 50, np.random.default_rng(7))
    for drawn in (BalancedSteps(store).draw(50, np.random.default_rng(7)), expected):
        rows = np.random.default_rng(7).integers(store.num_steps, size=50)
        np.testing.assert_array_equal(store.step_offsets[drawn[0]] + drawn[1], rows)


def test_online_episodes_of_tokens_are_drawn_and_come_back(tmp_path: Path) -> None:
    store = tokens_of(PONG, [3, 5])
    replay = replay_of(store, EpisodeLog.open(tmp_path))
    assert replay.add_episodes([online(7), online(8, 6)]) == 2
    request = SampleRequest(16, 0, offline_fraction=0.25)
    batch = replay.sample_segments(request)
    assert (batch.observations.shape, batch.observations.dtype) == ((16, 3, TOKENS), np.int16)
    assert (batch.actions.shape, batch.actions.dtype) == ((16, 3), np.int64)
    assert batch.terminated.any()
    again = replay_of(store, EpisodeLog.open(tmp_path)).sample_segments(request)
    np.testing.assert_array_equal(again.observations, batch.observations)
    np.testing.assert_array_equal(again.actions, batch.actions)


def test_offline_data_without_a_complete_episode_can_be_replayed() -> None:
    store = EpisodeStore.from_episodes([token_episode(3, "cut")], discount=0.9)
    replay = replay_of(store)
    assert replay.target_returns(None).tolist() == [-np.inf] * 6
    replay.add_episodes([online(0)])
    assert np.isfinite(replay.target_returns(None)[:4]).all()


def test_the_log_keeps_tokens_and_frames_bit_for_bit(tmp_path: Path) -> None:
    written = replace(online(3), policy_version=np.arange(4))
    EpisodeLog.open(tmp_path).append([written])
    [read] = EpisodeLog.open(tmp_path, with_frames=True).episodes
    for name in ("observations", "actions", "rewards", "frames", "policy_version"):
        assert getattr(read, name).dtype == getattr(written, name).dtype
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert (read.key, read.game, read.terminated) == (written.key, PONG.game, True)
    [tokens_only] = EpisodeLog.open(tmp_path).episodes
    assert tokens_only.frames is None
    np.testing.assert_array_equal(tokens_only.observations, written.observations)


def test_a_journal_keeps_frames_with_their_tokens(tmp_path: Path) -> None:
    EpisodeJournal(tmp_path).append(0, 1, {0: token_episode(3, "terminated")})
    [episode] = EpisodeJournal(tmp_path).episodes
    assert episode.frames is not None


def test_frames_are_compressed() -> None:
    episode = replace(frame_episode(6, "terminated"), key=EpisodeKey(0, 0, 0))
    still = replace(episode, observations=np.zeros((7, 84, 84), dtype=np.uint8))
    assert len(encode_episode(still)) < 1000
    [record] = read_records(encode_episode(still))
    assert record.episode is not None
    np.testing.assert_array_equal(record.episode.observations, still.observations)


@pytest.mark.parametrize("written", [None, 1, 3])
def test_a_log_of_another_format_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    plain = json.dumps

    def without_format(header: dict[str, object], **options: tuple[str, str]) -> str:
        header.pop("format", None)
        return plain(header if written is None else {**header, "format": written}, **options)

    with monkeypatch.context() as patch:
        patch.setattr(episode_record.json, "dumps", without_format)
        data = encode_episode(online(0))
    log = EpisodeLog.open(tmp_path)
    log.append([online(1)])
    log.close()
    [segment] = tmp_path.glob("*.log")
    segment.write_bytes(data)
    with pytest.raises(DataError, match=rf"000001-000000\.log: a record of format {written or 1}, .* reads 2"):
        EpisodeLog.open(tmp_path)
