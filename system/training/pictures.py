"""The figures of a run, drawn at the end of each evaluation and handed to the tracker."""

from collections.abc import Mapping

import numpy as np

from system.evaluation.figures import (
    draw_imagined_trajectory,
    draw_learning_curve,
    draw_open_loop_error,
    draw_ratio_curves,
    draw_utilities,
)
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.open_loop import open_loop_error
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.imagined_frames import (
    animate_imagined_clip,
    draw_imagined_frames,
    imagine_clip,
    imagine_frames,
)
from system.training.experiment import Experiment
from system.training.protocols import Artifact

NUM_STARTS = 256
SHORTEST_HISTORY = 3
NUM_DREAMS = 32
CLIP_FRAMES = 48


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
    agent = run.agent()
    if isinstance(agent, TrajectoryAgent):
        _draw_open_loop(run, agent, stage)
    elif run.config.jowa.objective == "jowa":
        _draw_imagined_frames(run, agent, stage)
        _animate_dreams(run, agent, stage)
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.gif")]):
        run.tracker.log_artifact(Artifact(path, "figures"))


def _draw_open_loop(run: Experiment, agent: TrajectoryAgent, stage: str) -> None:
    """Predicted states against recorded ones."""
    folder, length = run.run_dir.figures, run.config.context_length
    error = open_loop_error(
        agent,
        run.data.validation,
        discount=run.config.discount,
        horizon=min(max(2, length - SHORTEST_HISTORY + 1), length),
        num_starts=NUM_STARTS,
        seed=run.config.seed,
    )
    if error is None:
        return
    draw_open_loop_error(error, folder / f"open_loop_error_{stage}.png")
    draw_imagined_trajectory(error, folder / f"imagined_{stage}.png")
    _note_open_loop(run, stage, {"states": error.states, "unchanged": error.unchanged, "rewards": error.rewards})


def _draw_imagined_frames(run: Experiment, agent: WorldActionAgent, stage: str) -> None:
    """Dreams beside the game."""
    if run.data.frames is None:
        return
    imagined = imagine_frames(
        agent,
        run.data.validation,
        run.data.frames,
        horizon=run.config.context_length // 2,
        num_starts=NUM_DREAMS,
        seed=run.config.seed,
    )
    if imagined is None:
        return
    draw_imagined_frames(imagined, run.run_dir.figures / f"imagined_{stage}.png")
    shares = {"tokens": imagined.tokens, "unchanged": imagined.unchanged, "moving": imagined.moving}
    _note_open_loop(run, stage, {**shares, "rewards": imagined.rewards})


def _animate_dreams(run: Experiment, agent: WorldActionAgent, stage: str) -> None:
    """A moving picture of each game beside the dream of it."""
    if run.data.frames is None:
        return
    for task in run.data.tasks:
        clip = imagine_clip(
            agent,
            run.data.validation,
            run.data.frames,
            game=task.game,
            horizon=run.config.context_length // 2,
            num_frames=CLIP_FRAMES,
            seed=run.config.seed,
        )
        if clip is not None:
            name = f"_{task.environment_id.rpartition('/')[2]}" if len(run.data.tasks) > 1 else ""
            animate_imagined_clip(clip, run.run_dir.figures / f"imagined_{stage}{name}.gif")


def _note_open_loop(run: Experiment, stage: str, curves: Mapping[str, np.ndarray]) -> None:
    """Into the summary and, by step ahead, to the tracker."""
    run.progress.open_loop[stage] = {name: values.tolist() for name, values in curves.items()}
    for name, values in curves.items():
        for ahead, value in enumerate(values.tolist(), start=1):
            run.tracker.log_metrics({f"open_loop/{stage}/{name}": value}, step=ahead)
