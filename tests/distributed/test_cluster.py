"""A Ray session of the run's own: it leaves the caller's signal handlers alone and ends with its driver."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray

from system.distributed.cluster import cluster_session
from system.distributed.environment import cluster_address, prepare_environment
from system.errors import ClusterLost

HANG_SECONDS = 120.0
DRIVER = """
import os, signal, sys
from system.distributed.environment import prepare_environment
prepare_environment(None)
from system.distributed.cluster import cluster_session

def on_terminate(number, frame):
    print("asked to stop", flush=True)
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, on_terminate)
with cluster_session(None, num_cpus=7):
    import ray
    print(int(ray.cluster_resources()["CPU"]), flush=True)
    with cluster_session(None, num_cpus=1):
        pass
    print(ray.is_initialized(), os.environ["RAY_AUTH_MODE"], flush=True)
    signal.pause()
"""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path)}
    environment.pop("RAY_AUTH_MODE")
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) >= 7, "as many logical CPUs as the actors ask for"
    assert process.stdout.readline() == "True token\n", "an inner session leaves the outer one running"
    yield process
    process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_session_ends_with_its_driver(
    number: signal.Signals, driver: subprocess.Popen[str], tmp_path: Path
) -> None:
    # Ray's two node agents, which hold nothing, notice the end of their node only after a minute.
    children = psutil.Process(driver.pid).children(recursive=True)
    processes = [process for process in children if not process.name().endswith("Agent")]
    assert any("raylet" in process.name() for process in processes)
    driver.send_signal(number)
    out, error = driver.communicate(timeout=HANG_SECONDS)
    if number == signal.SIGTERM:
        assert out == "asked to stop\n", "Ray must not take over the driver's own handler"
        assert error.splitlines()[-1:] == ["KeyboardInterrupt"]
    else:
        assert (driver.returncode, error) == (-signal.SIGKILL, "")
    _, left = psutil.wait_procs(processes, timeout=HANG_SECONDS)
    assert left == []
    assert not (tmp_path / ".ray").exists(), "no token is left on disk"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nonsense"])
def test_no_cluster_at_the_address(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # the tests' own session goes on
    before = signal.getsignal(signal.SIGTERM)
    refusal = rf"^no Ray cluster at {address}: [^\n]+$"
    with pytest.raises(ClusterLost, match=refusal), cluster_session(address, num_cpus=1):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("failures", "starts"), [(2, True), (3, False)])
def test_a_local_session_that_does_not_come_up_is_started_again(
    failures: int, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []

    def start(address: str, **options: object) -> None:
        attempts.append(address)
        if len(attempts) <= failures:
            raise Exception("The current node timed out during startup.\nMore.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:1"))
    if starts:
        with cluster_session(None, num_cpus=2):
            assert attempts == ["local"] * 3
        with pytest.raises(ClusterLost, match=r"^the cluster has 2 CPUs, the run needs 3$"), cluster_session(
            None, num_cpus=3
        ):
            pass
    else:
        refusal = r"^no Ray cluster at this machine: The current node timed out during startup\.$"
        with pytest.raises(ClusterLost, match=refusal), cluster_session(None, num_cpus=2):
            pass


def test_a_submitted_job_finds_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert cluster_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address(None) == "10.0.0.1:6379"
    assert cluster_address("10.0.0.2:6379") == "10.0.0.2:6379"


def test_authentication_is_settled_before_ray_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")
    prepare_environment("10.0.0.1:6379")
    assert os.environ["RAY_AUTH_MODE"] == "", "a running cluster's mode is inherited"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    prepare_environment(None)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    prepare_environment(None)
    assert os.environ["RAY_AUTH_MODE"] == "disabled", "what the user has set stays"


SILENT = """
import threading
import system.distributed.cluster as cluster
cluster.SILENT_SECONDS = 0.1
cluster.ray.init = lambda **options: threading.Event().wait()
with cluster.cluster_session(None, num_cpus=1):
    pass
"""


def test_a_start_that_never_comes_back_ends_resumable() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("RAY_ADDRESS", None)
    ended = subprocess.run(
        [sys.executable, "-c", SILENT], env=environment, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert ended.returncode == 3
    assert ended.stderr == "o2o: error: Ray did not start within 0.1 s; the same command goes on\n"
