"""How `evaluate` loads a checkpoint, measures its policies and shows them."""

import argparse
from contextlib import closing
from typing import Any

from system.cli.options import resolve_checkpoint
from system.evaluation.game_scores import format_games, summarize_games
from system.evaluation.measurement import Measurer
from system.evaluation.policies import CONDITIONED_ON_RETURN
from system.evaluation.summary import compare, evaluation_record, format_comparisons, format_table
from system.tracking.console import ConsoleTracker
from system.training.files import write_json
from system.training.saved_agent import open_agent


def evaluate_checkpoint(arguments: argparse.Namespace) -> int:
    """Measures a checkpoint's policies on the reported episodes, each at its best target ratio.

    Args:
        arguments: of the verb `evaluate`.
    """
    saved = open_agent(resolve_checkpoint(arguments), _overrides(arguments))
    path, config = saved.path, saved.config
    console = ConsoleTracker(quiet=arguments.quiet)
    records: list[dict[str, Any]] = []
    pairs = [(task, policy) for task in saved.tasks for policy in config.evaluation.policies]
    for number, (task, policy) in enumerate(pairs):
        console.progress("evaluate", number, len(pairs), "policies")
        with closing(Measurer(saved.agent, task, config, _never)) as measurer:
            records.append(evaluation_record("offline", measurer.report(policy, _ratio(measurer, policy)), task))
    console.progress("evaluate", len(pairs), len(pairs), "policies")
    console.close()
    print(f"{path}: {config.evaluation.episodes} episodes each\n")
    print(format_table(records))
    games, comparisons = summarize_games(records), compare(records)
    for text in (format_games(games), format_comparisons(comparisons)):
        if text:
            print(text)
    if arguments.output is not None:
        content = {"evaluations": records, "comparisons": comparisons, "game_scores": games}
        write_json(arguments.output, {"checkpoint": str(path), **content})
    return 0


def _overrides(arguments: argparse.Namespace) -> list[str]:
    overrides = list(arguments.overrides)
    if arguments.policies:
        overrides.append(f"evaluation.policies=[{arguments.policies}]")
    if arguments.episodes is not None:
        overrides.append(f"evaluation.episodes={arguments.episodes}")
    return overrides


def _ratio(measurer: Measurer, policy: str) -> float | None:
    ratios = measurer.config.evaluation.target_return_ratios
    if policy not in CONDITIONED_ON_RETURN:
        return None
    return ratios[0] if len(ratios) == 1 else measurer.choose_ratio(policy)[0]


def _never() -> None:
    """Nothing stops an evaluation from outside but the signal's own effect."""
