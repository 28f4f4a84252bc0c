"""What every replay must do, whatever its observations and actions; a new one is one line in `REPLAYS`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.data.replay.buffer import ReplayBuffer
from system.data.replay.episode_log import EpisodeLog
from system.data.replay.sampling import SampleRequest
from system.data.store.episodes import EpisodeStore
from system.training.protocols import Replay
from system.types import Episode, EpisodeKey, SegmentBatch
from tests.support.dataset_factory import make_episode
from tests.support.discrete_factory import numbered_episode
from tests.support.frame_factory import token_episode

DISCOUNT, LENGTH, LIMIT = 0.9, 4, 12

MakeEpisode = Callable[[int, str, int], Episode]
MakeOnline = Callable[..., Episode]
KINDS: dict[str, MakeEpisode] = {"vectors": make_episode, "numbers": numbered_episode, "tokens": token_episode}


def offline(make: MakeEpisode) -> EpisodeStore:
    return EpisodeStore.from_episodes([make(3 + seed, "terminated", seed) for seed in range(6)], discount=DISCOUNT)


def in_memory(store: EpisodeStore, folder: Path) -> Replay:
    return ReplayBuffer(store, context_length=LENGTH, max_episode_steps=LIMIT)


def durable(store: EpisodeStore, folder: Path) -> Replay:
    return ReplayBuffer(store, context_length=LENGTH, max_episode_steps=LIMIT, log=EpisodeLog.open(folder))


REPLAYS: dict[str, Callable[[EpisodeStore, Path], Replay]] = {"in_memory": in_memory, "durable": durable}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=REPLAYS)
def replay(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Replay:
    return REPLAYS[request.param](offline(KINDS[kind]), tmp_path)


@pytest.fixture
def online(kind: str) -> MakeOnline:
    def make(sequence: int, length: int = 5, ending: str = "terminated", reward: float = 100.0) -> Episode:
        """Its rewards tell it from offline data."""
        episode = KINDS[kind](length, ending, 50 + sequence)
        rewards = np.full(length, reward + sequence, dtype=np.float32)
        return replace(episode, rewards=rewards, key=EpisodeKey(0, 0, sequence))

    return make


def last_steps(replay: Replay, request: SampleRequest, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and terminal flags of the drawn steps, in the batch that the kind's values are learnt from."""
    if kind != "tokens":  # which are learnt from in windows alone
        steps = replay.sample_transitions(request)
        return steps.rewards, steps.terminated
    batch = replay.sample_segments(request)
    return batch.rewards[:, -1], batch.terminated[:, -1]


def count_online(batch: SegmentBatch) -> int:
    return int((batch.rewards[:, -1] >= 90.0).sum())


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.6, 1.0])
def test_the_split_is_exact(replay: Replay, online: MakeOnline, kind: str, fraction: float) -> None:
    replay.add_episodes([online(0), online(1)])
    for seed in range(5):
        batch = replay.sample_segments(SampleRequest(20, seed, offline_fraction=fraction))
        assert count_online(batch) == 20 - round(20 * fraction)
        rewards, _ = last_steps(replay, SampleRequest(20, seed, offline_fraction=fraction), kind)
        assert int((rewards >= 90.0).sum()) == 20 - round(20 * fraction)


def test_without_online_episodes_everything_is_offline(replay: Replay, online: MakeOnline) -> None:
    assert count_online(replay.sample_segments(SampleRequest(16, 0, offline_fraction=0.0))) == 0
    replay.add_episodes([online(0)])
    hidden = SampleRequest(16, 0, offline_fraction=0.0, visible_episodes=0)
    assert count_online(replay.sample_segments(hidden)) == 0


def test_a_request_always_gives_the_same_batch(replay: Replay, online: MakeOnline) -> None:
    replay.add_episodes([online(0), online(1)])
    request = SampleRequest(16, 3, offline_fraction=0.5, visible_episodes=2)
    first = replay.sample_segments(request)
    replay.add_episodes([online(2), online(3)])
    second = replay.sample_segments(request)
    assert np.array_equal(first.observations, second.observations)
    assert not np.array_equal(first.observations, replay.sample_segments(replace(request, seed=4)).observations)


def test_shards_are_the_whole_batch(replay: Replay, online: MakeOnline, kind: str) -> None:
    replay.add_episodes([online(0), online(1)])
    request = SampleRequest(16, 5, offline_fraction=0.5)
    whole = replay.sample_segments(request)
    parts = [replay.sample_segments(replace(request, shard=(rank, 2))) for rank in range(2)]
    assert np.array_equal(np.concatenate([part.observations for part in parts]), whole.observations)
    assert np.array_equal(np.concatenate([part.actions for part in parts]), whole.actions)
    steps = [last_steps(replay, replace(request, shard=(rank, 2)), kind)[0] for rank in range(2)]
    assert np.array_equal(np.concatenate(steps), last_steps(replay, request, kind)[0])


def test_adding_again_stores_once(replay: Replay, online: MakeOnline) -> None:
    assert replay.add_episodes([online(0), online(1)]) == 2
    assert replay.add_episodes([online(1), online(2)]) == 1
    stats = replay.stats()
    assert (stats.online_episodes, stats.online_transitions, stats.duplicates) == (3, 15, 1)
    assert (stats.offline_episodes, stats.offline_transitions) == (6, sum(range(3, 9)))


def test_truncation_is_not_termination(replay: Replay, online: MakeOnline, kind: str) -> None:
    replay.add_episodes([online(0, 3, "time_limit", 100.0), online(1, 3, "terminated", 200.0)])
    rewards, terminated = last_steps(replay, SampleRequest(400, 0, offline_fraction=0.0), kind)
    truncated, ended = rewards == 100.0, rewards == 201.0
    assert truncated.any()
    assert not terminated[truncated].any()
    assert terminated[ended].any()
    assert not terminated[ended].all()


def test_the_returns_of_a_cut_episode_are_not_valid(replay: Replay, online: MakeOnline) -> None:
    replay.add_episodes([online(0, 4, "cut")])
    batch = replay.sample_segments(SampleRequest(32, 0, offline_fraction=0.0))
    assert batch.valid.any()
    assert not batch.returns_valid.any()


def test_return_weighting_prefers_better_episodes_and_leaves_cut_ones_out(
    replay: Replay, online: MakeOnline
) -> None:
    replay.add_episodes([online(0, 5, reward=100.0), online(1, 5, reward=300.0), online(2, 5, "cut", 500.0)])
    batch = replay.sample_segments(SampleRequest(3000, 0, offline_fraction=0.0, weighting="return"))
    rewards = batch.rewards[:, -1]
    assert (rewards == 301.0).mean() == pytest.approx(2 / 3, abs=0.04)
    assert not (rewards == 502.0).any()


def test_uniform_weighting_is_over_steps(replay: Replay, online: MakeOnline) -> None:
    replay.add_episodes([online(0, 2), online(1, 8)])
    batch = replay.sample_segments(SampleRequest(3000, 0, offline_fraction=0.0))
    assert (batch.rewards[:, -1] == 101.0).mean() == pytest.approx(0.8, abs=0.03)


def test_touching_windows_hold_ends_at_every_position(replay: Replay, online: MakeOnline) -> None:
    replay.add_episodes([online(sequence, 9, "terminated") for sequence in range(3)])
    request = SampleRequest(3000, 0, offline_fraction=0.5, windows="touching")
    batch = replay.sample_segments(request)
    assert batch.valid.any(axis=1).all()
    is_online = batch.rewards.max(axis=1) >= 90.0
    for of_kind in (batch.terminated[is_online], batch.terminated[~is_online]):
        counts = of_kind.sum(axis=0)
        assert counts / counts.mean() == pytest.approx(np.ones(LENGTH), abs=0.2)
    parts = [replay.sample_segments(replace(request, shard=(rank, 3))) for rank in range(3)]
    assert np.array_equal(np.concatenate([part.observations for part in parts]), batch.observations)
    assert np.array_equal(np.concatenate([part.valid for part in parts]), batch.valid)


def test_single_steps_are_never_behind_an_end(replay: Replay, kind: str) -> None:
    if kind != "tokens":
        steps = replay.sample_transitions(SampleRequest(16, 3))
        others = replay.sample_transitions(SampleRequest(16, 3, windows="touching"))
        assert np.array_equal(steps.rewards, others.rewards)


def test_target_returns_rise_with_complete_visible_episodes(replay: Replay, online: MakeOnline, kind: str) -> None:
    before = replay.target_returns(None)
    replay.add_episodes([online(0, 4, "cut", 900.0), online(1, 4, "terminated", 100.0)])
    assert np.array_equal(replay.target_returns(0), before)
    assert np.array_equal(replay.target_returns(1), before)
    after = replay.target_returns(None)
    each = 1.0 if kind == "tokens" else 101.0  # games count signs
    assert after[0] == pytest.approx(each * (1 + 0.9 + 0.81 + 0.729), rel=1e-5)
    assert (after >= before).all()
    assert (np.diff(after) >= 0.0).all()


def test_a_durable_replay_comes_back_from_its_log(kind: str, online: MakeOnline, tmp_path: Path) -> None:
    first = durable(offline(KINDS[kind]), tmp_path)
    first.add_episodes([online(0), online(1)])
    request = SampleRequest(16, 3, offline_fraction=0.5)
    expected = first.sample_segments(request)
    again = durable(offline(KINDS[kind]), tmp_path)
    assert np.array_equal(again.sample_segments(request).observations, expected.observations)
    assert again.add_episodes([online(1)]) == 0


def test_what_asks_for_no_share_is_given_offline_data_alone(replay: Replay, online: MakeOnline) -> None:
    replay.add_episodes([online(0), online(1)])
    batch = replay.sample_segments(SampleRequest(batch_size=64, seed=0))
    assert (batch.rewards < 50.0).all()


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.4, 1.0])
@pytest.mark.parametrize("world", [2, 4, 8])
def test_shards_one_after_the_other_are_the_batch(
    replay: Replay, online: MakeOnline, world: int, fraction: float
) -> None:
    replay.add_episodes([online(0), online(1)])
    whole = replay.sample_segments(SampleRequest(batch_size=8, seed=3, offline_fraction=fraction))
    parts = [
        replay.sample_segments(SampleRequest(batch_size=8, seed=3, offline_fraction=fraction, shard=(rank, world)))
        for rank in range(world)
    ]
    for name, rows in vars(whole).items():
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), rows), name


def test_nothing_is_quarantined_that_is_sound(replay: Replay, online: MakeOnline) -> None:
    replay.add_episodes([online(0)])
    assert replay.stats().quarantined == 0
