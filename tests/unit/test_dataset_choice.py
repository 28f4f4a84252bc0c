"""A configuration names its data by an id or by a file, and never by both."""

from pathlib import Path

import pytest

from system.config import DatasetConfig, RunConfig
from system.config.loading import config_from_dict, load_config, to_dict
from system.errors import ConfigError

DEMO = "o2o/hopper/medium-replay-v0"


def load(tmp_path: Path, text: str, *overrides: str) -> DatasetConfig:
    (tmp_path / "base.yaml").write_text("dataset:\n  id: hopper/base-v0\n  validation_fraction: 0.2\n")
    (tmp_path / "run.yaml").write_text(text)
    return load_config(RunConfig, tmp_path / "run.yaml", overrides, presets=tmp_path).dataset


def test_without_either_the_shipped_dataset_is_meant() -> None:
    assert (DatasetConfig().id, DatasetConfig().name) == (DEMO, DEMO)
    assert (DatasetConfig(file="a.npz").id, DatasetConfig(file="a.npz").name) == (None, "a.npz")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("dataset: {id: a/b-v0, file: a.hdf5}", (), "dataset.file: dataset.id names a/b-v0 too"),
        ("", ("dataset.id=a/b-v0", "dataset.file=a.hdf5"), "dataset.file: dataset.id names a/b-v0 too"),
        ("dataset: {file: a.hdf5, also: [a/b-v0]}", (), "dataset.also: goes with dataset.id"),
    ],
)
def test_both_are_refused(tmp_path: Path, text: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, *overrides)


def test_one_replaces_the_other_of_what_is_built_upon(tmp_path: Path) -> None:
    over = load(tmp_path, "preset: base\ndataset: {file: a.hdf5}")
    assert (over.name, over.validation_fraction) == ("a.hdf5", 0.2)
    assert load(tmp_path, "preset: base", "dataset.file=b.npz").name == "b.npz"
    assert load(tmp_path, "dataset: {file: a.hdf5}", "dataset.id=a/b-v0").name == "a/b-v0"
    assert load(tmp_path, "preset: base", "dataset.path=/data").name == "hopper/base-v0"


def test_a_resolved_configuration_is_read_back_and_overridden() -> None:
    config = config_from_dict(RunConfig, to_dict(RunConfig()), ["dataset.file=a.hdf5"])
    assert config.dataset.name == "a.hdf5"
    assert config_from_dict(RunConfig, to_dict(config)) == config
    assert config_from_dict(RunConfig, to_dict(config), ["dataset.id=a/b-v0"]).dataset.name == "a/b-v0"
