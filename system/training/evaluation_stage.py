"""The reported evaluations of a stage: every policy, on the same episodes, at its own best target ratio."""

import numpy as np

from system.evaluation.measurement import RETURN_CONDITIONED
from system.evaluation.summary import evaluation_record
from system.training.experiment import Experiment
from system.training.pictures import draw_pictures


def evaluate_policies(run: Experiment, stage: str) -> None:
    """Measures the configured policies, those already measured in this stage left out.

    Args:
        run: its progress takes the records and ratio curves.
        stage: `offline` or `online`, as in the summary.

    Raises:
        Interrupted: a signal came; a checkpoint was written first.
    """
    policies = run.config.evaluation.policies
    done = {record["policy"] for record in run.progress.evaluations if record["stage"] == stage}
    for number, policy in enumerate(policies):
        if policy in done:
            continue
        run.tracker.progress(f"evaluate {stage}", number, len(policies), "policies")
        measured = run.measurer().report(policy, choose_ratio(run, stage, policy))
        record = evaluation_record(stage, measured, run.data.task)
        run.progress.evaluations.append(record)
        step = run.progress.env_steps
        run.tracker.log_metrics(
            {f"evaluation/{stage}/{policy}/return_mean": float(np.mean(measured.returns))}, step=step
        )
        run.save()
    run.tracker.progress(f"evaluate {stage}", len(policies), len(policies), "policies")
    draw_pictures(run, stage)


def choose_ratio(run: Experiment, stage: str, policy: str) -> float | None:
    """The target-return ratio that does best on the selection episodes; None for what asks for nothing."""
    if policy not in RETURN_CONDITIONED:
        return None
    best, curve = run.measurer().choose_ratio(policy)
    run.progress.ratio_curves[f"{stage}/{policy}"] = {str(ratio): mean for ratio, mean in curve.items()}
    return best
