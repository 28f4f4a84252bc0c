"""The columnar store: building, saving, opening, selecting, gathering."""

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make_episode, make_episodes

from system.data.store.episodes import COLUMNS, EpisodeStore, gather_segments, gather_transitions
from system.data.store.returns import returns_to_go
from system.errors import DataError


@pytest.fixture
def store() -> EpisodeStore:
    return EpisodeStore.from_episodes(make_episodes(), discount=0.9)


def test_returns_to_go_include_the_step_itself() -> None:
    assert returns_to_go(np.array([1.0, 2.0, 4.0]), 0.5).tolist() == [3.0, 4.0, 4.0]
    assert returns_to_go(np.array([1.0, 2.0, 4.0]), 0.0).tolist() == [1.0, 2.0, 4.0]


def test_returns_to_go_are_summed_in_double_precision() -> None:
    rewards = np.full(100_000, 0.1, dtype=np.float32)
    exact = float(np.float32(0.1)) * 100_000
    assert returns_to_go(rewards, 1.0)[0] == pytest.approx(exact, rel=1e-12)


def test_store_returns_the_episodes_it_was_built_from(store: EpisodeStore) -> None:
    for index, episode in enumerate(make_episodes()):
        stored = store.episode(index)
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(episode, name))
        assert (stored.terminated, stored.truncated, stored.complete) == (
            episode.terminated,
            episode.truncated,
            episode.complete,
        )
    assert store.num_episodes == 5
    assert store.num_steps == 19
    assert (store.observation_shape, store.action_shape) == ((3,), (2,))
    np.testing.assert_allclose(store.episode_returns, [e.episode_return for e in make_episodes()], rtol=1e-6)


def test_columns_are_read_only(store: EpisodeStore) -> None:
    for name in COLUMNS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(store, name)[0] = 1


@pytest.mark.parametrize("index", [-1, 5])
def test_an_episode_outside_the_store_is_refused(store: EpisodeStore, index: int) -> None:
    with pytest.raises(DataError, match=f"episode {index} of a store of 5"):
        store.episode(index)
    with pytest.raises(DataError, match="of a store of 5"):
        store.select([index])


def test_unfit_episodes_are_refused() -> None:
    with pytest.raises(DataError, match="no episodes"):
        EpisodeStore.from_episodes([], discount=0.9)
    with pytest.raises(DataError, match="episode 1 has no steps"):
        EpisodeStore.from_episodes([make_episode(2, "cut"), make_episode(0, "cut")], discount=0.9)
    short = make_episode(2, "cut")
    object.__setattr__(short, "observations", short.observations[:-1])
    with pytest.raises(DataError, match=r"episode 0 of 2 steps has observations \(2, 3\)"):
        EpisodeStore.from_episodes([short], discount=0.9)


def test_select_keeps_order_and_content(store: EpisodeStore) -> None:
    chosen = store.select([4, 0, 2])
    for position, index in enumerate([4, 0, 2]):
        np.testing.assert_array_equal(chosen.episode(position).observations, store.episode(index).observations)
        np.testing.assert_array_equal(chosen.episode(position).actions, store.episode(index).actions)
        assert chosen.complete[position] == store.complete[index]
    again = EpisodeStore.from_episodes([make_episodes()[index] for index in (4, 0, 2)], discount=0.9)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(chosen, name), getattr(again, name))


def test_an_empty_selection_is_an_empty_store(store: EpisodeStore, tmp_path: Path) -> None:
    empty = store.select([])
    assert (empty.num_episodes, empty.num_steps, empty.observation_shape) == (0, 0, (3,))
    assert empty.episode_returns.shape == (0,)
    nothing = gather_segments(empty, np.zeros(0, np.int64), np.zeros(0, np.int64), 4)
    assert nothing.observations.shape == (0, 4, 3)
    empty.save(tmp_path / "store")
    assert EpisodeStore.open(tmp_path / "store").num_episodes == 0


def test_saved_store_is_mapped_and_equal(store: EpisodeStore, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "store"
    store.save(folder)
    opened = EpisodeStore.open(folder)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(opened, name), getattr(store, name))
    assert opened.discount == 0.9
    assert isinstance(opened.observations.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.rewards[0] = 1.0
    assert [path.name for path in folder.parent.iterdir()] == ["store"]


def test_saving_again_replaces_the_store(store: EpisodeStore, tmp_path: Path) -> None:
    store.save(tmp_path / "store")
    store.select([1]).save(tmp_path / "store")
    assert EpisodeStore.open(tmp_path / "store").num_episodes == 1
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_failed_save_leaves_no_debris(
    store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", fail)
    with pytest.raises(OSError, match="disk full"):
        store.save(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COLUMNS)
def test_a_changed_or_missing_column_is_refused(store: EpisodeStore, tmp_path: Path, name: str) -> None:
    store.save(tmp_path / "store")
    file = tmp_path / "store" / f"{name}.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}\.npy: does not match its checksum"):
        EpisodeStore.open(tmp_path / "store")
    file.unlink()
    with pytest.raises(DataError, match=rf"{name}\.npy"):
        EpisodeStore.open(tmp_path / "store")


@pytest.mark.parametrize("content", ["", "[]", '{"format": 99}', '{"format": 4, "discount": "x", "sha256": {}}'])
def test_a_broken_manifest_is_refused(store: EpisodeStore, tmp_path: Path, content: str) -> None:
    store.save(tmp_path / "store")
    (tmp_path / "store" / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="store"):
        EpisodeStore.open(tmp_path / "store")


def test_columns_that_do_not_fit_are_refused(store: EpisodeStore, tmp_path: Path) -> None:
    store.save(tmp_path / "a")
    store.select([0, 1]).save(tmp_path / "b")
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab"]
    (tmp_path / "b" / "rewards.npy").write_bytes((tmp_path / "a" / "rewards.npy").read_bytes())
    manifests[1]["sha256"]["rewards"] = manifests[0]["sha256"]["rewards"]
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifests[1]))
    with pytest.raises(DataError, match="column rewards has 19 rows, expected 10"):
        EpisodeStore.open(tmp_path / "b")


@pytest.mark.parametrize(("episode", "step"), [(0, 6), (0, -1), (5, 0), (-1, 0)])
def test_a_window_outside_its_episode_is_refused(store: EpisodeStore, episode: int, step: int) -> None:
    episodes, steps = np.array([1, episode]), np.array([0, step])
    with pytest.raises(DataError, match=r"store of 5|of episode 0, which has 4 steps"):
        gather_segments(store, episodes, steps, 3)


@pytest.mark.parametrize("length", [3, 6])
def test_a_window_is_padded_on_both_sides(store: EpisodeStore, length: int) -> None:
    for index in range(store.num_episodes):
        episode = store.episode(index)
        for last in range(episode.num_steps + length - 1):
            batch = gather_segments(store, np.array([index]), np.array([last]), length)
            for place, step in enumerate(range(last - length + 1, last + 1)):
                inside = 0 <= step < episode.num_steps
                final = step == episode.num_steps - 1
                assert batch.valid[0, place] == inside
                assert batch.terminated[0, place] == (final and episode.terminated)
                assert batch.returns_valid[0, place] == (inside and episode.complete)
                for ours, theirs in (
                    (batch.observations, episode.observations),
                    (batch.actions, episode.actions),
                    (batch.rewards, episode.rewards),
                ):
                    expected = theirs[step] if inside else np.zeros_like(theirs[0])
                    np.testing.assert_array_equal(ours[0, place], expected)


@pytest.mark.parametrize(("episode", "step"), [(0, 4), (0, -1), (5, 0), (-1, 0)])
def test_a_step_outside_its_episode_is_refused(store: EpisodeStore, episode: int, step: int) -> None:
    episodes, steps = np.array([1, episode]), np.array([0, step])
    with pytest.raises(DataError, match=r"store of 5|of episode 0, which has 4 steps"):
        gather_transitions(store, episodes, steps)


def test_gathered_batches_may_be_changed(store: EpisodeStore) -> None:
    batch = gather_segments(store, np.array([0]), np.array([3]), 4)
    batch.observations[:] = 7.0
    assert not np.any(store.observations == 7.0)
