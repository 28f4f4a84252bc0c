"""Jobs as deploy/README.md says: submitted to a head on this machine, watched by its metrics, stopped, resumed.

The head is this test's own: free ports, a folder of its own, a token of its own, ended by its process ids.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from system.distributed.metrics import DECISIONS, DESCRIPTIONS
from system.runs.checkpoint import checkpoint_names
from tests.support.tiny_runs import is_complete, read_summary

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HANG_SECONDS = 900.0
ATTEMPTS = 3
# `o2o` in words that find the submitted code, whether or not the project is installed beside Ray.
O2O = (sys.executable, "-m", "system")
SETTINGS = ("--set", "learners=1", "--set", "rollout_workers=1", "--set", "tracking.mlflow=false")
SMOKE = (*O2O, "run", "smoke", *SETTINGS)


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        environment: for its clients.
        dashboard, metrics: addresses.
    """

    environment: dict[str, str]
    dashboard: str
    metrics: str

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs `ray` with these words to its end."""
        return subprocess.run(
            ["ray", *words], env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS
        )

    def submit(self, name: str, *words: str, wait: bool = True) -> subprocess.CompletedProcess[str]:
        """Submits a job as the runbook does."""
        options = ["--submission-id", name, "--runtime-env", "deploy/runtime-env.yaml", "--working-dir", "."]
        return self.ray("job", "submit", *([] if wait else ["--no-wait"]), *options, "--", *words)

    def page(self, address: str) -> str:
        """What is at an address; empty while nothing is."""
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return ""


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on; above those that Ray gives to workers."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> bool:
    """Until it is true; False if the process ends first."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        if process is not None and process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "hung"
        time.sleep(0.5)
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a head and everything that it started."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    for each in psutil.wait_procs(family, timeout=60)[1]:
        each.kill()
    process.wait()


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    pytest.importorskip("aiohttp_cors", reason="jobs need ray[default], the extra `cluster`")
    folder = Path(tempfile.mkdtemp(prefix="o2o-"))  # sockets lie in it: its path has to be short
    for _ in range(ATTEMPTS):  # under load Ray's daemons give up on each other
        ports = free_ports(5)
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{ports[1]}",
        }
        with (folder / "head.log").open("wb") as log:
            process = subprocess.Popen(start_command(folder, ports), env=environment, stdout=log, stderr=log)
        started = Head(environment, f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[3]}/metrics")
        if wait_for(lambda at=started: at.page(f"{at.dashboard}/api/gcs_healthz"), process):
            yield started
            end(process)
            shutil.rmtree(folder)
            return
        if process.poll() is None:
            end(process)
    pytest.fail((folder / "head.log").read_text())


def start_command(folder: Path, ports: list[int]) -> list[str]:
    """`ray start` as in the runbook, with ports and a folder of its own."""
    servers = ("port", "dashboard-port", "ray-client-server-port", "metrics-export-port")
    names = (*servers, "dashboard-agent-listen-port")
    given = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    places = [f"--temp-dir={folder}", "--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"]
    return ["ray", "start", "--head", "--block", "--num-cpus=4", *given, *places]


def test_the_smoke_run_succeeds_as_a_job(head: Head, tmp_path: Path) -> None:
    finished = head.submit("smoke", *SMOKE, "--run-dir", str(tmp_path / "smoke-0"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "'smoke' succeeded" in finished.stdout
    assert "offline" in finished.stdout
    assert "20/20 updates" in finished.stdout, "lines of progress, without a terminal"
    summary = read_summary(tmp_path / "smoke-0")
    assert summary["next_stage"] == "done"
    processes = json.loads((tmp_path / "smoke-0" / "processes.json").read_text())
    assert {"driver", "replay", "learner-0", "rollout_worker-0"} <= set(processes)


def test_a_job_refuses_a_relative_run_directory(head: Head) -> None:
    refused = head.submit("relative", *SMOKE)
    assert refused.returncode != 0
    assert "o2o: error: --run-dir: runs/smoke-0 is relative" in refused.stdout


def test_a_stopped_job_has_exported_its_metrics_checkpointed_and_goes_on(head: Head, tmp_path: Path) -> None:
    run_dir = tmp_path / "long-0"
    words = (*SMOKE, "--set", "online.env_steps=100000", "--run-dir", str(run_dir))
    assert head.submit("long", *words, wait=False).returncode == 0
    series = {f"ray_{name}" for name in DESCRIPTIONS} - {f"ray_{DECISIONS}"} | {f"ray_{DECISIONS}_bucket"}

    def samples() -> list[str]:
        """Of this run: those of a job before it stay for a while."""
        lines = head.page(head.metrics).splitlines()
        return [line for line in lines if line.startswith("ray_o2o_") and 'run="long-0"' in line]

    wait_for(lambda: series <= {line.partition("{")[0] for line in samples()})
    assert all('environment="Hopper-v5"' in line for line in samples())
    assert head.ray("job", "stop", "long").returncode == 0
    assert "'long' was stopped" in head.ray("job", "status", "long").stdout
    assert "o2o: error: interrupted by signal 15" in head.ray("job", "logs", "long").stdout
    newest = checkpoint_names(run_dir / "checkpoints")[-1]
    assert is_complete(run_dir, newest), "killed before its checkpoint was finished"
    assert head.submit("again", *words, wait=False).returncode == 0
    wait_for(lambda: f"resumed from {newest}" in head.ray("job", "logs", "again").stdout)
    head.ray("job", "stop", "again")
