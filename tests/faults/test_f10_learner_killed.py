"""F10: a learner is killed; the others end with it, and the run goes on from its newest checkpoint."""

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from system.config import RunConfig
from system.distributed.learner_group import LearnerGroup
from system.errors import WorkerLost
from system.training.protocols import UpdateRequest
from tests.support.tiny_runs import (
    HANG_SECONDS,
    learner_digest,
    read_processes,
    read_summary,
    run_o2o,
    start_o2o,
    wait_until,
    write_tiny_config,
)
from tests.support.tiny_workers import (
    kill_process,
    local_workers,
    ray_workers,
    relative_difference,
    tiny_config,
    tiny_game_config,
)

ENDLESS = UpdateRequest("offline", 0, 1_000_000)
REQUEST = UpdateRequest("offline", 0, 1)

# Adam makes whole steps of the rounding of gradients that are zero (the key biases').
SMALL_STEPS = {"jowa": {"learning_rate": 1e-5, "warmup_steps": 0, "world_share": 0.0}}


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("configure", "changes"),
    [(tiny_config, {}), pytest.param(tiny_game_config, SMALL_STEPS, marks=pytest.mark.slow)],
)
def test_two_learners_stay_equal_and_are_lost_and_replaced_together(
    configure: Callable[..., RunConfig], changes: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    alone = local_workers(configure(tmp_path, **changes), tmp_path, tmp_path / "alone")
    alone.learners.update(REQUEST)
    expected = alone.learners.state()
    alone.close()
    config = configure(tmp_path, deterministic=False, learners=2, rollout_workers=0, **changes)
    workers = ray_workers(config, tmp_path, tmp_path / "group")
    try:
        fresh = workers.learners.state()
        workers.learners.update(REQUEST)
        assert relative_difference(workers.learners.state(), expected) <= 1e-6
        before = workers.processes()
        threading.Timer(0.5, kill_process, [before["learner-1"]]).start()
        with pytest.raises(WorkerLost) as caught:
            workers.learners.update(ENDLESS)
        assert caught.value.role == "learner"
        wait_until_gone(before["learner-0"])
        workers.restart_learners()
        after = workers.processes()
        assert {role for role, number in before.items() if after[role] != number} == {"learner-0", "learner-1"}
        workers.learners.load_state(fresh)
        workers.learners.update(REQUEST)
        assert relative_difference(workers.learners.state(), expected) <= 1e-6
        kill_process(after["learner-0"])
        with pytest.raises(WorkerLost, match=r"^learner lost: "):
            workers.learners.weights()
        assert isinstance(workers.learners, LearnerGroup)
    finally:
        workers.close()


def wait_until_gone(process_id: int) -> None:
    """Returns once a process has ended; a hang is the test's failure."""
    if psutil.pid_exists(process_id):
        psutil.Process(process_id).wait(timeout=300)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process that nothing happened to."""
    folder = tmp_path_factory.mktemp("calm")
    result = run_o2o(folder, "run", str(write_tiny_config(folder)), "--run-dir", "run", "--quiet")
    assert result.returncode == 0, result.stderr
    return folder / "run"


def start_shaken(folder: Path, point: str) -> subprocess.Popen[str]:
    """The same run over Ray; its learner kills itself at a named point, once."""
    config = write_tiny_config(folder, learners=1, rollout_workers=1)
    environment = {"O2O_FAULT": f"{point}:SIGKILL", "O2O_FAULT_ONCE": str(folder / "killed")}
    return start_o2o(folder, "run", str(config), "--run-dir", "run", "--quiet", environment=environment)


def check_shaken(folder: Path, process: subprocess.Popen[str], calm: Path, faults: dict[str, int]) -> None:
    _, error = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, error
    assert learner_digest(folder / "run") == learner_digest(calm)
    ours, theirs = read_summary(folder / "run"), read_summary(calm)
    assert {name: count for name, count in ours["faults"].items() if count} == faults
    assert [each["returns"] for each in ours["evaluations"]] == [each["returns"] for each in theirs["evaluations"]]
    assert ours["schedule"] == theirs["schedule"]


def test_a_run_ends_the_same_after_all_its_actors_were_killed(tmp_path: Path, calm: Path) -> None:
    process = start_shaken(tmp_path, "learner.step:13")
    run_dir = tmp_path / "run"
    wait_until(lambda: "replay" in read_processes(run_dir), process)
    started = read_processes(run_dir)
    wait_until((tmp_path / "killed").exists, process)
    kill_process(started["replay"])
    kill_process(started["rollout_worker-0"])
    check_shaken(tmp_path, process, calm, {"learner_lost": 1, "replay_lost": 1, "rollout_worker_lost": 1})
    ended = read_processes(run_dir)
    assert ended.keys() == started.keys()
    assert {role for role in started if started[role] == ended[role]} == {"driver"}
    assert not any(map(psutil.pid_exists, ended.values())), "a process is left behind"


@pytest.mark.soak
@pytest.mark.parametrize("step", [*range(1, 56, 3), 54])
def test_a_run_ends_the_same_wherever_its_learner_is_killed(step: int, tmp_path: Path, calm: Path) -> None:
    check_shaken(tmp_path, start_shaken(tmp_path, f"learner.step:{step}"), calm, {"learner_lost": 1})
