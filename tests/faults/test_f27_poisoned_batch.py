"""F27: a batch that makes losses NaN is left out, and checkpoints stay good; learning that stays so is ended."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.cli.main import main
from system.data.replay.buffer import ReplayBuffer
from system.data.replay.sampling import SampleRequest
from system.runs.checkpoint import find_checkpoint, load_checkpoint
from system.types import SegmentBatch
from tests.support.tiny_runs import read_summary, write_tiny_config

Draw = Callable[[ReplayBuffer, SampleRequest], SegmentBatch]


def poison(monkeypatch: pytest.MonkeyPatch, is_poisoned: Callable[[int], bool]) -> None:
    """Rewards of some of the batches of windows, counted from 0, become NaN."""
    draw: Draw = ReplayBuffer.sample_segments
    drawn: list[SampleRequest] = []

    def sample(self: ReplayBuffer, request: SampleRequest) -> SegmentBatch:
        batch = draw(self, request)
        drawn.append(request)
        if is_poisoned(len(drawn) - 1):
            return replace(batch, rewards=np.full_like(batch.rewards, np.nan))
        return batch

    monkeypatch.setattr(ReplayBuffer, "sample_segments", sample)


def test_a_poisoned_batch_is_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, lambda number: number == 7)
    config = write_tiny_config(tmp_path)
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr()
    assert "1 of offline update steps 5 to 9 left out: their gradients are not finite" in shown.err
    assert "survived: update_skipped 1" in shown.out
    assert read_summary(tmp_path / "run")["faults"]["update_skipped"] == 1
    state = load_checkpoint(find_checkpoint(tmp_path / "run")).tensors["learner"]
    assert all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())


def test_learning_that_stays_poisoned_ends_the_run_with_one_line_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_tiny_config(tmp_path)
    words = ["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]
    with monkeypatch.context() as patch:
        poison(patch, lambda number: number >= 7)
        assert main(words) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("o2o: error: ")
    assert "has not been finite in 11 updates, the latest of them offline update step 17" in error
    assert main(words) == 0
    assert read_summary(tmp_path / "run")["faults"]["driver_resumed"] == 1
