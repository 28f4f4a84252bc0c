"""How `evaluate` loads a checkpoint, measures its policies and shows them."""

import argparse
from typing import Any

from system.config import RunConfig
from system.config_io import config_from_dict
from system.errors import CheckpointError, ConfigError
from system.evaluation.measurement import RETURN_CONDITIONED, Measurer
from system.evaluation.summary import compare, evaluation_record, format_comparisons, format_table
from system.tracking.console import ConsoleTracker
from system.training.checkpoint import CheckpointContent, find_checkpoint, load_checkpoint
from system.training.files import write_json
from system.training.learner_worker import load_agent
from system.types import TaskSpec


def evaluate_checkpoint(arguments: argparse.Namespace) -> int:
    """Measures a checkpoint's policies on the reported episodes, each at its best target ratio.

    Args:
        arguments: of the verb `evaluate`.
    """
    path = find_checkpoint(arguments.checkpoint)
    content = load_checkpoint(path)
    config = _configuration(content, arguments)
    task = _task(content, path.name)
    measurer = Measurer(load_agent(task, config, content.tensors["learner"], str(path)), config, _never)
    console = ConsoleTracker(quiet=arguments.quiet)
    records: list[dict[str, Any]] = []
    policies = config.evaluation.policies
    for number, policy in enumerate(policies):
        console.progress("evaluate", number, len(policies), "policies")
        records.append(evaluation_record("offline", measurer.report(policy, _ratio(measurer, policy)), task))
    console.progress("evaluate", len(policies), len(policies), "policies")
    console.close()
    measurer.close()
    print(f"{path}: {config.evaluation.episodes} episodes each\n")
    print(format_table(records))
    print(format_comparisons(compare(records)))
    if arguments.output is not None:
        write_json(
            arguments.output, {"checkpoint": str(path), "evaluations": records, "comparisons": compare(records)}
        )
    return 0


def _configuration(content: CheckpointContent, arguments: argparse.Namespace) -> RunConfig:
    overrides = list(arguments.overrides)
    if arguments.policies:
        overrides.append(f"evaluation.policies=[{arguments.policies}]")
    if arguments.episodes is not None:
        overrides.append(f"evaluation.episodes={arguments.episodes}")
    config = config_from_dict(RunConfig, content.documents["config"], overrides)
    fixed = config_from_dict(RunConfig, content.documents["config"])
    if config.model != fixed.model or config.critic != fixed.critic:
        raise ConfigError("model: the sizes of a checkpoint can't be overridden")
    return config


def _task(content: CheckpointContent, name: str) -> TaskSpec:
    try:
        return TaskSpec(**content.documents["task"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{name}: task.json does not describe a task ({error})") from None


def _ratio(measurer: Measurer, policy: str) -> float | None:
    ratios = measurer.config.evaluation.target_return_ratios
    if policy not in RETURN_CONDITIONED:
        return None
    return ratios[0] if len(ratios) == 1 else measurer.choose_ratio(policy)[0]


def _never() -> None:
    """Nothing stops an evaluation from outside but the signal's own effect."""
