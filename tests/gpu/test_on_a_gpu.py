"""Every family on a GPU, end to end and in one process: `pytest -m gpu tests/gpu`.

Needs torch with CUDA and the simulators, neither Ray nor MLflow.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from system.cli.main import main
from system.evaluation.policies import make_policy
from system.planning.history import History
from system.runs.saved_agent import open_agent
from tests.support.tiny_families import write_gradient_config, write_imagination_config
from tests.support.tiny_games import write_tiny_game_config
from tests.support.tiny_runs import learner_digest, read_summary, run_o2o, write_tiny_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]

FAMILIES = {
    "vectors": write_tiny_config,
    "frames": write_tiny_game_config,
    "imagination": write_imagination_config,
    "gradients": write_gradient_config,
}


@pytest.fixture(scope="module", params=FAMILIES)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Configuration and directory of a finished run on whatever `device: auto` takes."""
    folder = tmp_path_factory.mktemp(request.param)
    write: Callable[..., Path] = FAMILIES[request.param]
    config = write(folder)
    assert main(["run", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return config, folder / "run"


def test_a_run_takes_the_gpu_and_ends(finished: tuple[Path, Path]) -> None:
    _, run = finished
    assert open_agent(run).agent.device.type == "cuda"
    assert {each["stage"] for each in read_summary(run)["evaluations"]} == {"offline", "online"}


def test_deterministic_runs_learn_the_same_weights(finished: tuple[Path, Path], tmp_path: Path) -> None:
    config, run = finished
    assert main(["run", str(config), "--run-dir", str(tmp_path / "again"), "--quiet"]) == 0
    assert learner_digest(tmp_path / "again") == learner_digest(run)


def test_a_checkpoint_is_evaluated_and_goes_on(finished: tuple[Path, Path], tmp_path: Path) -> None:
    config, run = finished
    assert main(["evaluate", str(run), "--quiet", "--set", "evaluation.episodes=2"]) == 0
    words = ["finetune", str(config), "--checkpoint", str(run), "--run-dir", str(tmp_path / "more"), "--quiet"]
    assert main(words) == 0


def test_a_saved_policy_records_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_tiny_config(tmp_path)
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    monkeypatch.chdir(tmp_path)
    settings = (
        *("policy=checkpoint", "kind=medium", f"checkpoint={tmp_path / 'run'}", "action_noise=0.1"),
        *("environment=InvertedPendulum-v5", "dataset_id=mine/medium-v0", "env_steps=40"),
    )
    words = ["collect", "hopper-medium-replay", "--quiet"]
    assert main([*words, *(word for each in settings for word in ("--set", each))]) == 0


def test_a_gpu_decides_as_the_cpu_does(tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path)
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    saved = open_agent(tmp_path / "run")
    task, history = saved.tasks[0], History(4, 4, 4, 1)
    drawn = np.random.default_rng(0)
    history.reset(list(range(4)), drawn.normal(size=(4, 4)).astype(np.float32))
    decided = []
    for device in ("cuda", "cpu"):
        agent = saved.agent.to(device)
        policy = make_policy("rcbc_mode", agent, task, saved.config, replace(saved.config.planner))
        decided.append(policy.act(history, np.arange(4), torch.Generator(device)).action)
    assert np.allclose(*decided, atol=1e-4)


def test_compiled_models_learn(tmp_path: Path) -> None:
    """In a process of its own: the annotation checks of these tests cannot be compiled."""
    config = write_tiny_config(tmp_path, compile=True, deterministic=False, online={"env_steps": 0})
    result = run_o2o(tmp_path, "run", str(config), "--run-dir", "run", "--quiet")
    assert result.returncode == 0, result.stderr
