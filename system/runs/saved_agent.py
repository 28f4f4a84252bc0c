"""An agent from a checkpoint that a user names, with the configuration and task it was trained for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.config import RunConfig
from system.config.loading import config_from_dict, first_difference, flatten
from system.errors import CheckpointError, ConfigError
from system.families.building import load_agent
from system.families.registry import Agent, family_of
from system.runs.checkpoint import CheckpointContent, find_checkpoint, load_checkpoint
from system.types import TaskSpec


@dataclass(frozen=True)
class SavedAgent:
    """What acting and measuring need.

    Attributes:
        path: of the checkpoint.
        config: of its run, overrides taken in.
        stage: `offline` or `online`: the latest that it has learnt in.
        tasks: its environment; several games where it was trained on several.
        agent: in evaluation mode.
    """

    path: Path
    config: RunConfig
    stage: str
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
    config = config_from_dict(RunConfig, content.documents["config"], overrides)  # first: it may name modules
    saved = config_from_dict(RunConfig, content.documents["config"])
    key = first_difference(flatten(_sizes(saved)), flatten(_sizes(config)))
    if key is not None:
        raise ConfigError(f"{key}: a checkpoint's can't be overridden")
    tasks = _tasks(found, content)
    agent = load_agent(tasks[0], config, content.tensors["learner"], str(found))
    return SavedAgent(found, config, _stage(content), tasks, agent)


def check_same_model(path: Path, content: CheckpointContent, config: RunConfig) -> None:
    """Compares the sizes of a checkpoint's model with a run's.

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
        their, own = theirs.get(key), ours.get(key)
        raise CheckpointError(f"{path}: a model with {key} = {their}, but this run's has {own}")


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
    """What a model's weights are made for, by key."""
    return {"family": config.family, config.family: family_of(config).sizes(config)}


def _stage(content: CheckpointContent) -> str:
    return "online" if content.documents.get("progress", {}).get("online_update_steps") else "offline"


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
