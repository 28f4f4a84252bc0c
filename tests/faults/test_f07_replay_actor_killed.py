"""F2, F7: the replay actor is killed while idle, in the middle of an append, and between append and answer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from system.data.replay.episode_log import EpisodeLog
from system.data.replay.sampling import SampleRequest
from system.data.store.episodes import EpisodeStore
from system.distributed import replay_service
from system.distributed.replay_service import ReplayClient, ReplayService, start_replay_service
from system.errors import SystemFailure, WorkerLost
from system.types import Episode, EpisodeKey
from tests.support.dataset_factory import make_episode, make_episodes
from tests.support.frame_factory import token_episode
from tests.support.tiny_workers import kill_process, logged_episodes, wait_for_end

pytestmark = pytest.mark.usefixtures("ray_session")

CONTEXT_LENGTH, MAX_EPISODE_STEPS = 3, 6
POINTS = ["replay.before_append:3", "replay.mid_append:3", "replay.after_append:3"]
MANY_POINTS = [
    f"replay.{place}_append:{count}" for place in ("before", "mid", "after") for count in range(1, 21)
]


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    EpisodeStore.from_episodes(make_episodes(), discount=0.9).save(tmp_path / "offline")
    return tmp_path / "offline"


@pytest.fixture
def offline_tokens(tmp_path: Path) -> Path:
    EpisodeStore.from_episodes([token_episode(4, "terminated")], discount=0.9).save(tmp_path / "offline")
    return tmp_path / "offline"


@pytest.fixture
def client(tmp_path: Path, offline: Path) -> Iterator[ReplayClient]:
    made = start_replay_service(offline, tmp_path / "replay", CONTEXT_LENGTH, MAX_EPISODE_STEPS)
    yield made
    made.close()


def faulty_client(tmp_path: Path, offline: Path, point: str) -> ReplayClient:
    """An actor that kills itself at a named point, once."""
    environment = {"O2O_FAULT": f"{point}:SIGKILL", "O2O_FAULT_ONCE": str(tmp_path / "killed")}
    actor = ray.remote(ReplayService).options(max_restarts=-1, num_cpus=0, runtime_env={"env_vars": environment})
    return ReplayClient(actor.remote(offline, tmp_path / "replay", CONTEXT_LENGTH, MAX_EPISODE_STEPS))


def online_episode(number: int, make: Callable[[int, str, int], Episode] = make_episode) -> Episode:
    return replace(
        make(2 + number % 4, "terminated", 100 + number),
        key=EpisodeKey(0, 0, number),
        policy_version=np.zeros(2 + number % 4, dtype=np.int64),
    )


def contents(episode: Episode) -> bytes:
    return episode.observations.tobytes() + episode.actions.tobytes() + episode.rewards.tobytes()


def check_that_nothing_is_lost(tmp_path: Path, offline: Path, point: str, sent: list[Episode]) -> None:
    client = faulty_client(tmp_path, offline, point)
    try:
        for episode in sent:
            client.add_episodes([episode])
        assert (tmp_path / "killed").exists(), "the point was not reached"
        assert client.identity()[1] == 2, "one incarnation was lost"
        assert client.stats().online_episodes == len(sent)
        assert client.stats().online_transitions == sum(episode.num_steps for episode in sent)
    finally:
        client.close()
    assert logged_episodes(tmp_path) == {episode.key: contents(episode) for episode in sent}


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_appending(point: str, tmp_path: Path, offline: Path) -> None:
    check_that_nothing_is_lost(tmp_path, offline, point, [online_episode(number) for number in range(5)])


def test_killed_while_appending_tokens_with_their_frames(tmp_path: Path, offline_tokens: Path) -> None:
    sent = [online_episode(number, token_episode) for number in range(4)]
    check_that_nothing_is_lost(tmp_path, offline_tokens, "replay.mid_append:3", sent)
    log = EpisodeLog.open(tmp_path / "replay", with_frames=True)
    log.close()
    for ours, theirs in zip(log.episodes, sent, strict=True):
        assert ours.frames is not None
        assert np.array_equal(ours.frames, theirs.frames)


@pytest.mark.soak
@pytest.mark.parametrize("point", MANY_POINTS)
def test_killed_while_appending_anywhere(point: str, tmp_path: Path, offline: Path) -> None:
    check_that_nothing_is_lost(tmp_path, offline, point, [online_episode(number) for number in range(24)])


def test_killed_while_idle_it_answers_as_before(tmp_path: Path, client: ReplayClient) -> None:
    client.add_episodes([online_episode(number) for number in range(4)])
    request = SampleRequest(batch_size=8, seed=5, offline_fraction=0.5, visible_episodes=3, weighting="return")

    def answers() -> list[bytes]:
        segments, transitions = client.sample_segments(request), client.sample_transitions(request)
        arrays = [*vars(segments).values(), *vars(transitions).values(), client.target_returns(2)]
        return [array.tobytes() for array in arrays]

    before, stats, (process_id, generation) = answers(), client.stats(), client.identity()
    kill_process(process_id)
    assert answers() == before
    assert client.stats() == stats
    assert client.identity()[0] != process_id
    assert client.identity()[1] == generation + 1
    assert client.add_episodes([online_episode(3), online_episode(4)]) == 1


def test_a_superseded_replay_acknowledges_nothing(tmp_path: Path, offline: Path, client: ReplayClient) -> None:
    client.add_episodes([online_episode(0)])
    successor = start_replay_service(offline, tmp_path / "replay", CONTEXT_LENGTH, MAX_EPISODE_STEPS)
    assert successor.stats().online_episodes == 1
    with pytest.raises(SystemFailure, match=r"^\S+: writer of generation 1 was superseded by generation 2$"):
        client.add_episodes([online_episode(1)])
    successor.close()


def test_patience_ends(tmp_path: Path, client: ReplayClient, monkeypatch: pytest.MonkeyPatch) -> None:
    process_id, _ = client.identity()
    client.close()
    wait_for_end(process_id)
    monkeypatch.setattr(replay_service, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(WorkerLost, match=r"^replay lost: [^\n]+$") as caught:
        client.stats()
    assert caught.value.role == "replay"


def test_broken_offline_data_is_named_at_once(tmp_path: Path, offline: Path) -> None:
    (offline / "rewards.npy").write_bytes(b"")
    client = start_replay_service(offline, tmp_path / "replay", CONTEXT_LENGTH, MAX_EPISODE_STEPS)
    with pytest.raises(SystemFailure, match=r"could not start: .*rewards.npy: does not match its checksum$"):
        client.stats()
