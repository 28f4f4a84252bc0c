"""An agent from a checkpoint that a user names, with the configuration and task it was trained for.

An exported policy is taken wherever an agent is asked for; nothing but torch and NumPy is needed to open one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from system.config import RunConfig
from system.config.loading import Overrides, config_from_dict, first_difference, flatten
from system.errors import CheckpointError, ConfigError
from system.families.building import load_agent
from system.families.registry import Agent, family_of
from system.runs.checkpoint import CheckpointContent, find_checkpoint, load_checkpoint
from system.runs.policy_package import TASK, is_package, read_package
from system.types import TaskSpec


@dataclass(frozen=True)
class SavedAgent:
    """What acting and measuring need.

    Attributes:
        path: of the checkpoint, or of the exported policy.
        config: of its run, overrides taken in.
        stage: `offline` or `online`: the latest that it has learnt in.
        tasks: its environment; several games where it was trained on several.
        agent: in evaluation mode.
        policy: that it was exported for; None of a checkpoint.
    """

    path: Path
    config: RunConfig
    stage: str
    tasks: tuple[TaskSpec, ...]
    agent: Agent
    policy: str | None = None


@dataclass(frozen=True)
class _Saved:
    """The same before anything of it is believed.

    Attributes:
        path: that was found.
        config, tasks: documents.
        tasks_file: named in errors.
        state: holds the agent's weights under `agent.`.
        stage, policy: as of `SavedAgent`.
    """

    path: Path
    config: Mapping[str, Any]
    tasks: Any
    tasks_file: str
    state: Mapping[str, torch.Tensor]
    stage: str
    policy: str | None = None


def open_agent(
    path: Path, overrides: Overrides = (), *, device: Literal["auto", "cpu", "cuda"] | None = None
) -> SavedAgent:
    """Loads the agent of a checkpoint, or an exported one.

    Args:
        path: a checkpoint, a run directory: its newest one, or an exported policy's folder.
        overrides: `key.path=value` each, or values by key; sizes of networks can't be overridden.
        device: `auto`, `cpu` or `cuda` instead of the configured one.

    Raises:
        CheckpointError: it is missing, damaged, or not of a run.
        ConfigError: an override is wrong.
    """
    found = _read_package(path) if is_package(path) else _read_checkpoint(find_checkpoint(path))
    config = config_from_dict(RunConfig, found.config, overrides)  # first: they may name modules
    saved = config_from_dict(RunConfig, found.config)
    key = first_difference(flatten(_sizes(saved)), flatten(_sizes(config)))
    if key is not None:
        raise ConfigError(f"{key}: a checkpoint's can't be overridden")
    if device is not None:
        config = replace(config, device=device)
    tasks = _tasks(found.path / found.tasks_file, found.tasks)
    agent = load_agent(tasks[0], config, found.state, str(found.path))
    return SavedAgent(found.path, config, found.stage, tasks, agent, found.policy)


def find_environment(tasks: Sequence[TaskSpec], environment_id: str | None) -> TaskSpec:
    """Which of a checkpoint's tasks has this id; its only one where none is named.

    Raises:
        ConfigError: it was not trained for it, or for several and none is named.
    """
    known = [task.environment_id for task in tasks]
    if environment_id is None and len(known) == 1:
        return tasks[0]
    if environment_id not in known:
        raise ConfigError(f"environment: {environment_id!r} is not one of the checkpoint's: {', '.join(known)}")
    return tasks[known.index(environment_id)]


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
    if is_package(path):
        raise CheckpointError(
            f"{path}: is an exported policy, which holds nothing to go on learning with; name the run's checkpoint"
        )
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


def _read_checkpoint(path: Path) -> _Saved:
    content = load_run_checkpoint(path)
    documents = content.documents
    tasks = documents["tasks"].get("tasks")
    return _Saved(path, documents["config"], tasks, "tasks.json", content.tensors["learner"], _stage(content))


def _read_package(path: Path) -> _Saved:
    package = read_package(path)
    state = {f"agent.{name}": value for name, value in package.weights.items()}
    policy, stage = package.task.get("policy"), package.task.get("stage")
    if not isinstance(policy, str) or stage not in ("offline", "online"):
        raise CheckpointError(f"{path / TASK}: does not say which policy it is of, or which stage")
    return _Saved(path, package.config, package.task.get("tasks"), TASK, state, stage, policy)


def _tasks(file: Path, documents: Any) -> tuple[TaskSpec, ...]:
    try:
        tasks = tuple(TaskSpec.from_dict(values) for values in documents)
        if not tasks:
            raise TypeError("there is none")
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file}: does not describe tasks ({error})") from None
    return tasks

