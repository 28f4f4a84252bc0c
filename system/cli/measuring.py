"""How `evaluate` loads a checkpoint, measures its policies and shows them."""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from system.cli.options import RUNS, refuse_address, resolve_checkpoint
from system.config.loading import to_dict
from system.config.modules import modules_needed
from system.envs.another_environment import task_acted_in
from system.envs.registry import is_known, unknown_environment
from system.errors import ConfigError
from system.evaluation.capability_summary import capability_record, format_capabilities
from system.evaluation.game_scores import format_games, summarize_games
from system.evaluation.ranking_summary import format_rankings, ranking_record
from system.evaluation.summary import compare, evaluation_record, format_comparisons, format_table
from system.families.registry import family_of, policy_traits
from system.files import write_json
from system.runs.saved_agent import SavedAgent, open_agent
from system.tracking.console import ConsoleTracker
from system.training.evaluator import Evaluator, go_on
from system.training.preparation import prepare_data
from system.training.protocols import EvaluationRequest, EvaluationResult
from system.wording import one_of

OF_EVALUATION = (
    *("modules", "environment", "evaluation", "planner", "discount", "seed"),
    *("evaluators", "placement", "device", "precision", "num_threads"),
)
"""Sections and keys that decide what is measured, and how."""


@dataclass(frozen=True)
class Measured:
    """What came of a checkpoint's policies.

    Attributes:
        evaluations: a record of each policy in each environment, as in `summary.json`.
        rankings: of each planner among them, likewise under `utility_rank_correlation`.
    """

    evaluations: list[dict[str, Any]]
    rankings: list[dict[str, Any]]


def evaluate_checkpoint(arguments: argparse.Namespace) -> int:
    """Measures a checkpoint's policies on the reported episodes, each at its best target ratio.

    Args:
        arguments: of the verb `evaluate`.
    """
    check_output(arguments.output)
    checkpoint = resolve_checkpoint(arguments)
    if arguments.capability and arguments.policies:
        raise ConfigError("--policies: those of --capability are its own; give one of the two")
    saved = open_to_evaluate(checkpoint, arguments.policies, arguments.episodes, arguments.overrides)
    saved, is_played, predictions = _measure_capabilities(saved, arguments.capability)
    path, config = saved.path, saved.config
    if config.evaluators == 0:
        refuse_address(arguments.address)
    measured = Measured([], [])
    if is_played:
        measured = measure_policies(saved, address=arguments.address, quiet=arguments.quiet)
    records, rankings = measured.evaluations, measured.rankings
    if records:
        print(f"{path}: {config.evaluation.episodes} episodes each\n")
        print(format_table(records))
    if predictions:
        print(f"{path}: squared errors on held-out episodes, in variances of the data\n")
        print(format_capabilities(predictions))
    games, comparisons = summarize_games(records), compare(records)
    ranked = format_rankings(rankings) if rankings else ""
    for text in (format_games(games), format_comparisons(comparisons), ranked):
        if text:
            print(f"\n{text}")
    if arguments.output is not None:
        content = {
            "checkpoint": str(path),
            "seed": config.seed,
            "config": to_dict(config),
            "dataset": {"id": config.dataset.name},
            "evaluations": records,
            "comparisons": comparisons,
            "game_scores": games,
            "utility_rank_correlation": rankings,
            "capabilities": predictions,
        }
        try:
            write_json(arguments.output, content)
        except OSError as error:
            raise ConfigError(f"--output: {arguments.output} cannot be written ({error.strerror})") from None
    return 0


def _measure_capabilities(
    saved: SavedAgent, named: str | None
) -> tuple[SavedAgent, bool, list[dict[str, Any]]]:
    """What of the named capabilities is measured on recorded episodes; policies of the others are left to play.

    Returns:
        The agent with the policies that are to be played, whether there are any, and what was measured.

    Raises:
        ConfigError: the family has none of that name.
    """
    if named is None:
        return saved, True, []
    family, config = family_of(saved.config), saved.config
    names = [name.strip() for name in named.split(",")]
    for name in names:
        if not family.capabilities:
            raise ConfigError(f"--capability: family {family.name} has none by name")
        if name not in family.capabilities:
            raise ConfigError(f"--capability: {one_of(name, tuple(family.capabilities))}")
    chosen = [family.capabilities[name] for name in names]
    policies = tuple(each.policy for each in chosen if each.policy)
    if policies:
        saved = replace(saved, config=replace(config, evaluation=replace(config.evaluation, policies=policies)))
    if len(policies) == len(chosen):
        return saved, True, []
    data = prepare_data(config, RUNS / "dataset-cache")
    errors = [
        error
        for name, each in zip(names, chosen, strict=True)
        if each.measure is not None
        for error in each.measure(name, saved.agent, data, config)
    ]
    return saved, bool(policies), [capability_record(saved.stage, error) for error in errors]


def check_output(file: Path | None) -> None:
    """What would make all the measuring be in vain."""
    if file is not None and file.is_dir():
        raise ConfigError(f"--output: {file} is a folder, and one file is written")
    if file is not None and not file.parent.is_dir():
        raise ConfigError(f"--output: there is no folder {file.parent}")


def open_to_evaluate(
    checkpoint: Path, policies: str | Sequence[str] | None, episodes: int | None, overrides: Sequence[str]
) -> SavedAgent:
    """Loads a checkpoint's agent, and the environment that it is measured in.

    Args:
        checkpoint: as for `open_agent`.
        policies, episodes, overrides: as for `evaluation_overrides`; of `environment`, another one than the
            checkpoint's, or its keyword arguments.

    Raises:
        CheckpointError: as `open_agent`.
        ConfigError: an override is wrong, or the environment is not one that the agent can act in.
    """
    saved = open_agent(checkpoint, evaluation_overrides(policies, episodes, overrides))
    if not any(each.strip().startswith("environment") for each in overrides):
        if absent := [task.environment_id for task in saved.tasks if not task.has_environment]:
            raise ConfigError(f"environment.id: {absent[0]} has no simulator; name one to play in")
        if unknown := [task.environment_id for task in saved.tasks if not is_known(task.environment_id)]:
            raise ConfigError(unknown_environment(unknown[0]) + modules_needed(saved.config.modules))
        return saved
    if saved.config.evaluators:
        raise ConfigError("evaluators: another environment is played in this process alone; set it to 0")
    if len(saved.tasks) > 1:
        raise ConfigError("environment: a checkpoint of several games is measured in these alone")
    return replace(saved, tasks=(task_acted_in(saved.tasks[0], saved.config.environment),))


def evaluation_overrides(
    policies: str | Sequence[str] | None, episodes: int | None, overrides: Sequence[str]
) -> list[str]:
    """What of a checkpoint's configuration is overridden to measure it.

    Args:
        policies: their names, or these with commas between them; None for the configured ones.
        episodes: of each; None likewise.
        overrides: `key.path=value` each.

    Raises:
        ConfigError: a key has nothing to do with measuring.
    """
    for key in (each.partition("=")[0].strip() for each in overrides):
        if key.split(".")[0] not in OF_EVALUATION:
            raise ConfigError(f"{key}: nothing is trained here; {', '.join(OF_EVALUATION)} can be set")
    found = list(overrides)
    if policies is not None:
        names = policies.split(",") if isinstance(policies, str) else policies
        found.append(f"evaluation.policies={json.dumps([name.strip() for name in names])}")
    if episodes is not None:
        found.append(f"evaluation.episodes={episodes}")
    return found


def measure_policies(saved: SavedAgent, *, address: str | None, quiet: bool) -> Measured:
    """Plays the configured policies on the reported episodes, and ranks the utilities of planners.

    Args:
        saved: agent and configuration.
        address: of a Ray cluster, where the configuration asks for evaluators.
        quiet: shows no progress.
    """
    console = ConsoleTracker(quiet=quiet)
    tasks = {task.environment_id: task for task in saved.tasks}
    requests = _requests(saved)
    found: dict[int, dict[str, Any]] = {}
    ranked: dict[int, dict[str, Any]] = {}
    console.progress("evaluate", 0, len(requests), "policies")
    for index, result in _measure(saved, requests, address):
        request = requests[index]
        found[index] = evaluation_record(saved.stage, result.measured, tasks[request.environment])
        if result.ranking is not None:
            ranked[index] = ranking_record(saved.stage, request.environment, request.policy, result.ranking)
        console.progress("evaluate", len(found), len(requests), "policies")
    console.close()
    return Measured([found[index] for index in range(len(requests))], [ranked[index] for index in sorted(ranked)])


def _requests(saved: SavedAgent) -> list[EvaluationRequest]:
    """Every policy on every task; where there is only one ratio to ask for, nothing is chosen."""
    evaluation = saved.config.evaluation
    only = evaluation.target_return_ratios[0] if len(evaluation.target_return_ratios) == 1 else None
    return [
        EvaluationRequest(
            task.environment_id, policy, "report", only if policy_traits(policy).conditioned else None
        )
        for task in saved.tasks
        for policy in evaluation.policies
    ]


def _measure(
    saved: SavedAgent, requests: Sequence[EvaluationRequest], address: str | None
) -> Iterator[tuple[int, EvaluationResult]]:
    """Answers by this process or by the configured evaluators, in the order in which they are finished."""
    if saved.config.evaluators == 0:
        with closing(Evaluator(saved.agent, saved.tasks, saved.config)) as evaluator:
            for index, request in enumerate(requests):
                yield index, evaluator.measure(request)
        return
    from system.distributed.environment import prepare_environment

    prepare_environment(address)
    from system.distributed.evaluator_group import evaluators_over_ray

    with evaluators_over_ray(saved.agent.state_dict(), saved.tasks, saved.config, address) as evaluators:
        yield from evaluators.measure(requests, go_on)
