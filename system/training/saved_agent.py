"""An agent from a checkpoint that a user names, with the configuration and task it was trained for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from system.algorithms.agent import TrajectoryAgent
from system.config import RunConfig
from system.config_io import config_from_dict
from system.errors import CheckpointError, ConfigError
from system.training.checkpoint import CheckpointContent, find_checkpoint, load_checkpoint
from system.training.learner_worker import load_agent
from system.types import TaskSpec


@dataclass(frozen=True)
class SavedAgent:
    """What acting and measuring need.

    Attributes:
        path: of the checkpoint.
        config: of its run, overrides taken in.
        task: its environment.
        agent: in evaluation mode.
    """

    path: Path
    config: RunConfig
    task: TaskSpec
    agent: TrajectoryAgent


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
    if (config.model, config.critic) != (saved.model, saved.critic):
        raise ConfigError("model: the sizes of a checkpoint can't be overridden")
    try:
        task = TaskSpec(**content.documents["task"])
    except TypeError as error:
        raise CheckpointError(f"{found / 'task.json'}: does not describe a task ({error})") from None
    return SavedAgent(found, config, task, load_agent(task, config, content.tensors["learner"], str(found)))


def load_run_checkpoint(path: Path) -> CheckpointContent:
    """A checkpoint's content, if it has all that one of a run has.

    Raises:
        CheckpointError: it is missing or damaged, or a part is missing; names it.
    """
    content = load_checkpoint(path)
    if "learner" not in content.tensors:
        raise CheckpointError(f"{path}: has no learner.safetensors")
    for name in ("config", "task"):
        if name not in content.documents:
            raise CheckpointError(f"{path}: has no {name}.json")
    return content
