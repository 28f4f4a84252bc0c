"""`dataset.file`: data are loaded, remembered and refused as those with an id are, whatever their layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import ENVIRONMENTS, TASK, KnownTasks, make_episode, make_episodes
from file_factory import (
    LAYOUTS,
    d4rl_columns,
    read_file,
    table,
    write_d4rl,
    write_layout,
    write_robomimic,
    write_table,
    write_tables,
)

from system.config import DatasetConfig
from system.data.loading import LoadedDataset, load_dataset
from system.data.validation import to_episode
from system.errors import DataError


def load(
    file: Path, *, environment_id: str | None = "Toy-v0", cache: Path | None = None, **options: object
) -> LoadedDataset:
    config = DatasetConfig(file=str(file), **options)
    return load_dataset(
        config, environments=ENVIRONMENTS, environment_id=environment_id, discount=0.9, cache_folder=cache
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_loaded_and_kept_by_its_content(layout: str, tmp_path: Path) -> None:
    file, cache = write_layout(tmp_path / "first", layout), tmp_path / "cache"
    loaded = [load(file, cache=cache) for _ in range(2)]
    for each in loaded:
        assert (each.id, each.task.environment_id) == (str(file), "Toy-v0")
        assert bool(each.notes) == (layout == "ogbench"), "which has no rewards"
        for index, raw in enumerate(read_file(file)):
            expected = to_episode(raw, TASK)
            np.testing.assert_array_equal(each.store.episode(index).observations, expected.observations)
            np.testing.assert_array_equal(each.store.episode(index).actions, expected.actions)
    stores = [each for each in cache.iterdir() if each.is_dir()]
    assert len(stores) == 1, "the second time it was there"
    other = write_layout(tmp_path / "second", layout, make_episodes()[::-1])
    again = load(other, cache=cache)
    assert again.digest != loaded[0].digest
    assert again.store.lengths.tolist() == loaded[0].store.lengths.tolist()[::-1]


def test_a_folder_is_known_by_all_its_tables_and_by_nothing_else_in_it(tmp_path: Path) -> None:
    folder, cache = write_tables(tmp_path / "runs", "csv"), tmp_path / "cache"
    before = load(folder, cache=cache)
    (folder / "README.md").write_text("not data")
    assert load(folder, cache=cache).digest == before.digest
    write_table(folder / "run_9.csv", table(make_episode(2, "terminated", 9)))
    added = load(folder, cache=cache)
    assert (added.store.num_episodes, before.store.num_episodes) == (6, 5)
    write_table(folder / "run_9.csv", table(make_episode(3, "terminated", 9)))
    assert load(folder, cache=cache).store.num_steps == added.store.num_steps + 1


def test_other_parts_of_the_observations_are_another_store(tmp_path: Path) -> None:
    file, cache = write_robomimic(tmp_path / "low_dim.hdf5"), tmp_path / "cache"
    whole = load(file, environment_id=None, cache=cache)
    part = load(file, environment_id=None, cache=cache, observation_keys=("robot0_eef_pos",))
    assert (whole.task.observation_dim, part.task.observation_dim) == (3, 1)
    np.testing.assert_array_equal(part.store.observations, whole.store.observations[:, 2:])
    with pytest.raises(DataError, match=r"1 observation dimensions, but Toy-v0 has 3"):
        load(file, observation_keys=("robot0_eef_pos",))


def test_without_an_environment_the_data_speak_for_themselves(tmp_path: Path) -> None:
    task = load(write_robomimic(tmp_path / "low_dim.hdf5"), environment_id=None).task
    assert (task.has_environment, task.max_episode_steps, task.action_dim) == (False, 6, 2)
    assert task.observation_slices == (("object", 0, 2), ("robot0_eef_pos", 2, 3))
    columns = d4rl_columns()
    columns["actions"] *= 4.0
    task = load(write_d4rl(tmp_path / "data.hdf5", columns), environment_id=None).task
    low, high = task.action_bounds
    np.testing.assert_allclose(low, columns["actions"].min(axis=0))
    np.testing.assert_allclose(high, columns["actions"].max(axis=0))


def test_data_that_never_show_the_last_action_are_of_their_environment(tmp_path: Path) -> None:
    columns = d4rl_columns()
    columns["actions"] = np.arange(19) % 3
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    for count, known in ((4, True), (3, True), (2, False)):
        task = replace(TASK, action_dim=count, valid_actions=tuple(range(count)))
        config = DatasetConfig(file=str(file))
        arguments = {"environments": KnownTasks({"Toy-v0": task}), "environment_id": "Toy-v0", "discount": 0.9}
        if known:
            assert load_dataset(config, **arguments).store.num_episodes == 5
        else:
            with pytest.raises(DataError, match="3 discrete actions, but Toy-v0 has 2"):
                load_dataset(config, **arguments)
    assert load(file, environment_id=None).task.valid_actions == (0, 1, 2)
    with pytest.raises(DataError, match="3 discrete actions, but Toy-v0 has 2 action dimensions"):
        load(file)


def test_a_bad_episode_is_refused_by_file_and_place_or_dropped_and_counted(tmp_path: Path) -> None:
    columns = d4rl_columns()
    columns["observations"][6, 1] = np.nan
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    place = r"episode 1, step 2 \(row 6\): observation dimension 1 is nan"
    with pytest.raises(DataError, match=rf"dataset {file}: {place} \(`o2o data check {file}`"):
        load(file)
    loaded = load(file, on_bad_episode="drop", cache=tmp_path / "cache")
    assert loaded.dropped == ["episode 1, step 2 (row 6): observation dimension 1 is nan"]
    assert loaded.store.num_episodes == 4
