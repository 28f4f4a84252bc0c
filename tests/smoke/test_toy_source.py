"""A source is one record: registered, it is looked over, converted and trained on by what knows nothing of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from system.cli.main import main
from system.data.sources.protocol import SOURCES, register_source
from system.envs.registry import find_task
from tests.support.dataset_factory import make_episode
from tests.support.tiny_runs import read_summary, write_tiny_config
from tests.support.toy_source import ENVIRONMENT, SOURCE, write_toy


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    register_source(SOURCE)
    task = find_task(ENVIRONMENT)
    yield write_toy(tmp_path / "steps.toy", [make_episode(6 + n, "terminated", n, task) for n in range(12)])
    del SOURCES[SOURCE.name]


def test_it_is_looked_over_and_its_faults_are_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "12 fit for training" in out
    assert ENVIRONMENT in out
    lines = file.read_text().splitlines()
    lines[8] = "nan " + lines[8].split(" ", 1)[1]
    file.write_text("\n".join(lines) + "\n")
    assert main(["data", "check", str(file)]) == 2
    assert "episode 1, step 1 (line 9): observation dimension 0 is nan" in capsys.readouterr().out


def test_it_is_converted_and_trained_on(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = file.parent
    config = write_tiny_config(folder, dataset={"id": None, "file": str(file)})
    words = ["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]
    assert main(words) == 0
    summary = read_summary(folder / "run")
    assert (summary["dataset"]["id"], summary["dataset"]["episodes"]) == (str(file), 12)
    assert summary["stages"]["offline"]["steps"] == 20
    words = ["data", "convert", str(file), "toy/converted-v0", "--environment", ENVIRONMENT]
    assert main([*words, "--path", str(folder / "datasets")]) == 0
    assert "12 episodes written" in capsys.readouterr().out
