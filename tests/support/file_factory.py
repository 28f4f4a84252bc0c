"""Small files in the layouts of other projects, made of the episodes of `dataset_factory`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas

from system.data.raw_episode import RawEpisode
from system.data.sources.protocol import ReadOptions, SourceFacts, source_of
from system.types import Episode, TaskSpec
from tests.support.dataset_factory import TASK, make_dataset, make_episodes

LAYOUTS = ("minari", "d4rl", "robomimic", "ogbench", "csv", "parquet")


def d4rl_columns(episodes: Sequence[Episode] | None = None) -> dict[str, np.ndarray]:
    """All rows of the episodes, with time-outs and true next observations."""
    episodes = make_episodes() if episodes is None else episodes
    flags = [
        (np.arange(each.num_steps) == each.num_steps - 1)[:, None] & [each.terminated, each.truncated]
        for each in episodes
    ]
    return {
        "observations": np.concatenate([each.observations[:-1] for each in episodes]),
        "actions": np.concatenate([each.actions for each in episodes]),
        "rewards": np.concatenate([each.rewards for each in episodes]),
        "terminals": np.concatenate(flags)[:, 0],
        "timeouts": np.concatenate(flags)[:, 1],
        "next_observations": np.concatenate([each.observations[1:] for each in episodes]),
    }


def write_d4rl(file: Path, columns: dict[str, np.ndarray] | None = None) -> Path:
    """A flat HDF5 file, with the further entries that D4RL's have."""
    with h5py.File(file, "w") as root:
        for key, values in (d4rl_columns() if columns is None else columns).items():
            root.create_dataset(key, data=values, compression="gzip")
        root["infos/qpos"] = np.zeros((4, 6))
        root["metadata/algorithm"] = np.bytes_("SAC")
    return file


def write_robomimic(
    file: Path, episodes: Sequence[Episode] | None = None, change: Callable[[h5py.File], None] | None = None
) -> Path:
    """Demonstrations whose three observation dimensions are in two parts; a termination is a success."""
    with h5py.File(file, "w") as root:
        arguments = {"env_name": "Lift", "type": 1, "env_kwargs": {"horizon": 6, "reward_shaping": False}}
        root.create_group("data").attrs["env_args"] = json.dumps(arguments)
        root["mask/train"] = np.array([b"demo_0"])
        for number, each in enumerate(make_episodes() if episodes is None else episodes):
            demo = root.create_group(f"data/demo_{number}")
            for key, rows in (("obs", each.observations[:-1]), ("next_obs", each.observations[1:])):
                demo[f"{key}/object"] = rows[:, :2].astype(np.float64)
                demo[f"{key}/robot0_eef_pos"] = rows[:, 2:].astype(np.float64)
            demo["actions"] = each.actions.astype(np.float64)
            demo["rewards"] = each.rewards
            demo["dones"] = (np.arange(each.num_steps) == each.num_steps - 1).astype(np.int64) * each.terminated
        if change is not None:
            change(root)
    return file


def ogbench_columns(episodes: Sequence[Episode] | None = None) -> dict[str, np.ndarray]:
    """Trajectories with one row more than actions, as plain OGBench data have them."""
    episodes = make_episodes() if episodes is None else episodes
    return {
        "observations": np.concatenate([each.observations for each in episodes]),
        "actions": np.concatenate([np.pad(each.actions, ((0, 1), (0, 0))) for each in episodes]),
        "terminals": np.concatenate([np.arange(each.num_steps + 1) == each.num_steps for each in episodes]) * 1.0,
        "qpos": np.zeros((3, 2)),
    }


def write_ogbench(file: Path, columns: dict[str, np.ndarray] | None = None) -> Path:
    """An archive of arrays."""
    np.savez_compressed(file, allow_pickle=False, **(ogbench_columns() if columns is None else columns))
    return file


def table(episode: Episode) -> pandas.DataFrame:
    """One row a step, and one for what was seen last."""
    columns: dict[str, np.ndarray] = {
        f"observation_{index}": column for index, column in enumerate(episode.observations.T)
    }
    for index, column in enumerate(episode.actions.T):
        columns[f"action_{index}"] = np.append(column, np.float32(np.nan))
    last = np.arange(episode.num_steps + 1) == episode.num_steps - 1
    columns["reward"] = np.append(episode.rewards, np.float32(np.nan))
    columns["terminated"], columns["truncated"] = last & episode.terminated, last & episode.truncated
    return pandas.DataFrame(columns)


def write_tables(folder: Path, suffix: str, episodes: Sequence[Episode] | None = None) -> Path:
    """A folder with a file an episode."""
    folder.mkdir(exist_ok=True)
    for number, episode in enumerate(make_episodes() if episodes is None else episodes):
        write_table(folder / f"run_{number}.{suffix}", table(episode))
    return folder


def write_table(file: Path, frame: pandas.DataFrame) -> Path:
    """One file, CSV or parquet by its name; float32 is written so that it is read back exactly."""
    if file.suffix == ".csv":
        frame.to_csv(file, index=False, float_format="%.9g")
    else:
        frame.to_parquet(file, index=False)
    return file


def write_layout(folder: Path, layout: str, episodes: Sequence[Episode] | None = None) -> Path:
    """A file or folder of one of `LAYOUTS`."""
    folder.mkdir(exist_ok=True)
    if layout == "minari":
        make_dataset(folder, "toy/file-v0", episodes)
        return folder / "toy" / "file-v0"
    if layout == "d4rl":
        return write_d4rl(folder / "data.hdf5", d4rl_columns(episodes))
    if layout == "robomimic":
        return write_robomimic(folder / "low_dim.hdf5", episodes)
    if layout == "ogbench":
        return write_ogbench(folder / "data.npz", ogbench_columns(episodes))
    return write_tables(folder / layout, layout, episodes)


def read_file(path: Path, task: TaskSpec = TASK, options: ReadOptions | None = None) -> list[RawEpisode]:
    """Every episode that the layout's source gives."""
    return list(source_of(path).read(path, task, options or ReadOptions()))


def describe_file(path: Path, options: ReadOptions | None = None) -> SourceFacts:
    """What the layout's source says of the task."""
    return source_of(path).describe(path, options or ReadOptions())
