"""The reported evaluations of a stage: every policy, on the same episodes, at its own best target ratio."""

from collections.abc import Mapping
from typing import Any

from system.evaluation.policies import CONDITIONED_ON_RETURN
from system.evaluation.summary import evaluation_record
from system.training.experiment import Experiment
from system.training.pictures import draw_pictures
from system.types import TaskSpec


def evaluate_policies(run: Experiment, stage: str) -> None:
    """Measures the configured policies, those already measured in this stage left out.

    Args:
        run: its progress takes the records and ratio curves.
        stage: `offline` or `online`, as in the summary.

    Raises:
        Interrupted: a signal came; a checkpoint was written first.
    """
    pairs = [(task, policy) for task in run.data.tasks for policy in run.config.evaluation.policies]
    records = run.progress.evaluations
    done = {(record["environment"], record["policy"]) for record in records if record["stage"] == stage}
    for number, (task, policy) in enumerate(pairs):
        if (task.environment_id, policy) in done:
            continue
        run.tracker.progress(f"evaluate {stage}", number, len(pairs), "policies")
        measured = run.measurer(task).report(policy, choose_ratio(run, task, stage, policy))
        record = evaluation_record(stage, measured, task)
        records.append(record)
        game = f"{task.environment_id}/" if len(run.data.tasks) > 1 else ""
        run.tracker.log_metrics(
            {f"evaluation/{stage}/{name}/{game}{policy}": value for name, value in shown_figures(record).items()},
            step=run.progress.env_steps,
        )
        run.save()
    run.tracker.progress(f"evaluate {stage}", len(pairs), len(pairs), "policies")
    draw_pictures(run, stage)


def shown_figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Those of an evaluation record that are followed as metrics."""
    low, high = record["return_ci95"]
    figures = {
        "return_mean": record["return_mean"],
        "return_low": low,
        "return_high": high,
        "score": record["normalized_mean"],
        "decision_ms": record["decision_ms_p50"],
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def choose_ratio(run: Experiment, task: TaskSpec, stage: str, policy: str) -> float | None:
    """The target-return ratio that does best on the selection episodes; None for what asks for nothing."""
    if policy not in CONDITIONED_ON_RETURN:
        return None
    best, curve = run.measurer(task).choose_ratio(policy)
    run.progress.ratio_curves[f"{stage}/{policy}"] = {str(ratio): mean for ratio, mean in curve.items()}
    return best
