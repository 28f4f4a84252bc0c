"""F22, F23: truncated, missing and bit-flipped checkpoints are refused, or passed over for an older one."""

import random
from pathlib import Path

import pytest
import torch

from system.errors import CheckpointError
from system.runs.checkpoint import CheckpointContent, load_checkpoint, newest_valid, save_checkpoint
from system.sealed_folder import COMPLETE
from tests.support.tiny_runs import finish_run, learner_digest, read_summary, run_o2o, write_tiny_config

FLIPS, MANY_FLIPS = 20, 200


def save(folder: Path, name: str) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors = {"learner": {f"weight{index}": torch.randn(16, 8, generator=generator) for index in range(4)}}
    return save_checkpoint(folder, name, CheckpointContent(tensors, {"progress": {"steps": 3}, "task": {"a": 1}}))


def files(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_file())


@pytest.mark.parametrize("part", range(20))
def test_a_truncated_file_is_refused_by_name(part: int, tmp_path: Path) -> None:
    path = save(tmp_path, "000001-offline")
    file = files(path)[part % len(files(path))]
    size = file.stat().st_size
    with file.open("rb+") as stream:
        stream.truncate(size * part // 20)
    with pytest.raises(CheckpointError, match=file.name if file.name != COMPLETE else "manifest.json"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["learner.safetensors", "progress.json", "manifest.json", COMPLETE])
def test_a_missing_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, "000001-offline")
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(path)


def flip_and_load(folder: Path, number: int) -> None:
    path = save(folder, "000001-offline")
    generator = random.Random(number)
    file = generator.choice(files(path))
    data = bytearray(file.read_bytes())
    position = generator.randrange(len(data))
    data[position] ^= 1 << generator.randrange(8)
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("number", range(FLIPS))
def test_a_flipped_bit_is_found(number: int, tmp_path: Path) -> None:
    flip_and_load(tmp_path, number)


@pytest.mark.soak
def test_two_hundred_flipped_bits_are_found(tmp_path: Path) -> None:
    for number in range(MANY_FLIPS):
        flip_and_load(tmp_path / str(number), number)


def test_the_newest_valid_one_is_taken_and_the_damaged_counted(tmp_path: Path) -> None:
    good = save(tmp_path, "000001-offline")
    damaged = save(tmp_path, "000002-offline")
    (damaged / "learner.safetensors").write_bytes(b"")
    found = newest_valid(tmp_path)
    assert found is not None
    assert found.path == good
    assert len(found.skipped) == 1
    assert "000002-offline" in found.skipped[0]


def test_nothing_valid_left_is_an_error(tmp_path: Path) -> None:
    (save(tmp_path, "000001-offline") / "learner.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no valid checkpoint is left"):
        newest_valid(tmp_path)


def test_a_run_falls_back_counts_it_and_ends_the_same(tmp_path: Path) -> None:
    digests = []
    for name, damaged in (("sound", False), ("damaged", True)):
        folder = tmp_path / name
        folder.mkdir()
        config = write_tiny_config(folder)
        if damaged:
            words = ("run", str(config), "--run-dir", "run", "--quiet")
            run_o2o(folder, *words, environment={"O2O_FAULT": "learner.step:14:SIGKILL"})
            newest = max((folder / "run" / "checkpoints").glob("0*"))
            (newest / "learner.safetensors").write_bytes(b"")
        finish_run(folder, config)
        digests.append(learner_digest(folder / "run"))
    assert digests[0] == digests[1]
    assert read_summary(tmp_path / "damaged" / "run")["faults"]["checkpoint_corrupt"] == 1


def test_evaluating_a_truncated_checkpoint_is_one_line_and_code_2(tmp_path: Path) -> None:
    path = save(tmp_path, "000001-offline")
    with (path / "learner.safetensors").open("rb+") as stream:
        stream.truncate(100)
    result = run_o2o(tmp_path, "evaluate", str(path))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "learner.safetensors: truncated (100 of" in result.stderr
