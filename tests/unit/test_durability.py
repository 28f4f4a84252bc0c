"""What was acknowledged survives a loss of power, and what was being written is there whole or not at all."""

import errno
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from recording_disk import RecordingDisk

from system.config import RunConfig
from system.data.replay.episode_log import EpisodeLog
from system.data.replay.episode_record import encode_episode
from system.files import make_folder, write_durably, write_json
from system.runs.checkpoint import CheckpointContent, newest_valid, save_checkpoint
from system.runs.run_directory import RunDirectory
from system.sweeps.ledger import Job, TrialLedger
from system.sweeps.ranking import Outcome
from tests.unit.test_episode_log import keyed

READINGS = (False, True)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingDisk]:
    root = tmp_path / "disk"
    root.mkdir()
    disk = RecordingDisk(root, monkeypatch)
    yield disk
    disk.close()


@pytest.fixture
def left(disk: RecordingDisk, tmp_path: Path) -> Callable[[], list[Path]]:
    """What is left now, by either reading."""
    count = itertools.count()
    return lambda: [disk.left(tmp_path / f"left{next(count)}", names_first=each) for each in READINGS]


def sequences(folder: Path) -> list[int]:
    log = EpisodeLog.open(folder)
    log.close()
    assert log.quarantined == []
    return [each.key.sequence for each in log.episodes if each.key is not None]


@pytest.mark.parametrize("segment_bytes", [1, 2**20])
def test_acknowledged_episodes_are_on_disk(
    disk: RecordingDisk, left: Callable[[], list[Path]], segment_bytes: int
) -> None:
    acknowledged: list[int] = []
    for generation in range(2):
        log = EpisodeLog.open(disk.root / "run" / "replay", segment_bytes=segment_bytes)
        for number in range(2):
            first = 10 * generation + 2 * number
            log.append([keyed(first), keyed(first + 1)])
            acknowledged += [first, first + 1]
            for remains in left():
                assert sequences(remains / "run" / "replay") == acknowledged
        log.close()


def test_an_opened_log_is_claimed_and_its_seals_are_on_disk(
    disk: RecordingDisk, left: Callable[[], list[Path]]
) -> None:
    first = EpisodeLog.open(disk.root / "replay")
    first.append([keyed(0)])
    second = EpisodeLog.open(disk.root / "replay")
    assert second.generation == 2
    for remains in left():
        (segment,) = (remains / "replay").glob("*.log")
        with segment.open("ab") as stream:
            stream.write(encode_episode(keyed(9)))  # what the first writer might still have done
        assert sequences(remains / "replay") == [0]
        assert EpisodeLog.open(remains / "replay").generation == 4


def test_a_file_has_its_old_content_or_its_new_one(disk: RecordingDisk, left: Callable[[], list[Path]]) -> None:
    file = disk.root / "summary.json"
    seen: set[bytes] = set()

    def check() -> None:
        for remains in left():
            names = {each.name for each in remains.iterdir() if not each.name.startswith(".")}
            assert names <= {file.name}
            seen.add((remains / file.name).read_bytes() if names else b"none")

    disk.after_sync = check
    write_durably(file, b"old")
    assert all((each / file.name).read_bytes() == b"old" for each in left())
    write_durably(file, b"new")
    assert all((each / file.name).read_bytes() == b"new" for each in left())
    assert seen == {b"none", b"old", b"new"}
    disk.after_sync = None
    write_json(file, {"a": float("nan"), "b": [1.5, float("-inf"), 2], "c": ("text", None, True)})
    expected = {"a": None, "b": [1.5, None, 2], "c": ["text", None, True]}
    assert all(json.loads((each / file.name).read_bytes()) == expected for each in left())


@pytest.mark.parametrize("fails", ["open", "rename"])
def test_a_write_that_fails_says_why_and_leaves_the_old_content_alone(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.json"
    write_durably(file, b"old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(*{"open": (Path, "open", full), "rename": (os, "replace", full)}[fails])
    with pytest.raises(OSError, match="no space left"):
        write_durably(file, b"new")
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == b"old"


def test_a_saved_checkpoint_is_on_disk_and_one_being_saved_leaves_the_older_one(
    disk: RecordingDisk, left: Callable[[], list[Path]]
) -> None:
    folder = disk.root / "run" / "checkpoints"
    saved = [-1]

    def newest(remains: Path) -> int:
        found = newest_valid(remains / "run" / "checkpoints")
        assert found is None or found.skipped == []
        return -1 if found is None else int(found.content.tensors["learner"]["step"])

    def check() -> None:
        for remains in left():
            assert newest(remains) in (saved[-1], saved[-1] + 1)

    disk.after_sync = check
    for step in range(3):
        content = CheckpointContent({"learner": {"step": torch.tensor(step)}}, {"progress": {"step": step}})
        save_checkpoint(folder, f"{step:06d}-offline", content)
        saved.append(step)
        assert [newest(remains) for remains in left()] == [step, step]
    assert disk.num_syncs > 15


def test_a_run_directory_and_its_configuration_are_on_disk(
    disk: RecordingDisk, left: Callable[[], list[Path]]
) -> None:
    with RunDirectory.claim(disk.root / "runs" / "tiny-0", RunConfig(), restart=False):
        for remains in left():
            assert "family:" in (remains / "runs" / "tiny-0" / "config.yaml").read_text()


def test_a_sweeps_proposals_and_outcomes_are_on_disk(disk: RecordingDisk, left: Callable[[], list[Path]]) -> None:
    job = Job("search", 0, 3, {"planner.horizon": 2})
    with closing(TrialLedger(disk.root / "trials.jsonl")) as ledger:
        ledger.add_point(0, job.point)
        for remains in left():
            with closing(TrialLedger(remains / "trials.jsonl")) as found:
                assert (found.points, found.outcomes) == ({0: job.point}, {})
        ledger.add_outcome(job, Outcome([1.0, 2.0], [5, 6], 1.5, 10.0, 7))
        for remains in left():
            with closing(TrialLedger(remains / "trials.jsonl")) as found:
                assert (found.points, found.outcomes) == (ledger.points, ledger.outcomes)


def test_of_two_that_make_a_folder_at_once_neither_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(Path, "exists", lambda path: path != folder)  # looked before the other made it
    make_folder(folder)
    assert folder.is_dir()
