"""Any environment of Gymnasium's and one of a user's own: checked, learnt, evaluated; data alone as well."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from played_data import write_played
from tiny_runs import read_summary, run_o2o, write_tiny_config

from system.cli.main import main
from system.config.modules import import_modules
from system.envs.registry import find_task
from system.runs.loaded_agent import load_agent

SUPPORT = Path(__file__).parents[1] / "support"
LIMIT = 8
QUICK: dict[str, Any] = {
    "pretrain": {"update_steps": 4},
    "checkpoint": {"every_update_steps": 4},
    "online": {"env_steps": 8, "evaluate_every_env_steps": 8, "max_episode_steps": LIMIT, "collapse_guard": False},
    "evaluation": {"policies": ["random", "rcbc_mode", "forward_mpc_q"], "max_episode_steps": LIMIT},
}
CUT = {"cut_episodes": "complete"}


def prepared(folder: Path, environment_id: str, limit: int | None, **changes: Any) -> Path:
    """Writes a played dataset and a configuration that trains on it."""
    write_played(folder / "datasets", "mine/played-v0", find_task(environment_id), max_episode_steps=limit)
    dataset = {"id": "mine/played-v0", "download": False, **(CUT if limit else {})}
    return write_tiny_config(folder, **{**QUICK, "dataset": dataset, **changes})


@pytest.mark.parametrize(
    ("environment_id", "limit"),
    [
        ("Pendulum-v1", None),
        ("Ant-v5", LIMIT),
        ("CartPole-v1", None),
        ("Reacher-v5", None),
        ("Hopper-v5", None),
        ("MountainCarContinuous-v0", LIMIT),
    ],
)
def test_an_environment_of_gymnasiums_is_learnt(
    environment_id: str, limit: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepared(tmp_path, environment_id, limit)
    assert main(["data", "check", "mine/played-v0", "--path", str(tmp_path / "datasets")]) == 0
    assert f"environment  {environment_id}" in capsys.readouterr().out
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    records = read_summary(tmp_path / "run")["evaluations"]
    assert {each["stage"] for each in records} == {"offline", "online"}
    assert all(len(each["returns"]) == 2 and each["normalized_mean"] is None for each in records) == (
        environment_id != "Hopper-v5"
    )
    assert main(["evaluate", str(tmp_path / "run"), "--quiet", "--policies", "rcbc_mean"]) == 0


def test_targets_lie_between_the_lowest_and_the_best_return(tmp_path: Path) -> None:
    """Of negative returns too: eight tenths of −120 would ask for more than was ever seen."""
    config = prepared(tmp_path, "Pendulum-v1", None, evaluation={"policies": ["rcbc_mode"], "episodes": 1})
    words = ["pretrain", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main([*words, "--set", "evaluation.target_return_ratios=[0.8]"]) == 0
    agent = load_agent(tmp_path / "run")._agent
    low, asked, best = (agent.targets(ratio)[0].item() for ratio in (0.0, 0.8, 1.0))
    assert low < best < 0.0
    assert asked == pytest.approx(low + 0.8 * (best - low))


@pytest.mark.parametrize(("environment_id", "workers"), [("Own/Reservoir-v0", 1), ("Own/Switch-v0", 0)])
def test_an_environment_of_a_users_own_is_learnt_in_every_process(
    environment_id: str, workers: int, tmp_path: Path
) -> None:
    """Registered by the module that `modules` names, and nowhere else: in a process that never heard of it."""
    import own_environments  # noqa: F401  for the data alone

    config = prepared(tmp_path, environment_id, None, modules=["own_environments"], rollout_workers=workers)
    where = {"PYTHONPATH": os.pathsep.join([str(SUPPORT.parents[1]), str(SUPPORT)])}
    result = run_o2o(tmp_path, "run", str(config), "--run-dir", "run", "--quiet", environment=where)
    assert result.returncode == 0, result.stderr
    assert {each["stage"] for each in read_summary(tmp_path / "run")["evaluations"]} == {"offline", "online"}
    if workers:
        return
    without = run_o2o(tmp_path, "evaluate", "run", "--quiet", environment=where)
    assert without.returncode == 2 and len(without.stderr.splitlines()) == 1
    assert "it was made with modules = [own_environments], to be named here too" in without.stderr
    words = ("evaluate", "run", "--quiet", "--policies", "random", "--set", "modules=[own_environments]")
    named = run_o2o(tmp_path, *words, environment=where)
    assert named.returncode == 0, named.stderr


def test_data_alone_are_checked_and_learnt_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = prepared(tmp_path, "Pendulum-v1", None)
    metadata = tmp_path / "datasets" / "mine" / "played-v0" / "data" / "metadata.json"
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({key: value for key, value in content.items() if "env_spec" not in key}))
    assert main(["data", "check", "mine/played-v0", "--path", str(tmp_path / "datasets")]) == 0
    assert "environment  none" in capsys.readouterr().out
    words = [str(config), "--run-dir", str(tmp_path / "run"), "--quiet", "--set", "dataset.cut_episodes=complete"]
    assert main(["run", *words]) == 2
    refusal = capsys.readouterr().err
    assert "environment.id: there is nothing to act in" in refusal and len(refusal.splitlines()) == 1
    assert main(["pretrain", *words]) == 0
    summary = read_summary(tmp_path / "run")
    assert summary["evaluations"] == [] and summary["open_loop_error"]["offline"]["states"]
    assert summary["utility_rank_correlation"] == [], "nothing can be executed"
    agent = load_agent(tmp_path / "run")
    assert -2.0 <= float(agent.act(agent.task.action_bounds[0].repeat(3))[0]) <= 2.0
    measure = ["evaluate", str(tmp_path / "run"), "--quiet", "--policies", "rcbc_mode"]
    assert main(measure) == 2
    assert "has no simulator" in capsys.readouterr().err
    output = tmp_path / "measured.json"
    assert main([*measure, "--set", "environment.id=Pendulum-v1", "--output", str(output)]) == 0
    measured = json.loads(output.read_text())["evaluations"]
    assert [(each["environment"], len(each["returns"])) for each in measured] == [("Pendulum-v1", 2)]


def test_where_all_was_cut_a_remedy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = prepared(tmp_path, "Ant-v5", 5, dataset={"id": "mine/played-v0", "download": False})
    assert main(["pretrain", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 2
    assert "dataset.cut_episodes: complete" in capsys.readouterr().err


@pytest.mark.skipif(not find_spec("gymnasium_robotics"), reason="the extra `robotics` is not installed")
@pytest.mark.parametrize("environment_id", ["PointMaze_UMaze-v3", "FetchReach-v4"])
def test_goal_environments_are_learnt(environment_id: str, tmp_path: Path) -> None:
    import_modules(["gymnasium_robotics"])
    config = prepared(tmp_path, environment_id, LIMIT, modules=["gymnasium_robotics"])
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    slices = {name for name, _, _ in load_agent(tmp_path / "run").task.observation_slices}
    assert slices == {"achieved_goal", "desired_goal", "observation"}
