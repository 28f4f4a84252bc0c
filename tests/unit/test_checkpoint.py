"""Checkpoints appear whole or not at all, and nothing in them is believed before it is verified."""

import hashlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from system.errors import CheckpointError
from system.runs.checkpoint import (
    LATEST,
    CheckpointContent,
    checkpoint_names,
    find_checkpoint,
    load_checkpoint,
    newest_valid,
    prune,
    save_checkpoint,
)
from system.runs.checkpoint_writer import CheckpointWriter
from system.sealed_folder import COMPLETE, MANIFEST, mark_complete, read_files, write_files


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


class Killed(BaseException):
    """Stands for the process's end at a kill point: nothing catches it."""


def save_and_die(folder: Path, name: str, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(reached: str) -> None:
        if reached == point:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("system.fault_points.reach", die)
        save_checkpoint(folder, name, content(2.0))


@pytest.mark.parametrize(
    ("point", "newest"),
    [
        ("checkpoint.mid_write", "000001-offline"),
        ("checkpoint.before_complete", "000001-offline"),
        ("checkpoint.after_complete", "000002-offline"),
    ],
)
def test_a_save_counts_from_complete_on(
    point: str, newest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, "000001-offline", content(1.0))
    save_and_die(tmp_path, "000002-offline", point, monkeypatch)
    found = newest_valid(tmp_path)
    assert found is not None
    assert (found.path.name, found.skipped) == (newest, [])
    save_checkpoint(tmp_path, "000002-offline", content(3.0))
    found = newest_valid(tmp_path)
    assert found is not None
    assert found.content.tensors["learner"]["weight"][0, 0] == 3.0


def test_a_first_save_that_was_cut_off_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_and_die(tmp_path, "000001-offline", "checkpoint.before_complete", monkeypatch)
    assert newest_valid(tmp_path) is None


def test_a_finished_one_that_lost_complete_is_damage(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, "000001-offline", content())
    (path / COMPLETE).unlink()
    with pytest.raises(CheckpointError, match="no valid checkpoint is left"):
        newest_valid(tmp_path)


def test_a_finished_one_that_is_gone_is_counted(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, "000001-offline", content())
    save_checkpoint(tmp_path, "000002-offline", content()).rename(tmp_path / "elsewhere")
    found = newest_valid(tmp_path)
    assert found is not None
    assert (found.path, len(found.skipped)) == (good, 1)


@pytest.mark.parametrize("text", [b"", b"../../else", b"\xff\xfe", b"9" * 5000])
def test_a_broken_pointer_does_no_harm(text: bytes, tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, "000001-offline", content())
    (tmp_path / LATEST).write_bytes(text)
    found = newest_valid(tmp_path)
    assert found is not None
    assert (found.path, found.skipped) == (good, [])


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "nowhere") is None
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


def test_old_ones_go_but_the_protected_stay(tmp_path: Path) -> None:
    for number in range(1, 7):
        save_checkpoint(tmp_path, f"{number:06d}-online", content())
    prune(tmp_path, 2, {"000002-online"})
    assert checkpoint_names(tmp_path) == ["000002-online", "000005-online", "000006-online"]


def test_what_was_saved_after_damage_outlives_the_damaged(tmp_path: Path) -> None:
    for number in range(1, 5):
        save_checkpoint(tmp_path, f"{number:06d}-online", content())
    for number in (3, 4):
        (tmp_path / f"{number:06d}-online" / "learner.safetensors").write_bytes(b"")
    save_checkpoint(tmp_path, "000002-online", content(5.0))
    prune(tmp_path, 1, set())
    found = newest_valid(tmp_path)
    assert found is not None
    assert (found.path.name, found.content.tensors["learner"]["weight"][0, 0]) == ("000002-online", 5.0)


def test_what_is_not_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    for name in ("000001-offline", "000002-offline", "000003-offline"):
        save_checkpoint(tmp_path, name, content())
    (tmp_path / "notes").mkdir()
    (tmp_path / "000001-offline").rename(tmp_path / "zz-copy")
    prune(tmp_path, 1, set())
    assert checkpoint_names(tmp_path) == ["000003-offline"]
    assert (tmp_path / "notes").is_dir()
    assert (tmp_path / "zz-copy" / COMPLETE).exists()


def test_what_a_killed_save_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_and_die(tmp_path, "000001-offline", "checkpoint.mid_write", monkeypatch)
    save_checkpoint(tmp_path, "000002-offline", content())
    assert (tmp_path / ".000001-offline").exists()
    prune(tmp_path, 3, set())
    assert sorted(os.listdir(tmp_path)) == ["000002-offline", LATEST]


def test_a_run_directory_stands_for_its_newest_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        (tmp_path / "checkpoints").mkdir()
        find_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "checkpoints", "000001-offline", content())
    newest = save_checkpoint(tmp_path / "checkpoints", "000002-offline", content())
    assert find_checkpoint(tmp_path) == newest
    assert find_checkpoint(newest) == newest


def test_a_full_disk_costs_one_checkpoint_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = CheckpointWriter(tmp_path, synchronous=True)
    writer.write("000001-offline", content(), keep=3, protect=set())
    large = CheckpointContent({"learner": {"weight": torch.zeros(1 << 20)}}, {})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        writer.write("000002-offline", large, keep=3, protect=set())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "checkpoint 000002-offline could not be written" in caplog.text
    assert sorted(os.listdir(tmp_path)) == ["000001-offline", LATEST]
    writer.write("000003-offline", large, keep=3, protect=set())
    writer.close()
    assert checkpoint_names(tmp_path) == ["000001-offline", "000003-offline"]
    assert newest_valid(tmp_path) is not None


def test_other_failures_of_the_writer_are_raised_once(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, synchronous=False)
    writer.write(
        "000001-offline", CheckpointContent({}, {"progress": {"object": object()}}), keep=3, protect=set()
    )
    with pytest.raises(TypeError):
        writer.flush()
    writer.write("000002-offline", content(), keep=3, protect=set())
    writer.close()
    assert checkpoint_names(tmp_path) == ["000002-offline"]


def test_a_folder_that_cannot_be_pruned_at_its_newest_end(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "000001-offline", content())
    (tmp_path / "000002-offline").mkdir()
    prune(tmp_path, 1, set())
    assert checkpoint_names(tmp_path) == ["000001-offline", "000002-offline"]


def seal(path: Path, manifest: Any) -> None:
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (path / MANIFEST).write_bytes(data)
    (path / COMPLETE).write_text(hashlib.sha256(data).hexdigest())


def entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize(
    "manifest",
    [
        b"\x80\x04",
        b"[" * 100_000,
        [],
        {"format": 2, "files": {}},
        {"format": 1},
        {"format": 1, "files": []},
        {"format": 1, "files": {"a.json": 3}},
        {"format": 1, "files": {"a.json": {"bytes": "many", "sha256": ""}}},
    ],
)
def test_a_crafted_manifest_is_refused_by_name(manifest: Any, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, "000001-offline", content())
    seal(path, manifest)
    with pytest.raises(CheckpointError, match=MANIFEST):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "name", ["../secret.json", "/etc/secret.json", "learner.pt", "a.json.pt", MANIFEST, "a\n.json"]
)
def test_a_manifest_cannot_name_files_elsewhere_or_of_other_kinds(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    path = save_checkpoint(tmp_path, "000001-offline", content())
    seal(path, {"format": 1, "files": {name: entry(tmp_path / "secret.json")}})
    with pytest.raises(CheckpointError, match="unexpected file"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "data"), [("progress.json", b"[]"), ("learner.safetensors", b"\x08" + 15 * b"\0")]
)
def test_sealed_nonsense_is_refused_by_name(name: str, data: bytes, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, "000001-offline", content())
    (path / name).write_bytes(data)
    seal(path, {"format": 1, "files": {name: entry(path / name)}})
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(path)


def test_pipes_giants_and_endless_names_are_refused_without_waiting(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, "000001-offline", content())
    os.truncate(path / "learner.safetensors", 1 << 36)
    with pytest.raises(CheckpointError, match=r"learner\.safetensors: corrupt"):
        load_checkpoint(path)
    (path / "learner.safetensors").unlink()
    os.mkfifo(path / "learner.safetensors")
    with pytest.raises(CheckpointError, match=r"learner\.safetensors: not a file"):
        load_checkpoint(path)
    endless = tmp_path / ("x" * 10_000)
    for ask in (load_checkpoint, find_checkpoint):
        with pytest.raises(CheckpointError, match="cannot be read"):
            ask(endless)


def test_a_name_that_would_not_be_found_again_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a checkpoint's name"):
        save_checkpoint(tmp_path, "final", content())


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_manifest_of_another_format_is_refused(tmp_path: Path, version: object) -> None:
    write_files(tmp_path, {"progress.json": b"{}"}, {})
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "format": version}))
    mark_complete(tmp_path)
    with pytest.raises(CheckpointError, match=f"format {version!r}, expected 1"):
        read_files(tmp_path)


def test_what_cannot_be_deleted_is_left_for_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        save_checkpoint(tmp_path, f"{number:06d}-offline", content(number))
    (tmp_path / ".000009-offline").mkdir()

    def busy(*arguments: object, **options: object) -> None:
        raise OSError("busy")

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, busy)
        prune(tmp_path, 1, set())
    prune(tmp_path, 1, set())
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == ["000002-offline"]
