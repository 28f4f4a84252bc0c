"""The reported evaluations of a stage: every policy, on the same episodes, at its own best target ratio."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system.config.loading import to_dict
from system.evaluation.ranking_summary import ranking_figures, ranking_record
from system.evaluation.summary import evaluation_record
from system.runs.checkpoint import CheckpointContent
from system.runs.progress import Progress
from system.training.experiment import Experiment
from system.training.pictures import draw_pictures
from system.training.protocols import EvaluationRequest

DECIDE_MEASUREMENTS = ("seed", "family", "environment", "evaluation", "planner", "discount", "precision", "device")
"""Keys of a configuration that decide, beside the weights, what is measured of a policy."""


def evaluate_policies(run: Experiment, stage: str) -> None:
    """Measures the configured policies, those already measured in this stage left out.

    Args:
        run: its progress takes the records and ratio curves.
        stage: `offline` or `online`, as in the summary.

    Raises:
        Interrupted: a signal came; a checkpoint was written first.
    """
    if not run.data.task.has_environment:
        run.tracker.note("nothing to act in (environment.id): policies are not measured")
        draw_pictures(run, stage)
        return
    tasks = {task.environment_id: task for task in run.data.tasks}
    places = {pair: place for place, pair in enumerate(itertools.product(tasks, run.config.evaluation.policies))}
    records = run.progress.evaluations
    done = {_pair(record) for record in records if record["stage"] == stage}
    left = [EvaluationRequest(*pair, "report") for pair in places if pair not in done]
    run.tracker.progress(f"evaluate {stage}", len(places) - len(left), len(places), "policies")
    for number, (index, result) in enumerate(run.measure(left), start=len(places) - len(left) + 1):
        request = left[index]
        if result.ratio_curve:
            curve = {str(ratio): mean for ratio, mean in result.ratio_curve.items()}
            run.progress.ratio_curves[f"{stage}/{request.policy}"] = curve
        record = evaluation_record(stage, result.measured, tasks[request.environment])
        _insert(records, record, stage, places)
        _track(run, record, shown_figures(record))
        if result.ranking is not None:
            ranked = ranking_record(stage, request.environment, request.policy, result.ranking)
            _insert(run.progress.utility_rank_correlation, ranked, stage, places)
            _track(run, ranked, ranking_figures(ranked))
        run.save()
        run.tracker.progress(f"evaluate {stage}", number, len(places), "policies")
    draw_pictures(run, stage)


def take_measured(run: Experiment, path: Path, content: CheckpointContent) -> None:
    """What the run that wrote a pretrained checkpoint measured of it, where this one would measure the same.

    Args:
        run: that starts from the checkpoint, at its beginning.
        path: of the checkpoint, told to the person who watches.
        content: of it.
    """
    earlier, config = Progress.from_dict(content.documents["progress"]), to_dict(run.config)
    is_same = all(content.documents["config"].get(key) == config[key] for key in DECIDE_MEASUREMENTS)
    if earlier.online_update_steps or not is_same or not earlier.evaluations:
        return
    run.progress.evaluations = [*earlier.evaluations]
    run.progress.ratio_curves = {**earlier.ratio_curves}
    run.progress.utility_rank_correlation = [*earlier.utility_rank_correlation]
    for record in earlier.evaluations:
        _track(run, record, shown_figures(record))
    for ranked in earlier.utility_rank_correlation:
        _track(run, ranked, ranking_figures(ranked))
    run.tracker.note(f"{len(earlier.evaluations)} policies as measured by the run of {path}")


def _track(run: Experiment, record: Mapping[str, Any], figures: Mapping[tuple[str, str], float]) -> None:
    """Figures of a record by group, stage, name and policy; and by environment where there are several."""
    game = f"{record['environment']}/" if len(run.data.tasks) > 1 else ""
    metrics = {
        f"{group}/{record['stage']}/{name}/{game}{record['policy']}": value
        for (group, name), value in figures.items()
    }
    run.tracker.log_metrics(metrics, step=run.progress.env_steps)


def shown_figures(record: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Those of an evaluation record that are followed as metrics, by group and name; charts are sorted by both.

    Returns come first and times among the last; a chart is that of one figure of all policies.
    """
    low, high = record["return_ci95"] or (None, None)
    figures = {
        ("evaluation", "return_mean"): record["return_mean"],
        ("evaluation", "return_low"): low,
        ("evaluation", "return_high"): high,
        ("evaluation", "score"): record["normalized_mean"],
        ("time", "decision_ms"): record["decision_ms_p50"],
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def _insert(
    records: list[dict[str, Any]], record: dict[str, Any], stage: str, places: Mapping[tuple[str, str], int]
) -> None:
    """Adds a record of a stage in the order of the requests, in whatever order they were answered."""
    records.append(record)
    records.sort(key=lambda each: places[_pair(each)] if each["stage"] == stage else -1)


def _pair(record: Mapping[str, Any]) -> tuple[str, str]:
    return record["environment"], record["policy"]
