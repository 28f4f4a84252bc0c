"""F17: a run whose cluster loses its head writes a checkpoint, says so, ends with code 3 and can be resumed."""

import re
import signal
import subprocess
from pathlib import Path

import psutil

from system.distributed.head_watch import END_SHARE, GOES_ON, RAYS_LIMIT
from tests.support.tiny_runs import HANG_SECONDS, is_complete, start_o2o, wait_until, write_tiny_config

LIMIT_SECONDS = 20


def checkpoints(run_dir: Path) -> list[str]:
    return sorted(each.name for each in (run_dir / "checkpoints").glob("*") if is_complete(run_dir, each.name))


def test_a_run_whose_head_is_lost_ends_resumable(tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path, rollout_workers=1, pretrain={"update_steps": 100_000})
    run_dir = tmp_path / "run"

    def start() -> subprocess.Popen[str]:
        words = ("run", str(config), "--run-dir", "run", "--quiet")
        return start_o2o(tmp_path, *words, environment={RAYS_LIMIT: str(LIMIT_SECONDS)})

    process = start()
    wait_until(lambda: len(checkpoints(run_dir)) >= 2, process)
    found = psutil.Process(process.pid).children(recursive=True)
    (head,) = [each for each in found if each.name() == "gcs_server"]
    head.send_signal(signal.SIGKILL)
    _, error = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 3, error
    (line,) = [each for each in error.splitlines() if each.startswith("o2o: error:")]
    silent = re.search(rf"the cluster's head at \S+ has not answered for (\d+) s; {GOES_ON}$", line)
    assert silent and int(silent[1]) < END_SHARE * LIMIT_SECONDS, "it ended in order, after a checkpoint"
    newest = checkpoints(run_dir)[-1]
    process = start()
    wait_until(lambda: checkpoints(run_dir)[-1] > newest, process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 143, error
