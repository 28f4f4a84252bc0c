"""Files in other layouts through the command: looked over, converted, trained on."""

from pathlib import Path

import pytest

from system.cli.main import main
from system.envs.registry import find_task
from system.types import Episode
from tests.support.dataset_factory import make_episode
from tests.support.file_factory import write_layout
from tests.support.tiny_runs import ENVIRONMENT, learner_digest, read_summary, write_tiny_config


def episodes() -> list[Episode]:
    task = find_task(ENVIRONMENT)
    return [make_episode(6 + number, "terminated", number, task) for number in range(12)]


def pretrain(folder: Path, name: str, *settings: str) -> Path:
    config = write_tiny_config(folder)
    words = ["pretrain", str(config), "--run-dir", str(folder / name), "--quiet"]
    assert main([*words, *(word for each in settings for word in ("--set", each))]) == 0
    return folder / name


@pytest.mark.parametrize("layout", ["d4rl", "csv"])
def test_a_file_is_trained_on_as_the_dataset_made_of_it(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_layout(tmp_path / "files", layout, episodes())
    words = [str(file), "toy/converted-v0", "--environment", ENVIRONMENT, "--path", str(tmp_path / "datasets")]
    assert main(["data", "convert", *words]) == 0
    assert "12 episodes written" in capsys.readouterr().out
    assert main(["data", "check", str(file), "--environment", ENVIRONMENT]) == 0
    from_file = pretrain(tmp_path, "file", f"dataset.file={file}", f"environment.id={ENVIRONMENT}")
    converted = pretrain(tmp_path, "converted", "dataset.id=toy/converted-v0")
    assert learner_digest(from_file) == learner_digest(converted)
    assert read_summary(from_file)["dataset"]["id"] == str(file)
    for key in ("episodes", "steps", "return_mean"):
        assert read_summary(from_file)["dataset"][key] == read_summary(converted)["dataset"][key]


@pytest.mark.parametrize("layout", ["robomimic", "ogbench", "parquet"])
def test_a_file_is_looked_over_without_an_environment(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_layout(tmp_path / "files", layout)
    assert main(["data", "check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "5 fit for training" in out
    assert ("every reward is 0" in out) == (layout == "ogbench")


def test_what_a_file_lacks_is_said_when_it_is_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_layout(tmp_path / "files", "ogbench", episodes())
    config = write_tiny_config(tmp_path)
    words = ["pretrain", str(config), "--run-dir", str(tmp_path / "run"), "--set", f"dataset.file={file}"]
    assert main([*words, "--set", "dataset.cut_episodes=complete"]) == 0
    assert "every reward is 0 here" in "".join(capsys.readouterr())
    assert read_summary(tmp_path / "run")["dataset"]["return_mean"] == 0.0


def test_a_wrong_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    for words in (["check"], ["convert", "toy/a-v0"]):
        assert main(["data", words[0], str(tmp_path / "notes.csv"), *words[1:]]) == 2
        assert "notes.csv: has no column observation_0" in capsys.readouterr().err
