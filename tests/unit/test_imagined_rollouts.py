"""Imagined rollouts as bytes, episodes and chunks: nothing is lost, made twice, or taken for something else."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from system.data.imagined_chunks import ImaginedChunks, chunks_of
from system.data.imagined_rollouts import ImaginedRollouts, join_rollouts
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore
from system.errors import DataError, Interrupted
from system.families.imagination.imagining import imagine
from system.families.imagination.learner import ImaginationLearner
from system.runs.progress import Progress
from system.training.experiment import Experiment
from system.training.imagining import imagine_dataset, imagine_online_if_due
from system.training.protocols import ImaginedChunk
from tests.support.tiny_imagination import tiny_agent, tiny_config, tiny_store


def make_rollouts(*lengths: int, first: int = 0) -> ImaginedRollouts:
    """Of up to three steps, told apart by where they begin."""
    count, generator = len(lengths), np.random.default_rng(first)
    rollouts = ImaginedRollouts(
        observations=generator.normal(size=(count, 4, 2)).astype(np.float32),
        actions=generator.uniform(-1, 1, size=(count, 3, 1)).astype(np.float32),
        rewards=generator.normal(size=(count, 3)).astype(np.float32),
        disagreements=generator.uniform(size=(count, 3)).astype(np.float32),
        lengths=np.array(lengths, np.int64),
        terminated=np.arange(count) % 2 == 1,
        episodes=np.arange(first, first + count),
        steps=np.full(count, first),
        counts={"begun": count, "whole": 1},
    )
    for row, length in enumerate(lengths):
        rollouts.rewards[row, length:] = 0.0
    return rollouts


def test_bytes_bring_everything_back_and_damage_is_named() -> None:
    rollouts = make_rollouts(3, 1)
    again = ImaginedRollouts.from_bytes(rollouts.to_bytes(), "x")
    assert again.to_bytes() == rollouts.to_bytes()
    assert again.counts == rollouts.counts
    for data in (rollouts.to_bytes()[:40], b"", b"{}"):
        with pytest.raises(DataError, match=r"^chunk 3: not imagined rollouts"):
            ImaginedRollouts.from_bytes(data, "chunk 3")


def test_each_rollout_is_an_episode_that_is_cut_unless_it_terminated() -> None:
    rollouts = make_rollouts(3, 2)
    whole, ended = rollouts.to_episodes()
    assert (whole.num_steps, whole.terminated, whole.truncated, whole.complete) == (3, False, True, False)
    assert (ended.num_steps, ended.terminated, ended.truncated, ended.complete) == (2, True, False, True)
    np.testing.assert_array_equal(ended.observations, rollouts.observations[1, :3])


def test_joined_parts_keep_their_order_and_counts_add_up() -> None:
    joined = join_rollouts([make_rollouts(3, 1), make_rollouts(2, first=5)])
    assert joined.episodes.tolist() == [0, 1, 5]
    assert joined.counts == {"begun": 3, "whole": 2}
    assert joined.num_steps == 6


def test_chunks_are_whole_episodes_in_order() -> None:
    store = tiny_store(3, 4, 9, 1, 1, 5)
    assert chunks_of(store, 7) == [[0, 1], [2], [3, 4, 5]]
    assert chunks_of(store, 1) == [[each] for each in range(6)]


class Counting:
    """Imagines what tells its chunk, last chunk first, and remembers what it was asked."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[tuple[str | int, ...]] = []
        self.stop_after = stop_after

    def __call__(self, chunks: Sequence[ImaginedChunk]) -> Iterator[tuple[int, ImaginedRollouts]]:
        for done, (index, (seed, episodes)) in enumerate(reversed(list(enumerate(chunks)))):
            if done == self.stop_after:
                raise Interrupted(15)
            self.asked.append(seed)
            yield index, make_rollouts(*(2 for _ in episodes), first=episodes[0])


def imagine_toy(
    counting: Counting, folder: Path, monkeypatch: pytest.MonkeyPatch, model: str = "a"
) -> ImaginedRollouts:
    monkeypatch.setattr("system.training.imagining.CHUNK_STEPS", 7)
    return imagine_dataset(
        counting,
        tiny_store(3, 4, 9, 1, 1, 5),
        folder,
        {"model": model},
        progress=lambda done, total: None,
        throw_away=False,
    )


def test_a_map_that_was_stopped_goes_on_without_a_chunk_lost_or_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = imagine_toy(Counting(), tmp_path / "whole", monkeypatch)
    assert whole.episodes.tolist() == [0, 1, 2, 3, 4, 5]
    first, second, third = Counting(stop_after=1), Counting(stop_after=1), Counting()
    for each in (first, second):
        with pytest.raises(Interrupted):
            imagine_toy(each, tmp_path / "cut", monkeypatch)
    (tmp_path / "cut" / ".chunk-000000.safetensors.77").write_bytes(b"half a chunk of a process that was killed")
    again = imagine_toy(third, tmp_path / "cut", monkeypatch)
    assert [seed for each in (first, second, third) for seed in each.asked] == [
        ("offline", 2),
        ("offline", 1),
        ("offline", 0),
    ]
    assert again.to_bytes() == whole.to_bytes()
    last = Counting()
    assert imagine_toy(last, tmp_path / "cut", monkeypatch).to_bytes() == whole.to_bytes()
    assert last.asked == []


def test_chunks_of_another_model_are_in_the_way_or_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagine_toy(Counting(), tmp_path, monkeypatch)
    with pytest.raises(DataError, match="was imagined by another model"):
        imagine_toy(Counting(), tmp_path, monkeypatch, model="b")
    assert ImaginedChunks(tmp_path, {"model": "a"}, 3, throw_away=True).missing() == []
    assert ImaginedChunks(tmp_path, {"model": "b"}, 3, throw_away=True).missing() == [0, 1, 2]


def test_an_online_refresh_that_was_stopped_is_due_again() -> None:
    config = tiny_config(refresh_every_env_steps=30, refreshed_share=1.0)
    store = tiny_store(8, 9)
    agent = tiny_agent(config, store)
    learner = ImaginationLearner(agent, config)
    stopped: list[bool] = []

    def imagine_chunks(
        store: EpisodeStore, chunks: Sequence[ImaginedChunk]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        for index, (seed, episodes) in enumerate(chunks):
            yield index, imagine(agent, store, episodes, config, seed)
            if not stopped:
                stopped.append(True)
                raise Interrupted(15)

    run = Experiment.__new__(Experiment)
    vars(run).update(
        config=config,
        progress=Progress(env_steps=65, episodes=3),
        data=PreparedData((agent.task,), store, store, {}, 0, {}),
        agent=lambda: agent,
        imagine=imagine_chunks,
        workers=SimpleNamespace(learners=learner, replay=SimpleNamespace(online_episodes=lambda *_: [])),
        tracker=SimpleNamespace(note=lambda text: None, log_metrics=lambda *_, **__: None),
    )
    with pytest.raises(Interrupted):
        imagine_online_if_due(run)
    assert (run.progress.imagined_refreshes, run.progress.imagined_episodes) == (0, 0)
    imagine_online_if_due(run)
    assert (run.progress.imagined_refreshes, run.progress.imagined_episodes) == (2, 3)
    assert len(learner.imagined) > 0 and len(run.progress.imagined) == 1
