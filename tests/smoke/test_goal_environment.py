"""A goal environment's desired goal is served by the planner of goals, in `reach`, in `evaluate` and from Python."""

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
            "batch_size": 64,
            "learning_rate": 3e-3,
            "weight_average": 0.9,
            "mask_shares": {"path_inference": 0.5, "inverse_dynamics": 0.5},
        },
        critic={"updates_per_step": 0},
        planner={"guidance": "return", "horizon": 3},
        pretrain={"update_steps": 150},
        evaluation={"policies": ["rcbc_mode"], "ranked_states": 0},
        checkpoint={"every_update_steps": 150},
    )
    write_dataset(
        folder / "datasets",
        "toy/goal-point-v0",
        [wandering_episode(seed) for seed in range(150)],
        task=task,
        environment_specification=environment_specification(ENVIRONMENT),
        author="tests",
        algorithm_name="random walks",
        description="toy",
    )
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder


def test_walks_that_went_nowhere_teach_to_reach(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    out = tmp_path / "reach.json"
    words = ["reach", str(trained / "run"), "--task", "desired-goal", "--episodes", "20", "--quiet"]
    assert main([*words, "--tolerance", str(NEAR), "--set", MODULE, "--output", str(out)]) == 0
    rates = {each["policy"]: each["success_rate"] for each in json.loads(out.read_text())["reached"]}
    assert rates["backward_mpc"] >= 0.6
    assert rates["backward_mpc"] > 2 * max(rates["dataset"], rates["rcbc_mode"])


def test_it_is_a_policy_like_any_other(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    out = tmp_path / "evaluated.json"
    words = ["evaluate", str(trained / "run"), "--policies", "backward_mpc", "--episodes", "6", "--quiet"]
    assert main([*words, "--set", MODULE, "--set", "evaluation.max_episode_steps=null", "--output", str(out)]) == 0
    assert json.loads(out.read_text())["evaluations"][0]["return_mean"] >= 0.5
    agent = load_agent(trained / "run", policy="backward_mpc", overrides=[MODULE])
    environment = gymnasium.make(ENVIRONMENT)
    shown, _ = environment.reset(seed=3)
    agent.reset()
    before = np.abs(shown["desired_goal"] - shown["achieved_goal"]).max()
    for _ in range(3):
        shown = environment.step(agent.act(shown))[0]
    assert np.abs(shown["desired_goal"] - shown["achieved_goal"]).max() < before
