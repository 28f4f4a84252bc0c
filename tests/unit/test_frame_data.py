"""Datasets of frames and discrete actions: writing, loading, refusing, looking over."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest
from dataset_factory import ENVIRONMENTS, KnownTasks, edit_file, edit_metadata, make_dataset, replace_array
from frame_factory import (
    BREAKOUT,
    GAMES,
    HEIGHT,
    PONG,
    WIDTH,
    frame_dataset,
    frame_episode,
    frame_episodes,
    specification,
    token_episode,
)

from system.cli.data import format_report
from system.config import DatasetConfig
from system.data.doctor import DoctorReport, check_dataset
from system.data.loading import LoadedDataset, load_dataset, load_datasets
from system.data.sources import hdf5_reader
from system.data.store.episodes import COLUMNS, EpisodeStore
from system.errors import DataError

ID = "toy/frames-v0"


def load(root: Path, cache: Path | None = None, **options: object) -> LoadedDataset:
    config = DatasetConfig(id=ID, path=str(root), **{"download": False, "limit_ends": "complete", **options})
    return load_dataset(config, environments=GAMES, discount=0.9, cache_folder=cache)


def check(root: Path) -> DoctorReport:
    return check_dataset(DatasetConfig(id=ID, path=str(root), download=False), environments=GAMES)


def assert_same(store: EpisodeStore, expected: EpisodeStore) -> None:
    for name in COLUMNS:
        found, wanted = np.asarray(getattr(store, name)), np.asarray(getattr(expected, name))
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_what_was_written_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    frame_dataset(tmp_path)
    expected = EpisodeStore.from_episodes(frame_episodes(), discount=0.9)
    for loaded in (load(tmp_path), load(tmp_path, tmp_path / "cache"), load(tmp_path, tmp_path / "cache")):
        assert loaded.task == PONG
        assert_same(loaded.store, expected)
    assert isinstance(np.asarray(loaded.store.observations).base, np.memmap)


def test_minari_reads_the_frames_uncompressed_by_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    frame_dataset(tmp_path, episodes=[frame_episode(6, "terminated"), token_episode(4, "time_limit", 1)])
    dataset = minari.load_dataset(ID)
    first, second = dataset.iterate_episodes()
    np.testing.assert_array_equal(first.observations, frame_episode(6, "terminated").observations)
    np.testing.assert_array_equal(second.observations, token_episode(4, "time_limit", 1).frames)
    assert (first.observations.dtype, first.actions.dtype) == (np.uint8, np.int64)
    assert dataset.observation_space.shape == (HEIGHT, WIDTH)
    assert (dataset.observation_space.dtype, dataset.action_space.n) == (np.uint8, 18)


def test_chunks_are_of_several_frames_and_compressed(tmp_path: Path) -> None:
    task = replace(PONG, frame_shape=(84, 84), observation_dim=84 * 84, max_episode_steps=400)
    still = replace(frame_episode(400, "time_limit", task=task), observations=np.full((401, 84, 84), 9, np.uint8))
    data = frame_dataset(tmp_path, episodes=[still], task=task)
    with h5py.File(data / "main_data.hdf5") as file:
        frames = file["episode_0/observations"]
        assert (frames.compression, frames.shuffle, frames.dtype) == ("gzip", True, np.uint8)
        assert 10 < frames.chunks[0] < 401
        assert frames.chunks[1:] == (84, 84)
    assert (data / "main_data.hdf5").stat().st_size < 0.02 * still.observations.nbytes


def test_a_channel_axis_of_one_is_taken_away(tmp_path: Path) -> None:
    data = frame_dataset(tmp_path)
    frames = frame_episodes()[1].observations
    edit_file(data, lambda file: replace_array(file, "episode_1/observations", frames[..., None]))
    assert_same(load(tmp_path).store, EpisodeStore.from_episodes(frame_episodes(), discount=0.9))


@pytest.mark.parametrize("shape", [[210, 160], [210, 160, 3], [HEIGHT, WIDTH, 1]])
def test_metadata_may_describe_the_raw_screen(tmp_path: Path, shape: list[int]) -> None:
    raw = json.dumps({"type": "Box", "dtype": "uint8", "shape": shape, "low": 0, "high": 255})
    edit_metadata(frame_dataset(tmp_path), observation_space=raw)
    assert load(tmp_path).store.observation_shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_space": '{"type": "Discrete", "n": 6}'}, "6 discrete actions, but ALE/Pong-v5 has 18 discrete"),
        (
            {"action_space": '{"type": "Discrete", "n": 18, "start": 1}'},
            "actions counted from 1, but ALE/Pong-v5 has them from 0",
        ),
        ({"action_space": '{"type": "Box", "shape": [18], "low": -1, "high": 1}'}, "18 action dimensions, but"),
        ({"observation_space": '{"type": "Box", "shape": [35], "low": 0, "high": 1}'}, "ALE/Pong-v5 shows frames"),
        (
            {"observation_space": '{"type": "Box", "dtype": "float32", "shape": [7, 5], "low": 0, "high": 1}'},
            "35 observation dimensions, but ALE/Pong-v5 shows frames",
        ),
        (
            {"env_spec": specification(replace(PONG, environment_id="ALE/Tennis-v5"))},
            "environment 'ALE/Tennis-v5' is not known here",
        ),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    edit_metadata(frame_dataset(tmp_path), **changes)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"dataset {ID}: ")


def test_frames_are_no_vectors(tmp_path: Path) -> None:
    data = frame_dataset(tmp_path)
    edit_metadata(data, env_spec='{"id": "Toy-v0"}')
    config = DatasetConfig(id=ID, path=str(tmp_path), download=False)
    with pytest.raises(DataError, match=r"frames of shape \(7, 5\), but Toy-v0 has 3 observation dimensions"):
        load_dataset(config, environments=ENVIRONMENTS, discount=0.9)
    edit_metadata(data, observation_space=None)
    with pytest.raises(DataError, match="18 discrete actions, but Toy-v0 has 2 action dimensions"):
        load_dataset(config, environments=ENVIRONMENTS, discount=0.9)


def put(place: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    return lambda file: replace_array(file, place, change(file[place][()]))


def set_action(step: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda actions: np.where(np.arange(len(actions)) == step, value, actions)


MUTATIONS = {
    "raw screens": ("observations", lambda frames: np.repeat(frames, 2, 1), "have shape (7, 14, 5), expected (7"),
    "colour": ("observations", lambda frames: np.repeat(frames[..., None], 3, 3), "have shape (7, 7, 5, 3)"),
    "scaled frames": ("observations", lambda frames: frames / np.float32(255), "type float32, expected uint8"),
    "a frame missing": ("observations", lambda frames: frames[:-1], "shape (6, 7, 5), expected (7, 7, 5)"),
    "fractions of actions": ("actions", lambda actions: actions.astype(np.float32), "actions have type float32"),
    "actions in columns": ("actions", lambda actions: actions[:, None], "shape (6, 1), expected (6,)"),
    "another game's action": ("actions", set_action(4, 2), "step 4: action is 2, not one of the game's 0, 1"),
    "a negative action": ("actions", set_action(0, -1), "step 0: action is -1, not one"),
    "no reward": ("rewards", lambda rewards: rewards * np.nan, "step 0: reward is nan"),
    "an unbounded reward": ("rewards", lambda rewards: rewards + np.inf, "step 0: reward is inf"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_unfit_episode_is_refused_or_dropped_by_name(tmp_path: Path, name: str) -> None:
    data = frame_dataset(tmp_path)
    whole = load(tmp_path).store
    field, change, message = MUTATIONS[name]
    edit_file(data, put(f"episode_1/{field}", change))
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(DataError) as caught:
            load(tmp_path, cache)
        assert str(caught.value).startswith(f"dataset {ID}: episode 1")
        assert message in str(caught.value)
        dropping = load(tmp_path, cache, on_bad_episode="drop")
        assert len(dropping.dropped) == 1
        assert_same(dropping.store, whole.select([0, 2, 3, 4]))
    assert any(message in fault for fault in check(tmp_path).faults)


def test_the_cache_depends_on_the_game_and_its_actions(tmp_path: Path) -> None:
    frame_dataset(tmp_path, episodes=frame_episodes(BREAKOUT))
    config = DatasetConfig(id=ID, path=str(tmp_path), download=False)

    def load_as(task: object) -> LoadedDataset:
        environments = KnownTasks({"ALE/Pong-v5": task})
        return load_dataset(config, environments=environments, discount=0.9, cache_folder=tmp_path / "cache")

    assert load_as(PONG).store.game.tolist() == [39] * 5
    assert load_as(replace(PONG, game=40)).store.game.tolist() == [40] * 5
    with pytest.raises(DataError, match=r"not one of the game's 0, 1 \("):
        load_as(replace(PONG, valid_actions=(0, 1)))


def test_only_one_episode_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame_dataset(tmp_path)
    monkeypatch.setattr(EpisodeStore, "from_episodes", lambda *_, **__: pytest.fail("held every episode"))
    assert load(tmp_path, tmp_path / "cache").store.num_episodes == 5


def test_one_array_may_not_claim_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame_dataset(tmp_path)
    monkeypatch.setattr(hdf5_reader, "LARGEST_ARRAY_BYTES", 200)
    with pytest.raises(DataError, match="episode_1/observations declares 245 bytes, more than the 200"):
        load(tmp_path)


def test_several_games_are_loaded_together(tmp_path: Path) -> None:
    frame_dataset(tmp_path, "toy/pong-v0")
    frame_dataset(tmp_path, "toy/breakout-v0", task=BREAKOUT)
    make_dataset(tmp_path, "toy/vectors-v0")
    environments = KnownTasks({**GAMES, **ENVIRONMENTS})

    def load_all(*ids: str) -> list[LoadedDataset]:
        config = DatasetConfig(id=ids[0], also=ids[1:], path=str(tmp_path), download=False)
        return load_datasets(config, environments=environments, discount=0.9, cache_folder=tmp_path / "cache")

    loaded = load_all("toy/pong-v0", "toy/breakout-v0")
    assert [each.task.game for each in loaded] == [39, 13]
    assert [each.store.games.tolist() for each in loaded] == [[39], [13]]
    assert len(load_all("toy/vectors-v0")) == 1
    with pytest.raises(DataError, match="toy/pong-v0 is named twice"):
        load_all("toy/pong-v0", "toy/breakout-v0", "toy/pong-v0")
    with pytest.raises(DataError, match="toy/vectors-v0 of Toy-v0 can't be trained on together with toy/pong-v0"):
        load_all("toy/pong-v0", "toy/vectors-v0")
    make_dataset(tmp_path, "toy/vectors-v1")
    with pytest.raises(DataError, match="only Atari games can"):
        load_all("toy/vectors-v0", "toy/vectors-v1")


def test_a_clean_dataset_is_described_by_its_frames_and_actions(tmp_path: Path) -> None:
    actions = np.array([0, 0, 0, 3, 3, 11])
    episode = replace(frame_episode(6, "time_limit"), actions=actions)
    frame_dataset(tmp_path, episodes=[episode, frame_episode(2, "terminated")])
    report = check(tmp_path)
    assert (report.faults, report.warnings) == ([], [])
    assert (report.num_episodes, report.num_steps, report.ended_time_limit) == (2, 8, 1)
    assert [each.name for each in report.coverage] == ["reward"]
    frames = np.concatenate([episode.observations, frame_episode(2, "terminated").observations])
    used = [*actions, *frame_episode(2, "terminated").actions]
    shares = ", ".join(f"{action} {used.count(action) / 8:.1%}" for action in sorted(set(used)))
    never = ", ".join(str(action) for action in PONG.valid_actions if action not in used)
    assert dict(report.facts) == {
        "frames": f"10 of 7x5, grey {frames.min()} to {frames.max()}, mean {frames.mean():.1f}",
        "actions": f"{shares}; never {never}",
    }
    assert f"frames       10 of 7x5, grey {frames.min()} to" in format_report(report, "complete")


@pytest.mark.parametrize(("said", "probability"), [(0.25, "0.25"), (None, "0.25"), (0.0, None), (0, None)])
def test_sticky_actions_are_a_warning(tmp_path: Path, said: float | None, probability: str | None) -> None:
    data = frame_dataset(tmp_path)
    arguments = {"id": PONG.environment_id, "kwargs": {} if said is None else {"repeat_action_probability": said}}
    edit_metadata(data, env_spec=json.dumps(arguments))
    sticky = [line for line in check(tmp_path).warnings if "sticky" in line]
    assert len(sticky) == (probability is not None)
    assert all(f"(probability {probability})" in line for line in sticky)
    assert load(tmp_path).store.num_episodes == 5


def test_oddities_are_warnings(tmp_path: Path) -> None:
    padded = frame_episode(6, "terminated", 1)
    padded.observations[:3] = 0
    black = frame_episode(2, "terminated", 2)
    black.observations[:] = 0
    single = frame_episode(3, "terminated", 3)
    single.observations[0] = 0
    frame_dataset(tmp_path, episodes=[padded, single, black, single])
    assert check(tmp_path).warnings == [
        "episode 3: the same as episode 1",
        "episode 0: begins with 3 black frames, which may be padding",
        "episode 2: begins with 3 black frames, which may be padding",
    ]
