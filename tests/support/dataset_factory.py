"""Small episodes and Minari datasets for the tests of data."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np

from system.data.writer import write_dataset
from system.types import Episode, TaskSpec

TASK = TaskSpec(
    "Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=6, reference_min=0.0, reference_max=10.0
)


class KnownTasks(dict[str, TaskSpec]):
    """Tasks by the ids of environments that were never made, whatever data say of how they were."""

    def get(self, environment_id: str, recorded: object = None, recorded_limit: object = None) -> TaskSpec | None:
        """The task of that id."""
        return super().get(environment_id)


ENVIRONMENTS = KnownTasks({"Toy-v0": TASK})
SPECIFICATION = json.dumps({"id": "Toy-v0", "entry_point": "toy:Toy", "max_episode_steps": 6, "kwargs": {}})
ENDINGS = ("terminated", "time_limit", "cut")


def make_episode(length: int, ending: str, seed: int = 0, task: TaskSpec = TASK) -> Episode:
    """A random episode that ends as one of `ENDINGS` says."""
    generator = np.random.default_rng([seed, length])
    return Episode(
        observations=generator.normal(size=(length + 1, task.observation_dim)).astype(np.float32),
        actions=generator.uniform(-1.0, 1.0, size=(length, task.action_dim)).astype(np.float32),
        rewards=generator.normal(size=length).astype(np.float32),
        terminated=ending == "terminated",
        truncated=ending == "time_limit",
        complete=ending != "cut",
    )


def make_episodes() -> list[Episode]:
    """One episode of every length and ending that matters."""
    return [
        make_episode(4, "terminated", 0),
        make_episode(6, "time_limit", 1),
        make_episode(3, "cut", 2),
        make_episode(1, "terminated", 3),
        make_episode(5, "terminated", 4),
    ]


def make_dataset(
    root: Path, dataset_id: str = "toy/mixed-v0", episodes: Sequence[Episode] | None = None, task: TaskSpec = TASK
) -> Path:
    """Writes a dataset and returns its `data` folder."""
    folder = write_dataset(
        root,
        dataset_id,
        make_episodes() if episodes is None else episodes,
        task=task,
        environment_specification=SPECIFICATION,
        author="tests",
        algorithm_name="random numbers",
        description="toy",
    )
    return folder / "data"


def edit_file(data: Path, change: Callable[[h5py.File], None]) -> None:
    """Lets `change` alter the HDF5 file."""
    with h5py.File(data / "main_data.hdf5", "a") as file:
        change(file)


def edit_metadata(data: Path, **changes: object) -> None:
    """Replaces entries of the metadata; None removes one."""
    file = data / "metadata.json"
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def replace_array(file: h5py.File, place: str, values: np.ndarray) -> None:
    """Stores other values under the same name."""
    del file[place]
    file[place] = values
