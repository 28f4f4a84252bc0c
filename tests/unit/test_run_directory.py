"""A run directory belongs to one process and one configuration."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from system.config import RunConfig, SweepConfig
from system.config.loading import dump_yaml
from system.errors import ConfigError, RunDirectoryInUse
from system.runs.checkpoint import CheckpointContent, save_checkpoint
from system.runs.run_directory import CONFIG, LOCK, SUMMARY, RunDirectory

CONFIGURATION = RunConfig()


def visit(path: Path, config: RunConfig = CONFIGURATION, *, restart: bool = False) -> None:
    with RunDirectory.claim(path, config, restart=restart):
        pass


def test_a_new_directory_gets_its_configuration(tmp_path: Path) -> None:
    with RunDirectory.claim(tmp_path / "deep" / "run", CONFIGURATION, restart=False) as run:
        assert (run.path / CONFIG).read_text() == dump_yaml(CONFIGURATION)
        assert run.newest_checkpoint() is None
        assert run.finished("offline_evaluation") is None
    visit(tmp_path / "deep" / "run")


def test_a_request_that_was_refused_leaves_room_for_another(tmp_path: Path) -> None:
    visit(tmp_path / "run")
    other = replace(CONFIGURATION, seed=7)
    visit(tmp_path / "run", other)
    assert (tmp_path / "run" / CONFIG).read_text() == dump_yaml(other)


def test_the_directory_of_something_else_is_refused_by_its_kind(tmp_path: Path) -> None:
    with RunDirectory.claim(tmp_path / "sweep", SweepConfig(), restart=False):
        (tmp_path / "sweep" / "trials.jsonl").touch()
    with pytest.raises(ConfigError, match=r"sweep/config\.yaml: not the configuration of a run \(.*unknown key"):
        visit(tmp_path / "sweep")


def test_another_configuration_is_refused_by_its_first_key_and_both_values(tmp_path: Path) -> None:
    visit(tmp_path / "run")
    (tmp_path / "run" / "events.jsonl").touch()
    planner = replace(CONFIGURATION.planner, horizon=CONFIGURATION.planner.horizon - 1)
    with pytest.raises(ConfigError, match=rf"^planner\.horizon: .* {planner.horizon + 1}, now {planner.horizon} "):
        visit(tmp_path / "run", replace(CONFIGURATION, planner=planner))
    assert (tmp_path / "run" / CONFIG).read_text() == dump_yaml(CONFIGURATION)


def test_a_run_goes_on_with_other_workers_unless_they_decide_its_bits(tmp_path: Path) -> None:
    visit(tmp_path / "run")
    (tmp_path / "run" / "events.jsonl").touch()
    more = replace(CONFIGURATION, learners=2, rollout_workers=6)
    visit(tmp_path / "run", more)
    assert (tmp_path / "run" / CONFIG).read_text() == dump_yaml(more)
    with RunDirectory.claim(tmp_path / "run", more, restart=False) as run:
        run.write_summary({"next_stage": "done"})
    visit(tmp_path / "run")
    assert (tmp_path / "run" / CONFIG).read_text() == dump_yaml(more), "those that finished it"
    exact = replace(CONFIGURATION, deterministic=True)
    visit(tmp_path / "exact", exact)
    (tmp_path / "exact" / "events.jsonl").touch()
    with pytest.raises(ConfigError, match=r"^learners: .* 0, now 1 "):
        visit(tmp_path / "exact", replace(exact, learners=1))


def test_restart_moves_the_old_run_aside_and_counts_up(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for seed in range(3):
        visit(path, replace(CONFIGURATION, seed=seed), restart=True)
        (path / f"of_{seed}").touch()
    for seed, name in enumerate(("run.1", "run.2", "run")):
        assert (tmp_path / name / f"of_{seed}").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run", "run.1", "run.2"]


def test_restart_leaves_a_folder_alone_that_holds_no_run(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    visit(tmp_path / "home", restart=True)
    assert (tmp_path / "home" / "letter.txt").exists()


def test_restart_behind_a_link_keeps_the_link(tmp_path: Path) -> None:
    visit(tmp_path / "scratch" / "run")
    (tmp_path / "run").symlink_to(tmp_path / "scratch" / "run")
    visit(tmp_path / "run", restart=True)
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "scratch" / "run.1" / CONFIG).exists()
    assert (tmp_path / "scratch" / "run" / CONFIG).exists()


def test_restart_from_within_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visit(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(ConfigError, match="from within"):
        visit(Path("."), restart=True)


def test_checkpoints_without_a_configuration_are_of_an_unknown_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    visit(path)
    save_checkpoint(path / "checkpoints", "000001-offline", CheckpointContent({}, {"progress": {}}))
    (path / CONFIG).unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml: missing"):
        visit(path, replace(CONFIGURATION, seed=9))
    with RunDirectory.claim(path, CONFIGURATION, restart=True) as run:
        assert run.newest_checkpoint() is None
    assert (tmp_path / "run.1" / "checkpoints").exists()


def test_a_second_claim_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    with (
        RunDirectory.claim(tmp_path / "run", CONFIGURATION, restart=False),
        pytest.raises(RunDirectoryInUse, match=r"locked by process \d+ on \S"),
    ):
        visit(tmp_path / "run", restart=True)
    assert not (tmp_path / "run.1").exists()


@pytest.mark.parametrize("restart", [False, True])
def test_the_lock_is_given_back_after_a_failure(restart: bool, tmp_path: Path) -> None:
    visit(tmp_path / "run")
    with pytest.raises(KeyError), RunDirectory.claim(tmp_path / "run", CONFIGURATION, restart=restart):
        raise KeyError
    visit(tmp_path / "run")


def test_a_lock_opened_before_a_restart_does_not_open_the_new_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is moved aside between another process's opening of the lock and its taking of it."""
    path = tmp_path / "run"
    visit(path)

    def restarted_meanwhile(descriptor: int, operation: int) -> None:
        path.rename(tmp_path / "run.1")
        path.mkdir()
        (path / LOCK).touch()

    monkeypatch.setattr("fcntl.flock", restarted_meanwhile)
    with pytest.raises(RunDirectoryInUse, match="being restarted"):
        visit(path)


def test_a_restart_that_loses_the_race_for_the_new_directory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    visit(path)
    calls = []

    def second_is_taken(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise BlockingIOError

    monkeypatch.setattr("fcntl.flock", second_is_taken)
    with pytest.raises(RunDirectoryInUse, match="locked by another process"):
        visit(path, restart=True)


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match="cannot be used as a run directory"):
        visit(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match="run: cannot be used as a run directory"):
        visit(tmp_path / "run")


def test_finished_means_worked_through_up_to_a_stage(tmp_path: Path) -> None:
    with RunDirectory.claim(tmp_path / "run", CONFIGURATION, restart=False) as run:
        run.write_summary({"next_stage": "online", "score": float("nan")})
        assert run.finished("offline_evaluation") == {"next_stage": "online", "score": None}
        assert run.finished("online") is not None
        assert run.finished("done") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"next_stage": "lunch"}', '{"next_stage": []}'])
def test_a_summary_that_says_nothing_is_not_believed(text: str, tmp_path: Path) -> None:
    (tmp_path / SUMMARY).write_text(text)
    assert RunDirectory(tmp_path).finished("online") is None


def test_processes_are_rewritten_whole(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_processes({"driver": 1, "learner-0": 2})
    run.write_processes({"driver": 1, "learner-0": 3})
    assert json.loads((tmp_path / "processes.json").read_text()) == {"driver": 1, "learner-0": 3}
    assert [each.name for each in tmp_path.iterdir()] == ["processes.json"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_processes({"driver": 1})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run.write_processes({"driver" * (1 << 16): 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert json.loads((tmp_path / "processes.json").read_text()) == {"driver": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["processes.json"]
