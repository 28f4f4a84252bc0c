"""F13: SIGTERM and SIGINT end a run after a checkpoint, with their own exit codes; it can be resumed."""

import signal
from pathlib import Path

import pytest

from tests.support.tiny_runs import (
    HANG_SECONDS,
    finish_run,
    is_complete,
    learner_digest,
    start_o2o,
    wait_until,
    write_tiny_config,
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_answered_with_a_checkpoint(number: signal.Signals, code: int, tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path, pretrain={"update_steps": 100_000})
    words = ("run", str(config), "--run-dir", "run")
    process = start_o2o(tmp_path, *words)
    run_dir = tmp_path / "run"
    wait_until(lambda: is_complete(run_dir, "000003-offline"), process)
    process.send_signal(number)
    _, error = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == code, error
    assert error.splitlines()[-1] == f"o2o: error: interrupted by signal {int(number)}"


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    digests = []
    for name, stopped in (("whole", False), ("halves", True)):
        folder = tmp_path / name
        folder.mkdir()
        config = write_tiny_config(folder, online={"env_steps": 200, "evaluate_every_env_steps": 1000})
        if stopped:
            process = start_o2o(folder, "run", str(config), "--run-dir", "run", "--quiet")
            wait_until(lambda run=folder / "run": any((run / "checkpoints").glob("*-online")), process)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=HANG_SECONDS)
            assert process.returncode == 143
        finish_run(folder, config)
        digests.append(learner_digest(folder / "run"))
    assert digests[0] == digests[1]
