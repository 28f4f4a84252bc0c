"""An agent from a checkpoint that a user names, with the configuration and task it was trained for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.config import RunConfig
from system.config_io import config_from_dict, first_difference, flatten, to_dict
from system.errors import CheckpointError, ConfigError
from system.training.checkpoint import CheckpointContent, find_checkpoint, load_checkpoint
from system.training.families import Agent
from system.training.learner_worker import load_agent
from system.types import TaskSpec

SIZES = ("algorithm", "model", "critic", "world", "tokenizer")


@dataclass(frozen=True)
class SavedAgent:
    """What acting and measuring need.

    Attributes:
        path: of the checkpoint.
        config: of its run, overrides taken in.
        tasks: its environment; several games where it was trained on several.
        agent: in evaluation mode.
    """

    path: Path
    config: RunConfig
    tasks: tuple[TaskSpec, ...]
    agent: Agent


def open_agent(path: Path, overrides: Sequence[str] = ()) -> SavedAgent:
    """Loads the agent of a checkpoint.

    Args:
        path: a checkpoint, or a run directory: its newest one.
        overrides: `key.path=value` each; sizes of networks can't be overridden.

    Raises:
        CheckpointError: it is missing, damaged, or not of a run.
        ConfigError: an override is wrong.
    """
    found = find_checkpoint(path)
    content = load_run_checkpoint(found)
    saved = config_from_dict(RunConfig, content.documents["config"])
    config = config_from_dict(RunConfig, content.documents["config"], overrides)
    if any(getattr(config, part) != getattr(saved, part) for part in SIZES):
        raise ConfigError("model: the sizes of a checkpoint can't be overridden")
    tasks = _tasks(found, content)
    return SavedAgent(found, config, tasks, load_agent(tasks[0], config, content.tensors["learner"], str(found)))


def check_same_model(path: Path, content: CheckpointContent, config: RunConfig) -> None:
    """Compares the sizes of a checkpoint's world-action model with a run's.

    Args:
        path, content: the checkpoint.
        config: of the run that is to begin with its weights.

    Raises:
        CheckpointError: naming the first key that differs.
    """
    theirs, ours = (
        flatten(_sizes(each)) for each in (config_from_dict(RunConfig, content.documents["config"]), config)
    )
    key = first_difference(theirs, ours)
    if key is not None:
        raise CheckpointError(f"{path}: a model with {key} = {theirs[key]}, but this run's has {ours[key]}")


def load_run_checkpoint(path: Path) -> CheckpointContent:
    """A checkpoint's content, if it has all that one of a run has.

    Raises:
        CheckpointError: it is missing or damaged, or a part is missing; names it.
    """
    content = load_checkpoint(path)
    if "learner" not in content.tensors:
        raise CheckpointError(f"{path}: has no learner.safetensors")
    for name in ("config", "tasks"):
        if name not in content.documents:
            raise CheckpointError(f"{path}: has no {name}.json")
    return content


def _sizes(config: RunConfig) -> dict[str, Any]:
    """What a world-action model's weights are made for."""
    world, tokenizer = to_dict(config.world), to_dict(config.tokenizer)
    return {
        "algorithm": config.algorithm,
        "world": {name: value for name, value in world.items() if name != "dropout"},
        "tokenizer": {name: tokenizer[name] for name in ("vocabulary", "tokens_per_side")},
    }


def _tasks(path: Path, content: CheckpointContent) -> tuple[TaskSpec, ...]:
    try:
        tasks = tuple(_task(values) for values in content.documents["tasks"]["tasks"])
        if not tasks:
            raise TypeError("there is none")
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path / 'tasks.json'}: does not describe tasks ({error})") from None
    return tasks


def _task(values: dict[str, Any]) -> TaskSpec:
    """JSON has lists where a task has tuples."""
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return TaskSpec(**arguments)
