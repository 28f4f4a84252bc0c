"""A submitted job writes nothing into the copy of the working directory, which is thrown away."""

import argparse
from pathlib import Path

import pytest

from system.cli.main import main
from system.cli.options import resolve_tracking_uri
from system.runs.run_directory import SUBMITTED


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(SUBMITTED, '{"runtime_env": {}}')
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [[], ["--run-dir", "runs/mine"]])
def test_a_relative_run_directory_is_refused(words: list[str], job: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "smoke", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith("o2o: error: --run-dir: runs/")
    assert "absolute path on storage that every node sees" in error
    assert list(job.iterdir()) == []


def test_ray_sets_the_variable_that_is_asked_for() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    assert RAY_JOB_CONFIG_JSON_ENV_VAR == SUBMITTED


def test_without_a_server_the_store_lies_beside_the_run_directory(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = argparse.Namespace(tracking_uri=None, run_dir=Path("/shared/runs/smoke-0"))
    assert resolve_tracking_uri(arguments) == "sqlite:////shared/runs/mlflow.db"
    monkeypatch.delenv(SUBMITTED)
    assert resolve_tracking_uri(arguments) == f"sqlite:///{job}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert resolve_tracking_uri(arguments) == "http://mlflow:5000"
