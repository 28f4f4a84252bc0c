"""Adapting to another game from a few transitions, through the command: from a checkpoint to a summary."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from system.cli.main import main
from system.runs.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from tests.support.tiny_games import OTHER_DATASET, OTHER_GAME, write_tiny_game_config
from tests.support.tiny_runs import read_summary

FEW = 30


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a model of the first game."""
    folder = tmp_path_factory.mktemp("pretrained")
    config = write_tiny_game_config(folder, evaluation={"policies": ["random"]})
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def adapt(folder: Path, origin: Path | None, verb: str = "pretrain", **changes: Any) -> int:
    """The command on the second game."""
    settings: dict[str, Any] = {
        "dataset": {"id": OTHER_DATASET, "max_transitions": FEW},
        "evaluation": {"policies": ["random"]},
        "pretrain": {"from_checkpoint": None if origin is None else str(origin), **changes.pop("pretrain", {})},
        **changes,
    }
    config = write_tiny_game_config(folder, **settings)
    return main([verb, str(config), "--run-dir", str(folder / "run"), "--quiet"])


def learnt(run_dir: Path) -> dict[str, torch.Tensor]:
    """The newest checkpoint's learner."""
    return load_checkpoint(find_checkpoint(run_dir)).tensors["learner"]


@pytest.mark.parametrize(
    ("tokenizer", "changed"),
    [
        ("tuned", {"agent.tokenizer.codes", "agent.tokenizer.usage", "agent.tokenizer.mean_patches"}),
        ("kept", set()),
    ],
)
def test_a_checkpoints_weights_are_begun_with(
    pretrained: Path, tmp_path: Path, tokenizer: str, changed: set[str]
) -> None:
    assert adapt(tmp_path, pretrained, pretrain={"update_steps": 0}, tokenizer={"start": tokenizer}) == 0
    before, after = learnt(pretrained), learnt(tmp_path / "run")
    assert not [name for name in after if not name.startswith("agent.")], "the optimiser is a fresh one"
    assert {name for name, value in after.items() if not torch.equal(value, before[name])} == changed
    assert bool(list((tmp_path / "dataset-cache").glob("tokenizer-*"))) == (tokenizer != "kept")


def test_few_transitions_are_learnt_from_with_imagined_ends(pretrained: Path, tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(pretrained, origin)
    few_shot = {"world_share": 0.0, "imagined_share": 0.5, "imagined_start": 0.5, "imagined_steps": 1}
    options: dict[str, Any] = {
        "training": few_shot,
        "online": {"env_steps": 0},
        "evaluation": {"policies": ["q_greedy", "beam"]},
    }
    assert adapt(tmp_path, origin, **options) == 0
    summary = read_summary(tmp_path / "run")
    assert summary["dataset"]["training_steps"] == FEW < summary["dataset"]["steps"]
    assert [record["environment"] for record in summary["evaluations"]] == [OTHER_GAME] * 2
    assert summary["config"]["pretrain"]["from_checkpoint"] == str(origin)
    # What was begun with is needed at the beginning only.
    shutil.rmtree(origin)
    assert adapt(tmp_path, origin, verb="run", **options) == 0
    assert read_summary(tmp_path / "run")["next_stage"] == "done"


def test_a_model_of_another_size_is_refused(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adapt(tmp_path, pretrained, model={"width": 32}) == 2
    message = capsys.readouterr().err
    assert message.endswith(": a model with world_action.model.width = 16, but this run's has 32\n")
    assert message.count("\n") == 1


def test_another_versions_weights_are_refused_before_anything_is_prepared(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = load_checkpoint(find_checkpoint(pretrained))
    del content.tensors["learner"]["agent.model.place_table"]
    save_checkpoint(tmp_path / "older" / "checkpoints", "000001-done", content)
    assert adapt(tmp_path, tmp_path / "older") == 2
    message = capsys.readouterr().err
    assert message.startswith("o2o: error: pretrain.from_checkpoint: ")
    assert message.endswith("000001-done: weight model.place_table is missing\n")
    assert message.count("\n") == 1
    assert not (tmp_path / "dataset-cache").exists()


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapt(tmp_path, tmp_path / "nowhere") == 2
    assert "nowhere: no such checkpoint" in capsys.readouterr().err
