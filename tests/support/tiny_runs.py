"""Whole runs of the command in seconds: a pendulum, a random dataset, networks of a few units."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from configs import OWN_SECTIONS, nest

from system.data.writer import write_dataset
from system.envs.registry import environment_specification, find_task
from system.runs.checkpoint import checkpoint_names
from system.sealed_folder import COMPLETE
from tests.support.dataset_factory import make_episode

ENVIRONMENT = "InvertedPendulum-v5"
DATASET = "toy/pendulum-v0"
HANG_SECONDS = 900.0

TINY: dict[str, Any] = {
    "deterministic": True,
    "dataset": {"id": DATASET},
    "model": {"context_length": 4, "width": 16, "encoder_layers": 1, "decoder_layers": 1, "num_heads": 2},
    "training": {"batch_size": 8, "warmup_steps": 2},
    "critic": {"hidden_width": 16, "batch_size": 16, "updates_per_step": 1},
    "planner": {"guidance": "critic", "horizon": 2, "num_candidates": 4},
    "pretrain": {"update_steps": 20},
    "online": {
        "env_steps": 60,
        "environments_per_worker": 2,
        "env_steps_per_round": 23,
        "updates_per_env_step": 0.5,
        "limiter_tolerance_steps": 100,
        "evaluate_every_env_steps": 40,
    },
    "evaluation": {
        "policies": ["rcbc_mean", "forward_mpc_q"],
        "episodes": 2,
        "schedule_episodes": 2,
        "selection_episodes": 1,
        "target_return_ratios": [0.5, 1.0],
        "num_environments": 2,
        "max_episode_steps": 10,
        "ranked_states": 2,
        "ranked_candidates": 3,
        "ranked_follow_steps": 8,
        "film_steps": 0,
    },
    "checkpoint": {"every_seconds": 0, "every_update_steps": 5, "keep": 3},
    "tracking": {"mlflow": False, "every_update_steps": 5},
}


def make_pendulum_dataset(root: Path) -> None:
    """A dataset of random numbers with the pendulum's dimensions."""
    task = find_task(ENVIRONMENT)
    write_dataset(
        root,
        DATASET,
        [make_episode(6 + index, "terminated", index, task) for index in range(12)],
        task=task,
        environment_specification=environment_specification(ENVIRONMENT),
        author="tests",
        algorithm_name="random numbers",
        description="toy",
    )


def write_tiny_config(folder: Path, **changes: Any) -> Path:
    """tiny.yaml in a folder that gets the dataset too; nested dicts are merged."""
    if not (folder / "datasets").exists():
        make_pendulum_dataset(folder / "datasets")
    merged: dict[str, Any] = {}
    for layer in (TINY, {"dataset": {"path": str(folder / "datasets")}}, changes):
        for key, value in layer.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    if merged.get("family", "masked_trajectory") != "masked_trajectory":
        merged = {key: value for key, value in merged.items() if key not in OWN_SECTIONS}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(nest(merged)))
    return path


def start_o2o(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts the command in a folder."""
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "system", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_o2o(
    folder: Path, *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    process = start_o2o(folder, *words, environment=environment)
    try:
        out, error = process.communicate(timeout=HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def finish_run(folder: Path, config: Path) -> None:
    """`o2o run` in this process, from wherever the run in `folder/run` stands to its end."""
    from system.cli.main import main

    assert main(["run", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0


def learner_digest(run_dir: Path) -> str:
    """sha256 of the newest checkpoint's learner: weights, moments and duals."""
    names = [name for name in checkpoint_names(run_dir / "checkpoints") if is_complete(run_dir, name)]
    return hashlib.sha256((run_dir / "checkpoints" / names[-1] / "learner.safetensors").read_bytes()).hexdigest()


def is_complete(run_dir: Path, name: str) -> bool:
    """Whether a checkpoint was finished."""
    return (run_dir / "checkpoints" / name / COMPLETE).exists()


def read_summary(run_dir: Path) -> dict[str, Any]:
    """summary.json."""
    summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return summary


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something that a running process will do; fails if the process ends first."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()[1]}")
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError("hung")
        time.sleep(0.05)


def read_processes(run_dir: Path) -> dict[str, int]:
    """processes.json, or nothing while it is not there."""
    try:
        processes: dict[str, int] = json.loads((run_dir / "processes.json").read_text())
    except (OSError, ValueError):
        return {}
    return processes


def kill(process_id: int) -> None:
    """SIGKILL."""
    os.kill(process_id, signal.SIGKILL)
