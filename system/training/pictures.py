"""The figures of a run, drawn at the end of each evaluation and handed to the tracker."""

from collections.abc import Mapping

import numpy as np

from system.evaluation.figures import draw_learning_curve, draw_ratio_curves, draw_utilities
from system.families.registry import family_of
from system.training.experiment import Experiment
from system.training.protocols import Artifact


def draw_pictures(run: Experiment, stage: str) -> None:
    """Draws what the run can show so far, into `figures/` of the run directory.

    Args:
        run: its progress holds the curves; the model is measured on the held-out episodes.
        stage: `offline` or `online`; part of the file names.
    """
    folder, progress = run.run_dir.figures, run.progress
    if progress.ratio_curves:
        draw_ratio_curves(progress.ratio_curves, folder / "target_return_ratio.png")
    if len(progress.schedule) > 1:
        draw_learning_curve(progress.schedule, folder / "learning_curve.png")
    if progress.episode_returns:
        draw_utilities(progress.first_utilities, progress.episode_returns, folder / "utilities.png")
    diagnose = family_of(run.config).diagnose
    if diagnose is not None:
        _note_open_loop(run, stage, diagnose(run.agent(), run.data, run.config, folder, stage))
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.gif")]):
        run.tracker.log_artifact(Artifact(path, "figures"))


def _note_open_loop(run: Experiment, stage: str, curves: Mapping[str, np.ndarray]) -> None:
    """Into the summary and, by step ahead, to the tracker."""
    if not curves:
        return
    run.progress.open_loop[stage] = {name: values.tolist() for name, values in curves.items()}
    for name, values in curves.items():
        for ahead, value in enumerate(values.tolist(), start=1):
            run.tracker.log_metrics({f"open_loop/{stage}/{name}": value}, step=ahead)
