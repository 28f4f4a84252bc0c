"""`o2o sweep`: a planner sweep that is killed and goes on, and a training sweep, over a local Ray."""

import json
from pathlib import Path

import pandas
import pytest
import yaml
from ray import tune

from system.cli.main import main
from tests.support.tiny_runs import finish_run, read_summary, run_o2o, write_tiny_config

SMOKE = str(Path(__file__).parents[2] / "tune_configs" / "smoke.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    finish_run(folder, write_tiny_config(folder, online={"env_steps": 0}))
    return folder


def ledger(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]


def finished_trials(path: Path) -> list[tuple]:
    return [(line["round"], line["number"], line["seed"]) for line in ledger(path) if line["kind"] == "finished"]


@pytest.mark.usefixtures("ray_session")
def test_a_planner_sweep_killed_half_way_goes_on_and_repeats_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", SMOKE, "--set", "checkpoint=run", "--set", "concurrent=1", "--run-dir", "sweep", "--quiet"]
    killed = run_o2o(finished, *words, environment={"O2O_FAULT": "sweep.after_outcome:2:SIGKILL"})
    assert killed.returncode == -9, killed.stderr
    path = finished / "sweep"
    before = ledger(path)
    assert len(finished_trials(path)) == 2
    monkeypatch.chdir(finished)
    assert main([*words, "--resume"]) == 0
    assert ledger(path)[: len(before)] == before
    done = finished_trials(path)
    assert len(done) == len(set(done)) == 4
    assert [round_name for round_name, _, _ in done] == ["search"] * 3 + ["final"]

    summary = read_summary(path)
    assert {each["number"] for each in summary["search"]} == {0, 1, 2}
    assert summary["best"]["number"] == summary["final"][0]["number"]
    assert len(summary["best"]["outcomes"][0]["returns"]) == 2
    assert all(each["decision_ms"] > 0 for each in summary["search"])
    best = yaml.safe_load((path / "best.yaml").read_text())
    assert best["planner"]["horizon"] == summary["best"]["point"]["planner.horizon"]
    assert best["evaluation"]["max_episode_steps"] == 10
    assert (path / "report" / "report.html").exists()
    assert not (path / "tune").exists()
    assert not tune.Tuner.can_restore(str(path)), "docs/runs.md says what to use instead"
    table = pandas.json_normalize(summary["search"])
    assert {"score", "low", "high", "point.planner.horizon"} <= set(table.columns) and len(table) == 3
    assert {each.name for each in (path / "trials").iterdir()} >= {"0000-seed0", "0002-seed0"}

    capsys.readouterr()
    assert main(words) == 0
    assert f"configuration {summary['best']['number']}" in capsys.readouterr().out
    assert main([*words, "--set", "episodes=2"]) == 2
    assert "episodes" in capsys.readouterr().err
    assert read_summary(path) == summary


def test_trials_of_a_planner_sweep_share_a_process(finished: Path) -> None:
    outcomes = [line["outcome"] for line in ledger(finished / "sweep") if line["kind"] == "finished"]
    processes = [each["process"] for each in outcomes]
    assert processes[0] == processes[1] != processes[2]


def test_resume_insists_on_a_sweep(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", SMOKE, "--set", f"checkpoint={finished / 'run'}", "--run-dir", str(finished / "none")]
    assert main([*words, "--resume"]) == 2
    assert "--resume: there is no sweep in" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_sweep_runs_its_trials_beside_their_actors(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial with a rollout worker of its own, on as few CPUs as it takes; one crash is survived."""
    sweep = {
        "kind": "online",
        "config": str(write_tiny_config(finished, tracking={"mlflow": False})),
        "checkpoint": str(finished / "run"),
        "searcher": "grid",
        "scheduler": "asha",
        "grace_env_steps": 40,
        "set": {"rollout_workers": 1},
        "space": {"planner.temperature": {"grid": [0.5, 2.0]}},
    }
    (finished / "online.yaml").write_text(yaml.safe_dump(sweep))
    fault = {"O2O_FAULT": "learner.step:3:SIGKILL", "O2O_FAULT_ONCE": str(finished / "killed")}
    result = run_o2o(finished, "sweep", "online.yaml", "--run-dir", "online", "--quiet", environment=fault)
    assert result.returncode == 0, result.stderr
    assert (finished / "killed").exists()
    summary = read_summary(finished / "online")
    assert summary["faults"] == {"trial_retried": 1, "trial_given_up": 0}
    assert {each["point"]["planner.temperature"] for each in summary["search"]} == {0.5, 2.0}
    trial = read_summary(finished / "online" / "trials" / f"{summary['best']['number']:04d}-seed0")
    assert trial["config"]["planner"]["temperature"] == summary["best"]["point"]["planner.temperature"]
    assert (finished / "dataset-cache").exists()
    assert main(["report", str(finished / "online")]) == 0
    told = capsys.readouterr().out
    best = summary["best"]["point"]["planner.temperature"]
    assert f"(planner.temperature = {best})" in told and "1 training seed (0)" in told
