"""A run on a cluster of three nodes that loses one and gains one while it works."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from system.data.replay.episode_log import EpisodeLog
from system.distributed import storage
from tests.support.tiny_runs import read_summary, start_o2o, wait_until, write_tiny_config
from tests.support.tiny_workers import logged_episodes

pytestmark = pytest.mark.slow

ENV_STEPS = 1500
NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs, on which the driver runs; its nodes find this package."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def events(run_dir: Path) -> list[dict]:
    path = run_dir / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def env_steps(run_dir: Path) -> int:
    found = [event["step"] for event in events(run_dir) if "rollout/return_mean" in event.get("values", {})]
    return max(found, default=0)


def nodes_of_workers(run_dir: Path) -> int:
    processes = json.loads((run_dir / "processes.json").read_text())
    return sum(role.startswith("rollout_worker") for role in processes)


def test_a_node_leaves_and_another_joins(tmp_path: Path, cluster: Cluster) -> None:
    leaving = cluster.add_node(**NODE)
    cluster.add_node(**NODE)
    config = write_tiny_config(
        tmp_path,
        deterministic=False,
        online={"env_steps": ENV_STEPS, "evaluate_every_env_steps": 10_000, "limiter_tolerance_steps": 50},
    )
    run_dir = tmp_path / "run"
    process = start_o2o(
        tmp_path,
        *("run", str(config), "--run-dir", str(run_dir), "--quiet", "--address", cluster.address),
        *("--set", "rollout_workers={num: 4, at_least: 2}"),
    )
    try:
        wait_until(lambda: env_steps(run_dir) > 100, process)
        assert nodes_of_workers(run_dir) >= 2
        cluster.remove_node(leaving, allow_graceful=False)
        before = env_steps(run_dir)
        wait_until(lambda: env_steps(run_dir) > before + 100, process)
        cluster.add_node(**NODE)
        _, error = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 0, error
    summary = read_summary(run_dir)
    assert summary["faults"]["rollout_worker_lost"] >= 1
    keys = logged_episodes(run_dir).keys()
    log = EpisodeLog.open(run_dir / "replay")
    log.close()
    assert summary["stages"]["online"]["steps"] == sum(episode.num_steps for episode in log.episodes) >= ENV_STEPS
    assert {key.worker for key in keys} == {0, 1, 2, 3}
    assert any(key.epoch > 0 for key in keys), "workers of the lost node played on elsewhere"


def test_a_node_that_does_not_see_the_run_directory_is_named(tmp_path: Path, cluster: Cluster) -> None:
    cluster.add_node(**NODE)
    blind = (
        "import sys; from system.cli.main import main; from system.distributed import storage;"
        "storage._read = lambda file: None; sys.exit(main(sys.argv[1:]))"
    )
    config = write_tiny_config(tmp_path, deterministic=False)
    words = ["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet", "--address", cluster.address]
    done = subprocess.run(
        [sys.executable, "-c", blind, *words, "--set", "rollout_workers=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"o2o: error: --run-dir: {tmp_path / 'run'} is not the same folder on node ")
    assert not (tmp_path / "run" / storage.NONCE).exists()
