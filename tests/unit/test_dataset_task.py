"""What task data are of: their environment's, compared dimension by dimension, or their own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import own_environments  # noqa: F401  registers them
import pytest
from dataset_factory import ENVIRONMENTS, TASK, edit_file, edit_metadata, make_dataset, make_episode

from system.cli.main import main
from system.config import DatasetConfig, EnvironmentConfig
from system.data.loading import LoadedDataset, load_dataset
from system.data.writer import write_dataset
from system.envs.registry import Environments, environment_specification, find_task
from system.errors import DataError
from system.types import Episode

RESERVOIR, SWITCH = find_task("Own/Reservoir-v0"), find_task("Own/Switch-v0")


def load(root: Path, dataset_id: str = "toy/mixed-v0", **settings: Any) -> LoadedDataset:
    config = DatasetConfig(id=dataset_id, path=str(root), download=False, **settings.pop("dataset", {}))
    return load_dataset(config, discount=0.9, **{"environments": Environments(), **settings})


def written(root: Path, task: Any, episodes: list[Episode]) -> Path:
    folder = write_dataset(
        root,
        "toy/mixed-v0",
        episodes,
        task=task,
        environment_specification=environment_specification(task),
        author="tests",
        algorithm_name="random numbers",
        description="toy",
    )
    return folder / "data"


def test_episodes_are_of_the_environment_as_it_was_made_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = find_task("Own/Reservoir-v0", EnvironmentConfig(kwargs={"goal": 4.0}, max_episode_steps=4))
    data = written(tmp_path, task, [make_episode(4, "time_limit", seed, task) for seed in range(3)])
    loaded = load(tmp_path)
    assert loaded.task == task and loaded.store.complete.all()
    other = {"id": "Own/Reservoir-v0", "kwargs": {"goal": 5.0}, "max_episode_steps": 6}
    edit_metadata(data, eval_env_spec=json.dumps(other))
    assert load(tmp_path).task.environment_kwargs == {"goal": 5.0}
    assert main(["data", "check", "toy/mixed-v0", "--path", str(tmp_path)]) == 0
    assert "environment  Own/Reservoir-v0, time limit 6 steps, goal = 5.0\n" in capsys.readouterr().out
    assert load(tmp_path, environment_id="Own/Reservoir-v0").task == RESERVOIR


def test_unequal_bounds_are_kept_and_compared(tmp_path: Path) -> None:
    episodes = [make_episode(4, "terminated", seed, RESERVOIR) for seed in range(3)]
    data = written(tmp_path, RESERVOIR, episodes)
    loaded = load(tmp_path)
    assert loaded.task == RESERVOIR
    assert np.allclose(loaded.store.actions[:4], episodes[0].actions, atol=1e-6)
    with h5py.File(data / "main_data.hdf5") as file:
        stored = file["episode_0/actions"][:]
    low, high = np.array([-0.5, 0.0]), np.array([0.5, 2.0])
    assert np.allclose(stored, low + (episodes[0].actions + 1) / 2 * (high - low), atol=1e-6)
    edit_metadata(
        data, action_space=json.dumps({"type": "Box", "shape": [2], "low": [-0.5, 0.0], "high": [0.5, 3.0]})
    )
    with pytest.raises(
        DataError, match=r"action bounds \[0.0, 3.0\] of dimension 1, but Own/Reservoir-v0 has \[0, 2\]"
    ):
        load(tmp_path)


def test_an_action_outside_its_own_bounds_is_named(tmp_path: Path) -> None:
    data = written(tmp_path, RESERVOIR, [make_episode(4, "terminated", 0, RESERVOIR)])
    edit_file(data, lambda file: file["episode_0/actions"].__setitem__((2, 1), -0.2))
    with pytest.raises(DataError, match=r"episode 0, step 2: action dimension 1 is -0.2, outside \[0, 2\]"):
        load(tmp_path)


def test_numbers_of_actions_start_where_the_environment_says(tmp_path: Path) -> None:
    episode = replace(make_episode(5, "terminated", 0, SWITCH), actions=np.array([0, 1, 2, 1, 0]))
    data = written(tmp_path, SWITCH, [episode])
    with h5py.File(data / "main_data.hdf5") as file:
        assert file["episode_0/actions"][:].tolist() == [5, 6, 7, 6, 5]
    assert load(tmp_path).store.actions.tolist() == [0, 1, 2, 1, 0]
    edit_metadata(data, action_space='{"type": "Discrete", "n": 3, "start": 4}')
    with pytest.raises(DataError, match="actions counted from 4, but Own/Switch-v0 has them from 5"):
        load(tmp_path)


def in_parts(data: Path, parts: dict[str, np.ndarray], spaces: dict[str, Any]) -> None:
    """Stores the first episode's observations as Minari does those of a Dict space."""

    def change(file: h5py.File) -> None:
        del file["episode_0/observations"]
        for name, values in parts.items():
            file[f"episode_0/observations/{name}"] = values

    edit_file(data, change)
    edit_metadata(data, observation_space=json.dumps({"type": "Dict", "subspaces": spaces}))


SPACES = {
    "level": {"type": "Box", "dtype": "float64", "shape": [1], "low": [-10], "high": [10]},
    "alarms": {"type": "MultiBinary", "n": 2},
    "desired_goal": {"type": "Box", "dtype": "float32", "shape": [1], "low": [-10], "high": [10]},
}


def test_observations_in_parts_are_flattened_as_the_environment_does(tmp_path: Path) -> None:
    data = written(tmp_path, RESERVOIR, [make_episode(2, "terminated", 0, RESERVOIR)])
    alarms = np.array([[0, 1], [1, 0], [0, 0]], dtype=np.int8)
    level, goal = np.array([[0.5], [1.5], [2.5]]), np.full((3, 1), 7.0, dtype=np.float32)
    in_parts(data, {"level": level, "alarms": alarms, "desired_goal": goal}, SPACES)
    assert load(tmp_path).store.observations.tolist() == [[0, 1, 7, 0.5], [1, 0, 7, 1.5], [0, 0, 7, 2.5]]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"level": np.zeros((3, 1)), "alarms": np.zeros((3, 2))}, "episode 0: has no desired_goal"),
        (
            {"level": np.zeros((3, 1)), "alarms": np.zeros((3, 3)), "desired_goal": np.zeros((3, 1))},
            "episode 0: alarms has 3 numbers a step, not 2",
        ),
        (
            {"level": np.zeros((2, 1)), "alarms": np.zeros((3, 2)), "desired_goal": np.zeros((3, 1))},
            "episode 0: the parts of its observations have different numbers of steps",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(tmp_path: Path, parts: dict[str, np.ndarray], message: str) -> None:
    in_parts(written(tmp_path, RESERVOIR, [make_episode(2, "terminated", 0, RESERVOIR)]), parts, SPACES)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_numbered_observations_are_one_hot(tmp_path: Path) -> None:
    task = replace(find_task("FrozenLake-v1"), max_episode_steps=6)
    data = written(tmp_path, task, [replace(make_episode(2, "terminated", 0, task), actions=np.array([0, 3]))])

    def change(file: h5py.File) -> None:
        del file["episode_0/observations"]
        file["episode_0/observations"] = np.array([0, 4, 15])

    edit_file(data, change)
    edit_metadata(data, observation_space='{"type": "Discrete", "n": 16, "start": 0}')
    assert load(tmp_path).store.observations.argmax(axis=1).tolist() == [0, 4, 15]
    assert load(tmp_path).store.observations.sum() == 3
    edit_file(data, lambda file: file["episode_0/observations"].__setitem__(1, 16))
    with pytest.raises(DataError, match="step 1: 16 is none of 16 values from 0"):
        load(tmp_path)


def test_data_that_name_no_environment_are_a_task_of_their_own(tmp_path: Path) -> None:
    edit_metadata(make_dataset(tmp_path), env_spec=None, eval_env_spec=None)
    task = load(tmp_path).task
    assert not task.has_environment
    assert (task.environment_id, task.observation_dim, task.action_dim) == ("toy/mixed-v0", 3, 2)
    assert task.max_episode_steps == 7, "no episode counts as ended by a limit that nobody knows"
    assert (task.reference_min, task.reference_max) == (0.0, 10.0)
    assert load(tmp_path, environment_id="Toy-v0", environments=ENVIRONMENTS).task == TASK


def test_a_time_limit_that_a_person_names_ends_episodes_of_data_alone(tmp_path: Path) -> None:
    edit_metadata(make_dataset(tmp_path), env_spec=None, eval_env_spec=None)
    alone = load(tmp_path, environment_id="none")
    lengths, ended = alone.store.lengths, alone.store.truncated
    assert ended.any() and not alone.store.complete[ended].any()
    longest = int(lengths[ended].max())
    limited = load(tmp_path, environment_id="none", max_episode_steps=longest)
    assert limited.task.max_episode_steps == longest
    assert limited.store.complete.sum() == alone.store.complete.sum() + (lengths[ended] == longest).sum()


def test_a_named_environment_can_be_left_out_or_replaced(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    assert load(tmp_path, environments=ENVIRONMENTS).task == TASK
    assert not load(tmp_path, environments=ENVIRONMENTS, environment_id="none").task.has_environment
    with pytest.raises(
        DataError, match=r"'Toy-v0' is not known here; `modules` names modules .* environment.id: none"
    ):
        load(tmp_path)


@pytest.mark.parametrize(("scale", "low", "high"), [(0.5, -1.0, -1.0), (3.0, None, None)])
def test_bounds_that_nobody_declares_are_those_of_the_data(
    tmp_path: Path, scale: float, low: float | None, high: float | None
) -> None:
    data = make_dataset(tmp_path)
    edit_metadata(data, env_spec=None, action_space=None)

    def change(file: h5py.File) -> None:
        for name in file:
            file[f"{name}/actions"][...] = scale * file[f"{name}/actions"][:]

    edit_file(data, change)
    loaded = load(tmp_path)
    if scale < 1:
        assert (loaded.task.action_low, loaded.task.action_high) == (-1.0, 1.0)
        return
    lows, highs = loaded.task.action_bounds
    assert (lows < -1.0).any() and (highs > 1.0).any()
    actions = loaded.store.actions
    assert actions.min(axis=0) == pytest.approx([-1.0, -1.0]) and actions.max(axis=0) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("reading", "known"), [("unknown", False), ("complete", True), ("continued", True)])
def test_the_returns_of_cut_episodes_are_known_where_that_is_said(
    reading: str, known: bool, tmp_path: Path
) -> None:
    make_dataset(tmp_path, episodes=[make_episode(3, "cut", 0), make_episode(2, "terminated", 1)])
    store = load(tmp_path, environments=ENVIRONMENTS, dataset={"cut_episodes": reading}).store
    assert store.complete.tolist() == [False, True], "how it was read does not change how it ended"
    assert store.returns_valid.tolist() == [known] * 3 + [True] * 2
