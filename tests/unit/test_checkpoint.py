"""Checkpoints appear whole or not at all, and nothing in them is believed before it is verified."""

from pathlib import Path

import pytest
import torch

from system.errors import CheckpointError
from system.training.checkpoint import (
    COMPLETE,
    LATEST,
    CheckpointContent,
    checkpoint_names,
    find_checkpoint,
    load_checkpoint,
    newest_valid,
    prune,
    save_checkpoint,
)
from system.training.checkpoint_writer import CheckpointWriter


def content(value: float = 1.0) -> CheckpointContent:
    return CheckpointContent(
        tensors={"learner": {"weight": torch.full((3, 2), value), "step": torch.tensor(7)}},
        documents={"progress": {"stage": "offline", "steps": 7}},
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_checkpoint(tmp_path, "000001-offline", content()))
    assert torch.equal(loaded.tensors["learner"]["weight"], torch.ones(3, 2))
    assert loaded.tensors["learner"]["step"].item() == 7
    assert loaded.documents == content().documents
    assert (tmp_path / LATEST).read_text() == "000001-offline"


def test_an_unfinished_save_never_counts(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "000001-offline", content(1.0))
    save_checkpoint(tmp_path, "000002-offline", content(2.0))
    (tmp_path / "000002-offline" / COMPLETE).unlink()
    found = newest_valid(tmp_path)
    assert found is not None
    assert (found.path.name, found.skipped) == ("000001-offline", [])


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "nowhere") is None
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


def test_old_ones_go_but_the_protected_stay(tmp_path: Path) -> None:
    for number in range(1, 7):
        save_checkpoint(tmp_path, f"{number:06d}-online", content())
    prune(tmp_path, 2, {"000002-online"})
    assert checkpoint_names(tmp_path) == ["000002-online", "000005-online", "000006-online"]


def test_a_run_directory_stands_for_its_newest_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        (tmp_path / "checkpoints").mkdir()
        find_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "checkpoints", "000001-offline", content())
    newest = save_checkpoint(tmp_path / "checkpoints", "000002-offline", content())
    assert find_checkpoint(tmp_path) == newest
    assert find_checkpoint(newest) == newest


def test_a_full_disk_costs_one_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = CheckpointWriter(tmp_path, synchronous=True)
    writer.write("000001-offline", content(), keep=3, protect=set())

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("system.training.checkpoint_writer.save_checkpoint", refuse)
        writer.write("000002-offline", content(), keep=3, protect=set())
    assert "No space left" in caplog.text
    writer.write("000003-offline", content(), keep=3, protect=set())
    writer.close()
    assert checkpoint_names(tmp_path) == ["000001-offline", "000003-offline"]


def test_a_folder_that_cannot_be_pruned_at_its_newest_end(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "000001-offline", content())
    (tmp_path / "000002-offline").mkdir()
    prune(tmp_path, 1, set())
    assert checkpoint_names(tmp_path) == ["000001-offline", "000002-offline"]
