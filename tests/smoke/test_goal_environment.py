"""A goal environment's desired goal is served by the planner of goals: `reach`, `evaluate` and from Python."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from system import load_agent
from system.cli.main import main
from system.data.writer import write_dataset
from system.envs.registry import environment_specification, find_task
from tests.support.goal_point import ENVIRONMENT, NEAR, wandering_episode
from tests.support.tiny_runs import write_tiny_config

MODULE = "modules=[tests.support.goal_point]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("goal_point")
    task = find_task(ENVIRONMENT)
    config = write_tiny_config(
        folder,
        modules=["tests.support.goal_point"],
        dataset={"id": "toy/goal-point-v0"},
        model={"context_length": 5, "width": 32, "partial_states": True},
        training={
            "batch_size": 8,
            "learning_rate": 3e-3,
            "weight_average": 0.9,
            "mask_shares": {"path_inference": 0.5, "inverse_dynamics": 0.5},
        },
        critic={"updates_per_step": 0},
        planner={"guidance": "return", "horizon": 3},
        pretrain={"update_steps": 6},
        evaluation={"policies": ["rcbc_mode"], "ranked_states": 0},
        checkpoint={"every_update_steps": 6},
    )
    write_dataset(
        folder / "datasets",
        "toy/goal-point-v0",
        [wandering_episode(seed) for seed in range(12)],
        task=task,
        environment_specification=environment_specification(ENVIRONMENT),
        author="tests",
        algorithm_name="random walks",
        description="toy",
    )
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder


def test_reach_serves_what_the_environment_desires(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    out = tmp_path / "reach.json"
    words = ["reach", str(trained / "run"), "--task", "desired-goal", "--episodes", "4", "--set", MODULE]
    assert main([*words, "--tolerance", str(NEAR), "--output", str(out), "--pictures", str(tmp_path)]) == 0
    records = json.loads(out.read_text())["reached"]
    assert [each["episodes"] for each in records] == [4] * 5
    assert (tmp_path / "desired-goal-backward_mpc.png").exists()


def test_it_is_a_policy_like_any_other(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    out = tmp_path / "evaluated.json"
    words = ["evaluate", str(trained / "run"), "--policies", "backward_mpc,goal_mask", "--episodes", "2"]
    assert main([*words, "--set", MODULE, "--output", str(out)]) == 0
    assert len(json.loads(out.read_text())["evaluations"]) == 2
    agent = load_agent(trained / "run", policy="backward_mpc", overrides=[MODULE])
    environment = gymnasium.make(ENVIRONMENT)
    shown, _ = environment.reset(seed=3)
    other = {**shown, "desired_goal": -shown["desired_goal"]}
    actions = []
    for seen in (shown, other):
        agent.reset()
        actions.append(agent.act(seen))
    assert not np.allclose(*actions), "it acts for the goal that is shown"
