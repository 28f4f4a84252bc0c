"""The figures of a run, drawn at the end of each evaluation and handed to the tracker."""

from system.evaluation.figures import (
    draw_imagined_trajectory,
    draw_learning_curve,
    draw_open_loop_error,
    draw_ratio_curves,
    draw_utilities,
)
from system.evaluation.open_loop import open_loop_error
from system.training.experiment import Experiment
from system.training.protocols import Artifact

NUM_STARTS = 256
SHORTEST_HISTORY = 3


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
    horizon = max(2, run.config.model.context_length - SHORTEST_HISTORY + 1)
    error = open_loop_error(
        run.agent(),
        run.data.validation,
        discount=run.config.discount,
        horizon=min(horizon, run.config.model.context_length),
        num_starts=NUM_STARTS,
        seed=run.config.seed,
    )
    if error is not None:
        draw_open_loop_error(error, folder / f"open_loop_error_{stage}.png")
        draw_imagined_trajectory(error, folder / f"imagined_{stage}.png")
        progress.open_loop[stage] = {
            "states": error.states.tolist(),
            "unchanged": error.unchanged.tolist(),
            "rewards": error.rewards.tolist(),
        }
        for ahead, value in enumerate(error.states.tolist(), start=1):
            run.tracker.log_metrics({f"open_loop/{stage}/state_rmse": value}, step=ahead)
    for path in sorted(folder.glob("*.png")):
        run.tracker.log_artifact(Artifact(path, "figures"))
