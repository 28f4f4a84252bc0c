"""Gradient MPC through the verbs: trained, resumed, exported, loaded, swept; what goes on from step to step."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from system import fault_points
from system.cli.main import main
from system.runs.loaded_agent import LoadedAgent, load_agent
from tests.support.tiny_families import write_gradient_config as write_config
from tests.support.tiny_runs import finish_run, learner_digest, read_summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gradient")
    finish_run(folder, write_config(folder))
    return folder


def test_it_is_trained_evaluated_and_learns_online(folder: Path) -> None:
    summary = read_summary(folder / "run")
    evaluated = [(each["stage"], each["policy"], each["fallbacks"]) for each in summary["evaluations"]]
    names = ("rebrac", "gradient_mpc")
    assert evaluated == [(stage, policy, 0) for stage in ("offline", "online") for policy in names]
    assert summary["stages"]["online"]["steps"] >= 60
    assert summary["exploration"]["policy"] == "gradient_mpc"
    assert summary["open_loop_error"]["offline"].keys() == {"states", "unchanged", "rewards", "coverage"}
    assert all(each["candidates"] == 2 for each in summary["utility_rank_correlation"] if each["states"])


def test_stopped_in_the_online_stage_it_goes_on_bit_for_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    fault_points._REACHED.clear()
    monkeypatch.setenv("O2O_FAULT", "learner.step:28:SIGTERM")
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 143
    monkeypatch.delenv("O2O_FAULT")
    finish_run(tmp_path, config)
    assert learner_digest(tmp_path / "run") == learner_digest(folder / "run")
    ours, theirs = (read_summary(each / "run") for each in (tmp_path, folder))
    assert [each["returns"] for each in ours["evaluations"]] == [each["returns"] for each in theirs["evaluations"]]


def observed(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, count, 4)).astype(np.float32) * 0.1


def play(agent: LoadedAgent, shown: np.ndarray) -> np.ndarray:
    agent.reset(shown.shape[1])
    return np.stack([agent.act(each) for each in shown])


def test_what_was_adapted_goes_on_within_an_episode_and_ends_with_it(folder: Path) -> None:
    shown = observed(2)
    agent = load_agent(folder / "run", policy="gradient_mpc")
    actions = play(agent, shown)
    begun_anew = play(load_agent(folder / "run", overrides={"planner.ascent.persistent": False}), shown)
    assert np.array_equal(actions[0], begun_anew[0])
    assert not np.array_equal(actions[1:], begun_anew[1:])

    agent = load_agent(folder / "run", policy="gradient_mpc")
    agent.reset(2)
    for step, each in enumerate(shown[:3]):
        plan = agent.plan(each)
        assert torch.equal(plan.action, agent.plan(each).action), "looking changes nothing"
        assert len(plan.carry) == 2
        assert np.array_equal(agent.act(each), actions[step])
    agent.restart([0])
    again = agent.act(shown[3])
    assert not np.array_equal(again[0], actions[3, 0])
    assert np.array_equal(again[1], actions[3, 1])


def test_several_environments_together_are_as_one_by_one(folder: Path) -> None:
    shown = observed(3)
    together = play(load_agent(folder / "run", policy="gradient_mpc"), shown)
    for row in range(3):
        alone = play(load_agent(folder / "run", policy="gradient_mpc"), shown[:, row : row + 1])
        assert np.allclose(alone[:, 0], together[:, row], atol=1e-5)


def test_it_is_exported_with_and_without_planning(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = observed(1)
    for policy in ("rebrac", "gradient_mpc"):
        target = tmp_path / policy
        assert main(["export", str(folder / "run"), str(target), "--policy", policy]) == 0
        kept = load_agent(folder / "run", policy=policy)
        assert np.array_equal(play(load_agent(target), shown), play(kept, shown))


@pytest.mark.usefixtures("ray_session")
def test_what_the_ascent_reads_can_be_swept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    sweep = {
        "kind": "planner",
        "checkpoint": "run",
        "searcher": "grid",
        "episodes": 1,
        "finalists": 0,
        "space": {"planner.ascent.rate": {"grid": [0.01, 0.1]}, "planner.ascent.steps": {"grid": [1]}},
    }
    Path("own.yaml").write_text(yaml.safe_dump(sweep))
    assert main(["sweep", "own.yaml", "--run-dir", "sweep", "--quiet"]) == 0
    assert read_summary(folder / "sweep")["best"]["point"]["planner.ascent.rate"] in (0.01, 0.1)
    sweep["space"] = {"planner.num_candidates": {"grid": [1, 2]}}
    Path("own.yaml").write_text(yaml.safe_dump(sweep))
    assert main(["sweep", "own.yaml", "--run-dir", "other", "--quiet"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("planner.horizon=0", "planner.horizon: 0 leaves gradient_mpc nothing to imagine"),
        ("planner.ascent.rate=0", "planner.ascent.rate: 0 changes nothing"),
        ("planner.ascent.num_noise=0", "planner.ascent.num_noise: 0"),
        ("planner.ascent.num_noise=3", "3 is not divisible by differentiable.model.members"),
        ("differentiable.model.kind=mean_flow", "planner.ascent.uncertainty_penalty: asks for an ensemble"),
        ("differentiable.model.sampling_steps=201", "differentiable.model.sampling_steps: 201 exceeds"),
        ("planner.name=forward_mpc", "planner.name: forward_mpc does not plan with family differentiable"),
    ],
)
def test_bad_settings_are_refused_by_name(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path)
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--set", words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
