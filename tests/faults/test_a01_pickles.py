"""A1: pickled code as a checkpoint or a dataset is refused, and never runs."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from system.config import DatasetConfig
from system.data.loading import load_dataset
from system.envs.registry import Environments
from system.errors import CheckpointError, DataError
from system.runs.checkpoint import CheckpointContent, load_checkpoint, save_checkpoint
from tests.support.tiny_runs import DATASET, make_pendulum_dataset


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def bomb(tmp_path: Path) -> bytes:
    return pickle.dumps(Bomb(tmp_path / "marker"))


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / "marker").exists()


def test_a_pickle_named_as_a_checkpoint_is_refused(tmp_path: Path, bomb: bytes) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(bomb)
    with pytest.raises(CheckpointError, match="never loaded"):
        load_checkpoint(file)


@pytest.mark.parametrize("name", ["learner.safetensors", "progress.json", "manifest.json", "COMPLETE"])
def test_a_pickle_in_a_checkpoint_is_refused(name: str, tmp_path: Path, bomb: bytes) -> None:
    path = save_checkpoint(
        tmp_path, "000001-offline", CheckpointContent({"learner": {"weight": torch.ones(2)}}, {"progress": {}})
    )
    (path / name).write_bytes(bomb)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["main_data.hdf5", "metadata.json"])
def test_a_pickle_as_a_dataset_is_refused(name: str, tmp_path: Path, bomb: bytes) -> None:
    make_pendulum_dataset(tmp_path)
    (tmp_path / DATASET / "data" / name).write_bytes(bomb)
    config = DatasetConfig(id=DATASET, path=str(tmp_path), download=False)
    with pytest.raises(DataError):
        load_dataset(config, environments=Environments(), discount=0.99)
