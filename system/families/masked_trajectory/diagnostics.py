"""What the model imagines on held-out episodes against what happened: curves, and pictures of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.documents.canvas import new_axes, new_figure, save_figure
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.open_loop import OpenLoopError, open_loop_error

MOST_DIMENSIONS = 6
NUM_STARTS = 256
SHORTEST_HISTORY = 3


def diagnose(
    agent: TrajectoryAgent, data: PreparedData, config: RunConfig, folder: Path, stage: str
) -> Mapping[str, np.ndarray]:
    """Predicted states against recorded ones.

    Args:
        agent: in evaluation mode.
        data: whose held-out episodes are imagined.
        config: the run's.
        folder: of the pictures, `open_loop_error_STAGE.png` and `imagined_STAGE.png`.
        stage: `offline` or `online`.

    Returns:
        `states`, `unchanged` and `rewards` by step ahead; empty where no held-out episode is long enough.
    """
    length = config.context_length
    error = open_loop_error(
        agent,
        data.validation,
        discount=config.discount,
        horizon=min(max(2, length - SHORTEST_HISTORY + 1), length),
        num_starts=NUM_STARTS,
        seed=config.seed,
    )
    if error is None:
        return {}
    held_out = f"held-out episodes of {data.description['id']} ({stage})"
    draw_open_loop_error(error, held_out, folder / f"open_loop_error_{stage}.png")
    picture = folder / f"imagined_{stage}.png"
    draw_imagined_trajectory(error, data.task.observation_names, f"imagined on {held_out}", picture)
    return {"states": error.states, "unchanged": error.unchanged, "rewards": error.rewards}


def draw_open_loop_error(error: OpenLoopError, held_out: str, path: Path) -> None:
    """Error of imagined observations and rewards by steps ahead, in standard deviations of the data."""
    title = f"open-loop error on {held_out}"
    figure, axes = new_axes("steps ahead", "RMSE / standard deviation", title=title)
    ahead = np.arange(1, len(error.states) + 1)
    axes.plot(ahead, error.states, marker="o", label="observations")
    axes.plot(ahead, error.unchanged, linestyle="--", label="observation unchanged")
    axes.plot(np.arange(len(error.rewards)), error.rewards, marker="s", label="rewards")
    axes.set_ylim(bottom=0.0)
    axes.legend()
    save_figure(figure, path)


def draw_imagined_trajectory(error: OpenLoopError, names: Sequence[str], title: str, path: Path) -> None:
    """One imagined trajectory over the real one, a panel for each of the dimensions that vary most in it.

    Each panel spans three standard deviations of the data about its mean, so that what looks small is small.

    Args:
        error: holds the two trajectories.
        names: of the observation's dimensions.
        title: of the figure.
        path: of the PNG.
    """
    varying = np.argsort((error.real / error.spread).std(axis=0))[::-1][:MOST_DIMENSIONS]
    figure = new_figure(7.0, 1.2 * len(varying) + 0.4)
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(len(varying), 1, sharex=True, squeeze=False)[:, 0]
    for dimension, axes in zip(sorted(varying.tolist()), panels, strict=True):
        real, centre, reach = error.real[:, dimension], error.centre[dimension], 3 * error.spread[dimension]
        axes.plot(real, color="black", label="real")
        axes.plot(error.imagined[:, dimension], linestyle="--", label="imagined")
        axes.set_ylim(min(centre - reach, real.min()), max(centre + reach, real.max()))
        axes.set_ylabel(names[dimension], fontsize=8)
    panels[0].legend(fontsize=8)
    panels[-1].set_xlabel("steps ahead")
    save_figure(figure, path)
