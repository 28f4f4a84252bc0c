"""Finding, loading and caching a dataset."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from dataset_factory import (
    ENVIRONMENTS,
    SPECIFICATION,
    TASK,
    KnownTasks,
    edit_file,
    edit_metadata,
    make_dataset,
    make_episode,
    make_episodes,
)

from system.config import DatasetConfig
from system.data.loading import LoadedDataset, load_dataset
from system.data.sources import minari as minari_source
from system.data.sources import minari_hub, minari_layout
from system.data.store.episodes import COLUMNS
from system.errors import DataError


def load(
    root: Path | None, dataset_id: str = "toy/mixed-v0", cache: Path | None = None, **options: object
) -> LoadedDataset:
    path = None if root is None else str(root)
    config = DatasetConfig(id=dataset_id, path=path, **{"download": False, **options})
    return load_dataset(config, environments=ENVIRONMENTS, discount=0.9, cache_folder=cache)


def test_what_was_written_is_loaded(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.id, loaded.task, loaded.dropped) == ("toy/mixed-v0", TASK, [])
    for index, episode in enumerate(make_episodes()):
        stored = loaded.store.episode(index)
        np.testing.assert_array_equal(stored.observations, episode.observations)
        np.testing.assert_array_equal(stored.actions, episode.actions)
        np.testing.assert_array_equal(stored.rewards, episode.rewards)
        assert stored.terminated == episode.terminated
        assert stored.truncated == episode.truncated
        assert stored.complete == episode.complete


def test_episodes_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    make_dataset(tmp_path, episodes=[make_episode(1 + index % 5, "terminated", index) for index in range(12)])
    assert load(tmp_path).store.lengths.tolist() == [1 + index % 5 for index in range(12)]


def test_only_the_environments_own_time_limit_completes_a_truncated_episode(tmp_path: Path) -> None:
    early = replace(make_episode(4, "time_limit"), complete=False)
    both = replace(make_episode(6, "time_limit"), terminated=True)
    make_dataset(tmp_path, episodes=[early, make_episode(6, "time_limit"), both, make_episode(6, "cut")])
    store = load(tmp_path).store
    assert store.truncated.tolist() == [True, True, True, False]
    assert store.complete.tolist() == [False, True, True, False]
    assert store.terminated.tolist() == [False, False, True, False]


def test_actions_are_rescaled_from_the_environments_bounds(tmp_path: Path) -> None:
    task = replace(TASK, action_low=-3.0, action_high=1.0)
    data = make_dataset(tmp_path, episodes=make_episodes(), task=task)
    with h5py.File(data / "main_data.hdf5") as file:
        stored = file["episode_0/actions"][()]
    assert stored.min() < -1.0
    config = DatasetConfig(id="toy/mixed-v0", path=str(tmp_path), download=False)
    loaded = load_dataset(config, environments=KnownTasks({"Toy-v0": task}), discount=0.9)
    np.testing.assert_allclose(loaded.store.episode(0).actions, make_episodes()[0].actions, atol=1e-6)
    np.testing.assert_allclose(stored, -3.0 + 2.0 * (loaded.store.episode(0).actions + 1.0), atol=1e-6)
    assert (loaded.task.action_low, loaded.task.action_high) == (-3.0, 1.0)


def test_actions_within_tolerance_are_clipped(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    edit_file(data, lambda file: file["episode_0/actions"].__setitem__((0, 0), 1.00005))
    assert load(tmp_path).store.actions.max() == 1.0


def test_reference_scores_come_from_the_data_else_from_the_environment(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    edit_metadata(data, ref_min_score=-5.0, ref_max_score=45.0)
    assert load(tmp_path).task == replace(TASK, reference_min=-5.0, reference_max=45.0)
    edit_metadata(data, ref_max_score=None)
    assert load(tmp_path).task == TASK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_spec": SPECIFICATION.replace("Toy-v0", "Other-v0")}, "environment 'Other-v0' is not known here"),
        ({"env_spec": "{"}, "env_spec of its metadata is not JSON"),
        ({"data_format": "arrow"}, "only hdf5 is read"),
        ({"observation_space": '{"type": "Dict", "subspaces": {}}'}, "observation_space is a Dict; only Box"),
        (
            {"action_space": '{"type": "Discrete", "n": 4}'},
            "4 discrete actions, but Toy-v0 has 2 action dimensions",
        ),
        ({"action_space": '{"type": "MultiDiscrete"}'}, "action_space is a MultiDiscrete; only a Box"),
        (
            {"observation_space": '{"type": "Dict", "subspaces": {"a": {"type": "Text"}}}'},
            "observation_space a is a Text; only Box",
        ),
        ({"observation_space": '{"type": "Box", "shape": [84, 84], "low": 0, "high": 255}'}, "7056 observation"),
        ({"action_space": '{"type": "Box", "shape": [2], "low": "x", "high": 1}'}, "bounds that are no numbers"),
        ({"observation_space": '{"type": "Box", "shape": [4], "low": 0, "high": 1}'}, "4 observation dimensions"),
        ({"action_space": '{"type": "Box", "shape": [1], "low": -1, "high": 1}'}, "1 action dimensions"),
        ({"action_space": '{"type": "Box", "shape": [2], "low": [-1, -2], "high": [1, 1]}'}, "action bounds"),
        ({"total_episodes": 9}, "declare 9 episodes, main_data.hdf5 has 5"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    edit_metadata(make_dataset(tmp_path), **changes)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert "toy/mixed-v0" in str(caught.value)


def test_spaces_missing_from_the_metadata_are_the_environments(tmp_path: Path) -> None:
    edit_metadata(make_dataset(tmp_path), observation_space=None, action_space=None)
    assert load(tmp_path).store.num_episodes == 5


@pytest.mark.parametrize("damage", ["metadata", "truncated", "absent"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    data = make_dataset(tmp_path)
    if damage == "metadata":
        (data / "metadata.json").write_text("[" * 100_000)
    elif damage == "truncated":
        content = (data / "main_data.hdf5").read_bytes()
        (data / "main_data.hdf5").write_bytes(content[: len(content) // 2])
    else:
        (data / "main_data.hdf5").unlink()
    with pytest.raises(DataError, match="toy/mixed-v0") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_dataset_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^dataset\.id: toy/mixed-v1 is not in .*MINARI_DATASETS_PATH.*o2o coll"):
        load(tmp_path, "toy/mixed-v1")


def test_roots_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped, variable, explicit = tmp_path / "shipped", tmp_path / "variable", tmp_path / "explicit"
    monkeypatch.setattr(minari_layout, "SHIPPED_ROOT", shipped)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(variable))
    roots = {1: variable, 2: shipped, 3: explicit}
    for length, root in roots.items():
        make_dataset(root, "o2o/toy-v0", [make_episode(length, "terminated")])
        make_dataset(root, "toy/toy-v0", [make_episode(length, "terminated")])
    assert load(explicit, "o2o/toy-v0").store.num_steps == 3
    assert load(None, "o2o/toy-v0").store.num_steps == 2
    assert load(tmp_path / "empty", "o2o/toy-v0").store.num_steps == 2
    assert load(explicit, "toy/toy-v0").store.num_steps == 3
    assert load(None, "toy/toy-v0").store.num_steps == 1
    with pytest.raises(DataError, match="is not in"):
        load(tmp_path / "empty", "toy/toy-v0")


def test_a_download_is_tried_once_and_its_result_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Path]] = []

    def succeed(dataset_id: str, root: Path) -> str:
        asked.append((dataset_id, root))
        make_dataset(root, dataset_id)
        return ""

    monkeypatch.setattr(minari_source, "download_dataset", succeed)
    assert load(tmp_path, download=True).store.num_episodes == 5
    assert load(tmp_path, download=True).store.num_episodes == 5
    assert asked == [("toy/mixed-v0", tmp_path)]


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minari_source, "download_dataset", lambda *_: "Minari's hub cannot be reached")
    with pytest.raises(DataError, match="failed: Minari's hub cannot be reached; set MINARI_DATASETS_PATH"):
        load(tmp_path, download=True)


def test_nothing_is_downloaded_for_ids_of_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minari_source, "download_dataset", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(DataError, match="o2o/nothing-v0 is not in"):
        load(tmp_path, "o2o/nothing-v0", download=True)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, sys; open(os.path.join(os.environ['MINARI_DATASETS_PATH'], sys.argv[1]), 'w')", ""),
        ("print('noise'); raise ValueError('no such version')", "no such version"),
        ("raise ConnectionError('offline')", "Minari's hub cannot be reached"),
        ("class ConnectError(Exception): pass\nraise ConnectError('Temporary failure')", "cannot be reached"),
        ("import time; time.sleep(60)", "no answer within"),
    ],
)
def test_the_hub_is_asked_in_a_quiet_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], program: str, reason: str
) -> None:
    monkeypatch.setattr(minari_hub, "_PROGRAM", program)
    timeout = 0.2 if "sleep" in program else 60.0
    answer = minari_hub.download_dataset("toy-v0", tmp_path, timeout)
    assert reason in answer
    assert bool(answer) == bool(reason)
    assert (tmp_path / "toy-v0").exists() == (reason == "")
    assert capfd.readouterr() == ("", "")


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read episode by episode from now on."""
    readings: list[Path] = []

    class Counting(minari_source.Hdf5Episodes):
        def __init__(self, file: Path, dataset_id: str, **settings: Any):
            readings.append(file)
            super().__init__(file, dataset_id, **settings)

    monkeypatch.setattr(minari_source, "Hdf5Episodes", Counting)
    return readings


def test_a_cached_dataset_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(tmp_path)
    edit_file(data, lambda file: file["episode_2/rewards"].__setitem__(1, np.nan))
    readings = count_readings(monkeypatch)
    first = load(tmp_path, cache=tmp_path / "cache", on_bad_episode="drop")
    second = load(tmp_path, cache=tmp_path / "cache", on_bad_episode="drop")
    assert len(readings) == 1
    assert second.dropped == first.dropped == ["episode 2, step 1: reward is nan"]
    assert isinstance(second.store.observations.base, np.memmap)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(first.store, name), getattr(second.store, name))
    with pytest.raises(DataError, match="episode 2, step 1"):
        load(tmp_path, cache=tmp_path / "cache")


def test_the_cache_depends_on_content_discount_and_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path)
    readings = count_readings(monkeypatch)
    load(tmp_path, cache=tmp_path / "cache")
    config = DatasetConfig(id="toy/mixed-v0", path=str(tmp_path), download=False)
    other = load_dataset(config, environments=ENVIRONMENTS, discount=0.5, cache_folder=tmp_path / "cache")
    assert other.store.discount == 0.5
    longer = KnownTasks({"Toy-v0": replace(TASK, max_episode_steps=9)})
    other = load_dataset(config, environments=longer, discount=0.9, cache_folder=tmp_path / "cache")
    assert not other.store.complete[1]
    edit_file(data, lambda file: file["episode_0/rewards"].__setitem__(0, 42.0))
    assert load(tmp_path, cache=tmp_path / "cache").store.rewards[0] == 42.0
    assert len(readings) == 4


@pytest.mark.parametrize("victim", ["rewards.npy", "manifest.json", "*.dropped.json"])
def test_a_broken_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    make_dataset(tmp_path)
    readings = count_readings(monkeypatch)
    whole = load(tmp_path)
    load(tmp_path, cache=tmp_path / "cache")
    [file] = (tmp_path / "cache").rglob(victim)
    file.write_bytes(file.read_bytes()[:-1])
    again = load(tmp_path, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.store.rewards, whole.store.rewards)
    load(tmp_path, cache=tmp_path / "cache")
    assert len(readings) == 3


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    (tmp_path / "cache").write_text("a file, not a folder")
    assert load(tmp_path, cache=tmp_path / "cache").store.num_episodes == 5
