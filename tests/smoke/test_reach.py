"""`o2o reach` on a tiny run: named tasks, goals of one's own, and what is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from system.cli.main import main
from system.cli.reaching import chosen_policies
from system.config import RunConfig
from system.envs.placed_start import PlacedStart, can_be_placed
from system.envs.registry import find_task, make_environment
from system.errors import ConfigError
from tests.support.tiny_runs import write_tiny_config

GOALS = """goals:
  - name: upright
    waypoints:
      - {at: {"observation[1]": 0.0}, tolerance: 0.2, by: 3}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reach")
    config = write_tiny_config(
        folder,
        model={"partial_states": True},
        training={"mask_shares": {"path_inference": 0.4, "inverse_dynamics": 0.4}},
        pretrain={"update_steps": 6},
        dataset={"validation_fraction": 0.3},
        evaluation={"policies": ["rcbc_mode"], "ranked_states": 0, "capabilities": ["id", "fd", "rp", "pi"]},
    )
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder


def reach(folder: Path, *words: str) -> int:
    return main(["reach", str(folder / "run"), "--episodes", "3", "--quiet", *words])


def test_goals_of_ones_own_are_played_judged_and_drawn(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    (tmp_path / "goals.yaml").write_text(GOALS)
    out = tmp_path / "reach.json"
    words = ("--goals", str(tmp_path / "goals.yaml"), "--output", str(out), "--pictures", str(tmp_path))
    assert reach(trained, *words) == 0
    records = json.loads(out.read_text())["reached"]
    played = [each["policy"] for each in records]
    assert played == ["backward_mpc", "goal_mask", "rcbc_mode", "rcbc_mean", "dataset"]
    for each in records:
        assert each["goal"] == "upright"
        assert each["episodes"] == len(each["tracking_errors"]) == 3
        low, high = each["success_ci95"]
        assert low <= each["success_rate"] <= high
    assert (tmp_path / "upright-backward_mpc.png").stat().st_size > 1000
    assert "goal_mask" in capsys.readouterr().out


def test_without_the_data_only_the_comparison_with_them_is_lost(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (trained / "datasets").rename(trained / "away")
    try:
        (tmp_path / "goals.yaml").write_text(GOALS)
        words = ("--policies", "goal_mask", "--output", "reach.json")
        assert reach(trained, "--goals", "goals.yaml", *words) == 0
        assert [each["policy"] for each in json.loads(Path("reach.json").read_text())["reached"]] == ["goal_mask"]
        assert reach(trained, "--task", "held-out-8", *words) == 2
        assert "toy/pendulum-v0" in capsys.readouterr().err
    finally:
        (trained / "away").rename(trained / "datasets")


def test_held_out_states_are_where_episodes_begin(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    out = tmp_path / "reach.json"
    words = ("--task", "held-out-8", "--policies", "backward_mpc", "--output", str(out))
    assert reach(trained, *words) == 0
    assert [each["policy"] for each in json.loads(out.read_text())["reached"]] == ["backward_mpc", "dataset"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "held-out-9"), "did you mean held-out-8?"),
        (("--task", "halfcheetah-flip"), "is for HalfCheetah-v, not for InvertedPendulum-v5"),
        (("--task", "desired-goal"), "shows no desired_goal"),
        (("--task", "held-out-8", "--tolerance", "-1"), "--tolerance: -1 is not above 0"),
        (("--goals", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (("--task", "held-out-8", "--policies", "walk"), "unknown policy 'walk'"),
        (("--task", "held-out-8", "--set", "planner.horizon=4"), "a goal 4 steps ahead does not fit"),
    ],
)
def test_what_cannot_be_reached_is_refused_in_one_line(
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(trained)
    assert reach(trained, *words) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0


def test_capabilities_stand_in_the_summary_and_are_measured_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    records = json.loads((trained / "run" / "summary.json").read_text())["capabilities"]
    assert {each["capability"] for each in records} == {"id", "fd", "rp", "pi"}
    assert all(each["stage"] == "offline" for each in records)
    out = tmp_path / "evaluated.json"
    words = ["evaluate", str(trained / "run"), "--episodes", "2", "--quiet", "--output", str(out)]
    assert main([*words, "--capability", "bc,fd"]) == 0
    found = json.loads(out.read_text())
    assert [each["policy"] for each in found["evaluations"]] == ["bc_mode"]
    assert found["capabilities"] == [each for each in records if each["capability"] == "fd"]
    assert main([*words, "--capability", "id"]) == 0
    assert json.loads(out.read_text())["evaluations"] == []
    capsys.readouterr()
    assert main([*words, "--capability", "fdd"]) == 2
    assert "did you mean fd?" in capsys.readouterr().err


@pytest.mark.parametrize("environment", ["Hopper-v5", "HalfCheetah-v5", "InvertedPendulum-v5"])
def test_simulators_go_on_from_where_they_are_put(environment: str) -> None:
    """From a state that another episode passed, the same actions lead along the same states."""
    task = find_task(environment)
    first, actions = make_environment(task), np.random.default_rng(0).uniform(-0.3, 0.3, (9, task.action_dim))
    path = [first.reset(seed=1)[0]]
    path += [first.step(action.astype(np.float32))[0] for action in actions]
    placed = PlacedStart(make_environment(task), {7: path[4]})
    assert np.allclose(placed.reset(seed=7)[0], path[4], atol=1e-6)
    again = [placed.step(action.astype(np.float32))[0] for action in actions[4:]]
    assert np.allclose(again, path[5:], atol=2e-3)
    assert not np.allclose(placed.reset(seed=8)[0], path[4], atol=1e-2)


def test_observations_that_do_not_tell_the_state_are_known() -> None:
    assert can_be_placed(find_task("Walker2d-v5"))
    assert not can_be_placed(find_task("Pendulum-v1"))
    assert not can_be_placed(find_task("Reacher-v5"))


def test_families_that_reach_for_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="family: world_action has no policy that reaches for goals"):
        chosen_policies(RunConfig(family="world_action"), None)
    assert chosen_policies(RunConfig(), "goal_mask, rcbc_mode") == ["goal_mask", "rcbc_mode"]
    assert chosen_policies(RunConfig(), None) == ["backward_mpc", "goal_mask", "rcbc_mode", "rcbc_mean"]
