"""What MLflow shows of a run, and its checkpoint as a version of a registered model."""

import os
from pathlib import Path

import pytest
from mlflow import MlflowClient

from system.cli.main import main
from tests.support.tiny_runs import write_tiny_config


def test_a_registered_checkpoint_is_described_versioned_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = write_tiny_config(tmp_path, tracking={"mlflow": True}, online={"env_steps": 0})
    words = ["run", str(config), "--run-dir", "run", "--quiet", "--register", "toy"]
    said = []
    for _ in range(2):
        assert main(words) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "registered: models:/toy/1" in said[0].splitlines()

    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (version,) = client.search_model_versions("name='toy'")
    run = client.get_run(version.run_id)
    assert run.data.tags["mlflow.source.name"].startswith("o2o")
    assert "forward_mpc_q" in run.data.tags["mlflow.note.content"]
    low, mean, high = (
        run.data.metrics[f"evaluation/offline/return_{name}/rcbc_mean"] for name in ("low", "mean", "high")
    )
    assert low <= mean <= high

    assert [each.path for each in client.list_artifacts(version.run_id, "report")] == ["report/report.html"]
    assert (tmp_path / "run" / "report" / "report.html").read_text().count("data:image/") > 2

    tables = []
    for checkpoint in ("run", "models:/toy/1", "models:/toy/1"):
        assert main(["evaluate", checkpoint, "--policies", "rcbc_mean", "--quiet"]) == 0
        tables.append(capsys.readouterr().out.splitlines()[1:4])
    assert [line.split()[:3] for line in tables[0]] == [line.split()[:3] for line in tables[1]]
    assert "MLFLOW_TRACKING_URI" not in os.environ, "the next run of this process goes where it is told to"
    assert (tmp_path / "runs" / "models" / "toy-1" / "COMPLETE").exists()

    for wrong, message in (("models:/toy/2", "models:/toy/2: "), ("models:/none/1", "models:/none/1: ")):
        assert main(["evaluate", wrong, "--quiet"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"o2o: error: {message}")
        assert error.count("\n") == 1


def test_a_page_that_cannot_be_made_does_not_cost_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no pen")

    monkeypatch.setattr("system.reports.files.write_report", fail)
    config = write_tiny_config(tmp_path, tracking={"mlflow": True}, online={"env_steps": 0})
    words = ["--run-dir", str(tmp_path / "run"), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert main(["run", str(config), *words]) == 0
    assert "report: the page could not be made (ValueError: no pen)" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").exists()


def test_what_cannot_be_registered_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_tiny_config(tmp_path)
    words = ["run", str(config), "--run-dir", str(tmp_path / "run"), "--register"]
    assert main([*words, "toy"]) == 2
    assert capsys.readouterr().err == "o2o: error: --register: tracking.mlflow is false, so there is no registry\n"
    assert main([*words, "a/b", "--set", "tracking.mlflow=true"]) == 2
    assert "'a/b' cannot be a model's name" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
