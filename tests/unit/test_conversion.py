"""Files of other projects become Minari datasets: exactly, whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_factory import SPECIFICATION, TASK, KnownTasks, make_episode, make_episodes
from file_factory import d4rl_columns, ogbench_columns, read_file, write_d4rl, write_ogbench, write_robomimic

from system.cli.main import main
from system.config import DatasetConfig
from system.data.conversion import Conversion, convert
from system.data.loading import load_dataset
from system.data.opening import open_source
from system.data.sources.protocol import ReadOptions, source_of
from system.data.validation import to_episode
from system.errors import DataError
from system.types import TaskSpec

ID = "toy/converted-v0"


def convert_file(file: Path, task: TaskSpec = TASK, **options: bool) -> Conversion:
    known = KnownTasks({task.environment_id: task})
    return convert(
        open_source(source_of(file), file, ReadOptions(), known, task.environment_id),
        ID,
        root=file.parent / "datasets",
        environment_specification=SPECIFICATION,
        **options,
    )


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-0.1, 0.7)])
def test_actions_in_other_bounds_are_as_exact_as_in_the_file(tmp_path: Path, low: float, high: float) -> None:
    columns = d4rl_columns([make_episode(40, "terminated", seed) for seed in range(5)])
    columns["actions"] = np.random.default_rng(0).uniform(low, high, size=(200, 2))
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    task = replace(TASK, action_low=low, action_high=high)
    convert_file(file, task)
    config = DatasetConfig(id=ID, path=str(tmp_path / "datasets"), download=False)
    store = load_dataset(config, environments=KnownTasks({"Toy-v0": task}), discount=0.9).store
    for index, raw in enumerate(read_file(file, task)):
        np.testing.assert_array_equal(store.episode(index).actions, to_episode(raw, task).actions)


def test_a_bad_episode_refuses_the_file_or_is_left_out_and_counted(tmp_path: Path) -> None:
    columns = d4rl_columns()
    columns["rewards"][5] = np.nan
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    with pytest.raises(DataError, match=r"data.hdf5: episode 1, step 1 \(row 5\): reward is nan"):
        convert_file(file)
    assert not (tmp_path / "datasets" / ID).exists()
    conversion = convert_file(file, drop=True)
    assert conversion.num_episodes == 4
    assert conversion.dropped == ["episode 1, step 1 (row 5): reward is nan"]


def test_notes_and_missing_scores_go_into_the_dataset(tmp_path: Path) -> None:
    conversion = convert_file(write_ogbench(tmp_path / "data.npz", ogbench_columns()))
    metadata = json.loads((conversion.folder / "data" / "metadata.json").read_text())
    assert "every reward is 0" in metadata["description"]
    assert "ref_max_score" not in metadata, "zeros are no scores"
    assert metadata["author"] == ["converted from data.npz"]


def test_the_file_is_named_where_nothing_recognises_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"notes.txt is of no layout that can be read \(.*robomimic"):
        source_of(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="no such file or folder"):
        source_of(tmp_path / "nowhere.hdf5")
    with h5py.File(tmp_path / "other.hdf5", "w") as root:
        root["something"] = [1]
    with pytest.raises(DataError, match="of no layout"):
        source_of(tmp_path / "other.hdf5")


def test_the_command_converts_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = TaskSpec("InvertedPendulum-v5", 4, 1, 1000, action_low=-3.0, action_high=3.0)
    columns = d4rl_columns([make_episode(5, "terminated", seed, task) for seed in range(3)])
    del columns["next_observations"]
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    words = ["data", "convert", str(file), "pendulum/d4rl-v0", "--environment", "InvertedPendulum-v5"]
    assert main([*words, "--path", str(tmp_path / "datasets")]) == 0
    out = capsys.readouterr().out
    assert "note: no next_observations" in out
    assert "3 episodes written" in out
    assert main(["data", "check", "pendulum/d4rl-v0", "--path", str(tmp_path / "datasets")]) == 0
    assert main([*words, "--steps", "5"]) == 2
    assert "--steps: D4RL files are converted whole" in capsys.readouterr().err


def test_what_is_left_out_of_a_demonstration_is_said(tmp_path: Path) -> None:
    def alter(root: h5py.File) -> None:
        root["data/demo_1/dones"][3:] = 1
        root["data/demo_1/rewards"][3:] = 1.0

    conversion = convert_file(write_robomimic(tmp_path / "low_dim.hdf5", make_episodes(), alter))
    assert conversion.notes == ["episode 1 (demo_1): 2 steps after its success are left out"]


def test_data_alone_keep_their_time_limit_and_the_names_of_their_parts(tmp_path: Path) -> None:
    file = write_robomimic(tmp_path / "low_dim.hdf5", [make_episode(6, "cut"), make_episode(4, "cut")])
    words = ["data", "convert", str(file), ID, "--path", str(tmp_path / "datasets")]
    assert main(words) == 0
    configs = DatasetConfig(file=str(file)), DatasetConfig(id=ID, path=str(tmp_path / "datasets"), download=False)
    first, second = (load_dataset(config, environments=KnownTasks({}), discount=0.9) for config in configs)
    assert second.store.complete.tolist() == first.store.complete.tolist() == [True, False]
    assert replace(second.task, environment_id="") == replace(first.task, environment_id="")
    assert second.task.observation_slices == (("object", 0, 2), ("robot0_eef_pos", 2, 3))
    assert not second.task.has_environment


def test_the_keys_of_a_run_say_how_a_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def alter(root: h5py.File) -> None:
        root["data/demo_1/actions"][0] = np.nan

    file = write_robomimic(tmp_path / "low_dim.hdf5", make_episodes(), alter)
    words = ["data", "convert", str(file), ID, "--path", str(tmp_path / "datasets")]
    assert main(words) == 2
    assert "episode 1, step 0 (demo_1): action dimension 0 is nan" in capsys.readouterr().err
    settings = ["--set", "dataset.on_bad_episode=drop", "--set", "dataset.observation_keys=[object]"]
    assert main([*words, *settings]) == 0
    out = capsys.readouterr().out
    assert "left out: episode 1, step 0 (demo_1): action dimension 0 is nan" in out
    assert "4 episodes written" in out
    assert main(["data", "check", ID, "--path", str(tmp_path / "datasets")]) == 0
    out = capsys.readouterr().out
    assert "object[1]" in out
    assert "robot0_eef_pos" not in out
    assert main([*words, "--set", "dataset.observation_kys=[object]"]) == 2
    assert "did you mean dataset.observation_keys" in capsys.readouterr().err
