"""Configurations from before families had sections of their own: read in checkpoints, refused in files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from system.cli.main import main
from system.config import RunConfig
from system.config.loading import config_from_dict, flatten, load_config, to_dict
from system.envs.registry import find_task
from system.errors import ConfigError
from system.families.building import build_agent
from system.families.registry import family_of
from system.runs.checkpoint import CheckpointContent, save_checkpoint
from system.runs.saved_agent import open_agent

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = {"m3pc": "masked_trajectory", "jowa": "world_action"}
ENVIRONMENTS = {"m3pc": "InvertedPendulum-v5", "jowa": "ALE/Pong-v5"}
MOVED = {
    "m3pc": {
        "model": "masked_trajectory.model",
        "trajectory": "masked_trajectory.training",
        "critic": "masked_trajectory.critic",
    },
    "jowa": {
        "tokenizer": "world_action.tokenizer",
        "world": "world_action.model",
        "jowa": "world_action.training",
        "pretrain.tokenizer": "world_action.tokenizer.start",
    },
}


CHANGED = {
    "trajectory.task_mask_share": "masked_trajectory.training.mask_shares",
    "online.episodes_per_round": "online.env_steps_per_round",
}
"""Keys that hold another kind of value now."""


def earlier(name: str) -> dict[str, Any]:
    """What a checkpoint of that time holds of its configuration: every section of every method."""
    tree: dict[str, Any] = json.loads((GOLDEN / f"earlier_config_{name}.json").read_text())
    return tree


def moved(key: str, name: str) -> str | None:
    """Where a key went, by the tables above."""
    if key in CHANGED and CHANGED[key].startswith((NAMES[name], "online")):
        return CHANGED[key]
    for old, new in MOVED[name].items():
        if key == old or key.startswith(f"{old}."):
            return new + key[len(old) :]
    return None


def save(folder: Path, name: str, tree: dict[str, Any]) -> Path:
    """A checkpoint with weights of today and a configuration of then."""
    config = config_from_dict(RunConfig, earlier(name))
    task = find_task(ENVIRONMENTS[name])
    learner = family_of(config).learn(build_agent(task, config), config)
    documents = {"config": tree, "tasks": {"tasks": [asdict(task)]}}
    save_checkpoint(folder, "000001-offline", CheckpointContent({"learner": learner.state()}, documents))
    return folder / "000001-offline"


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_an_earlier_configuration_is_where_it_belongs(name: str) -> None:
    tree = earlier(name)
    config = config_from_dict(RunConfig, tree)
    now = flatten(to_dict(config))
    assert (config.family, now["modules"]) == (NAMES[name], [])
    other = next(each for each in NAMES if each != name)
    for key, value in flatten(tree).items():
        if key not in ("algorithm", *CHANGED) and moved(key, other) is None:
            assert now[moved(key, name) or key] == value, key
    assert not any(key.startswith(NAMES[other]) for key in now)
    assert config_from_dict(RunConfig, to_dict(config)) == config


def test_one_share_of_two_masks_is_half_of_it_each() -> None:
    tree = earlier("m3pc")
    tree["trajectory"]["task_mask_share"] = 0.5
    today = to_dict(config_from_dict(RunConfig, earlier("m3pc")))
    del today["masked_trajectory"]["training"]["mask_shares"]
    today["masked_trajectory"]["training"]["task_mask_share"] = 0.5
    for each in (tree, today):
        config = config_from_dict(RunConfig, each)
        assert config.method.training.mask_shares == {"return_conditioned": 0.25, "forward_dynamics": 0.25}
    assert today["masked_trajectory"]["training"]["task_mask_share"] == 0.5, "what is read is not changed"
    with pytest.raises(ConfigError, match=r"^masked_trajectory.training.task_mask_share: is called mask\S+"):
        load_config(RunConfig, today, presets=Path())


@pytest.mark.parametrize(
    ("key", "name"), [(key, name) for name in NAMES for key in flatten(earlier(name)) if moved(key, name)]
)
def test_an_earlier_key_is_refused_with_its_present_name(key: str, name: str, tmp_path: Path) -> None:
    value = json.dumps(flatten(earlier(name))[key])
    with pytest.raises(ConfigError) as refused:
        load_config(RunConfig, None, [f"family={NAMES[name]}", f"{key}={value}"], presets=tmp_path)
    assert str(refused.value) == f"{key}: is called {moved(key, name)} now"


@pytest.mark.parametrize("name", NAMES)
def test_the_choice_of_the_algorithm_is_refused_with_its_present_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(RunConfig, None, [f"algorithm={name}"], presets=tmp_path)
    assert str(refused.value).startswith("algorithm: is called family now (")
    assert f"{name} is {NAMES[name]}" in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_checkpoint_is_opened(name: str, tmp_path: Path) -> None:
    saved = open_agent(save(tmp_path, name, earlier(name)), ["planner.horizon=1"])
    assert saved.config.family == NAMES[name]
    assert saved.config.planner.horizon == 1
    built = build_agent(saved.tasks[0], saved.config).state_dict()
    assert all(torch.equal(built[key], value) for key, value in saved.agent.state_dict().items())


def test_a_checkpoint_without_lowest_returns_asks_for_a_share_of_the_best(tmp_path: Path) -> None:
    """As all did before targets lay between the lowest return and the best one."""
    config = config_from_dict(RunConfig, earlier("m3pc"))
    task = find_task(ENVIRONMENTS["m3pc"])
    learner = family_of(config).learn(build_agent(task, config), config)
    learner.agent.target_returns.fill_(40.0)
    learner.agent.low_returns.fill_(-10.0)
    assert learner.agent.targets(0.5)[0] == 15.0
    state = {name: value for name, value in learner.state().items() if not name.endswith("low_returns")}
    assert len(state) < len(learner.state())
    documents = {"config": earlier("m3pc"), "tasks": {"tasks": [asdict(task)]}}
    save_checkpoint(tmp_path, "000001-offline", CheckpointContent({"learner": state}, documents))
    assert open_agent(tmp_path / "000001-offline").agent.targets(0.5)[0] == 20.0
    learner.load_state(state)
    assert learner.agent.targets(0.5)[0] == 20.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"algorithm": "ppo"}, "algorithm: 'ppo' is of no family that is registered"),
        ({"algorithm": ["m3pc"]}, "is of no family"),
        ({"trajectory": 3}, "masked_trajectory.training: 3 given where keys and values are expected"),
        ({"trajectory": {"task_mask_share": "x"}}, "training.mask_shares: 'x' given where keys and values are"),
        ({"trajectory": {"batch_size": -1}}, "masked_trajectory.training.batch_size: -1 is out of range"),
        ({"masked_trajectory": 5}, "masked_trajectory: 5 given where keys and values are expected"),
        ({"masked_trajectory": {"model": 5}}, "masked_trajectory.model: 5 given where keys and values are"),
    ],
)
def test_an_earlier_checkpoint_that_holds_something_else_is_refused_in_a_line(
    changes: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, "m3pc", {**earlier("m3pc"), **changes})
    assert main(["evaluate", str(path), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_their_labels_end_with_the_time_limit_as_they_did(name: str) -> None:
    assert config_from_dict(RunConfig, earlier(name)).dataset.limit_ends == "complete"
    assert config_from_dict(RunConfig, to_dict(RunConfig())).dataset.limit_ends == "continued"
