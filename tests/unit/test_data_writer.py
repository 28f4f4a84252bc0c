"""Datasets written for Minari, read back by Minari itself."""

from dataclasses import replace
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from dataset_factory import SPECIFICATION, TASK, make_dataset, make_episode, make_episodes

from system.config import DatasetConfig
from system.data import writer as minari_writer
from system.data.loading import load_dataset
from system.data.writer import write_dataset
from system.envs.registry import Environments, find_task
from system.errors import DataError

HOPPER = find_task("Hopper-v5")


def test_minari_reads_every_array_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = [make_episode(length, "terminated", length, HOPPER) for length in (1, 7, 200)]
    episodes.append(replace(make_episode(1000, "time_limit", 4, HOPPER), truncated=True))
    folder = write_dataset(
        tmp_path,
        "o2o/hopper/toy-v0",
        episodes,
        task=HOPPER,
        environment_specification=gymnasium.spec("Hopper-v5").to_json(),
        author="somebody",
        algorithm_name="something",
        description="a test",
    )
    dataset = minari.load_dataset("o2o/hopper/toy-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (4, 1208)
    for written, read in zip(episodes, dataset.iterate_episodes(), strict=True):
        for name in ("observations", "actions", "rewards"):
            assert getattr(read, name).dtype == np.float32
            np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert read.terminations.tolist() == [False] * (written.num_steps - 1) + [written.terminated]
        assert read.truncations.tolist() == [False] * (written.num_steps - 1) + [written.truncated]
    assert dataset.env_spec.id == "Hopper-v5"
    assert dataset.observation_space.dtype == np.float32
    assert dataset.action_space == gymnasium.make("Hopper-v5").action_space
    assert minari.get_normalized_score(dataset, np.array([3234.3]))[0] == pytest.approx(1.0)
    metadata = dataset.storage.metadata
    assert metadata["author"] == {"somebody"}
    assert (metadata["algorithm_name"], metadata["description"]) == ("something", "a test")
    assert "o2o/hopper/toy-v0" in minari.list_local_datasets()
    assert sorted(minari.namespace.list_local_namespaces()) == ["o2o", "o2o/hopper"]
    assert folder == tmp_path / "o2o/hopper/toy-v0"


@pytest.mark.filterwarnings("ignore:.*is set to None")
def test_data_recorded_by_minari_itself_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = [make_episode(length, "terminated", length, HOPPER) for length in (3, 40)]
    buffers = [
        minari.data_collector.EpisodeBuffer(
            id=index,
            observations=episode.observations.astype(np.float64),
            actions=list(episode.actions),
            rewards=list(episode.rewards),
            terminations=[False] * (episode.num_steps - 1) + [True],
            truncations=[False] * episode.num_steps,
            infos={},
        )
        for index, episode in enumerate(episodes)
    ]
    minari.create_dataset_from_buffers("toy/hopper-v0", buffers, env="Hopper-v5", eval_env="Hopper-v5")
    config = DatasetConfig(id="toy/hopper-v0", download=False)
    store = load_dataset(config, environments=Environments(), discount=0.9).store
    for index, episode in enumerate(episodes):
        np.testing.assert_array_equal(store.episode(index).observations, episode.observations)
        np.testing.assert_array_equal(store.episode(index).actions, episode.actions)
        np.testing.assert_array_equal(store.episode(index).rewards, episode.rewards)


def test_long_smooth_episodes_are_compressed(tmp_path: Path) -> None:
    steps = np.linspace(0.0, 1.0, 6001, dtype=np.float32)[:, None]
    task = replace(TASK, max_episode_steps=6000)
    episode = replace(
        make_episode(6000, "time_limit", 0, task),
        observations=np.repeat(steps, 3, axis=1),
        actions=np.zeros((6000, 2), dtype=np.float32),
    )
    data = make_dataset(tmp_path, episodes=[episode], task=task)
    assert (data / "main_data.hdf5").stat().st_size < 0.6 * 6000 * (3 + 2 + 1) * 4


@pytest.mark.parametrize("field", ["observations", "actions", "rewards"])
def test_an_unfit_episode_is_not_written_and_leaves_no_debris(tmp_path: Path, field: str) -> None:
    episodes = make_episodes()
    values = getattr(episodes[1], field).copy()
    values[2] = np.nan
    episodes[1] = replace(episodes[1], **{field: values})
    with pytest.raises(DataError, match=r"toy/mixed-v0: episode 1, step 2: .* is nan"):
        make_dataset(tmp_path, episodes=episodes)
    assert not list(tmp_path.rglob("*.hdf5"))
    assert not list((tmp_path / "toy").iterdir())
    make_dataset(tmp_path)


def test_a_crash_while_writing_leaves_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(minari_writer, "_write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        make_dataset(tmp_path)
    assert not list((tmp_path / "toy").iterdir())


def test_an_existing_dataset_is_left_alone(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    before = (data / "main_data.hdf5").read_bytes()
    with pytest.raises(DataError, match="exists already"):
        make_dataset(tmp_path, episodes=[make_episode(2, "terminated")])
    assert (data / "main_data.hdf5").read_bytes() == before


@pytest.mark.parametrize(
    ("dataset_id", "specification", "message"),
    [
        ("../toy-v0", SPECIFICATION, "is not of the form"),
        ("toy/mixed-v0", "{}", "not JSON with an id"),
        ("toy/mixed-v0", '{"id": "Other-v0"}', "specification of Other-v0"),
    ],
)
def test_wrong_requests_write_nothing(tmp_path: Path, dataset_id: str, specification: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_dataset(
            tmp_path / "root",
            dataset_id,
            make_episodes(),
            task=TASK,
            environment_specification=specification,
            author="",
            algorithm_name="",
            description="",
        )
    assert list(tmp_path.iterdir()) == []
