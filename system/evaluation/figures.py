"""Pictures of a run: each function draws one figure into one PNG file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from system.documents.canvas import new_axes, new_figure, save_figure
from system.families.masked_trajectory.open_loop import OpenLoopError

MOST_DIMENSIONS = 6


def draw_learning_curve(schedule: Sequence[Mapping[str, float]], path: Path) -> None:
    """Return of the planner over env steps, with the interval of the offline policy.

    Args:
        schedule: {env_steps, mean, low, high}, the offline policy first.
        path: of the PNG.
    """
    figure, axes = new_axes("online env steps", "return of the planner")
    steps = [entry["env_steps"] for entry in schedule]
    low, high = ([entry[name] for entry in schedule] for name in ("low", "high"))
    axes.axhspan(low[0], high[0], alpha=0.15, color="gray", label="offline, 95 %")
    axes.fill_between(steps, low, high, alpha=0.25)
    axes.plot(steps, [entry["mean"] for entry in schedule], marker="o", label="mean")
    axes.legend()
    save_figure(figure, path)


def draw_utilities(utilities: Sequence[float], returns: Sequence[float], path: Path) -> None:
    """What exploration expected at its first decision, against what came: one point an episode.

    Args:
        utilities: P-weighted utility (discounted), NaN where nothing was planned.
        returns: undiscounted.
        path: of the PNG.
    """
    pairs = np.array([(u, r) for u, r in zip(utilities, returns, strict=True) if np.isfinite(u)])
    figure, axes = new_axes("utility at the first decision (discounted)", "return of the episode")
    if len(pairs):
        axes.scatter(pairs[:, 0], pairs[:, 1], c=np.arange(len(pairs)), s=12, alpha=0.7)
    if len(pairs) > 2 and pairs.std(axis=0).all():
        axes.set_title(f"correlation {np.corrcoef(pairs.T)[0, 1]:.2f}; later episodes are brighter", fontsize=9)
    save_figure(figure, path)


def draw_open_loop_error(error: OpenLoopError, path: Path) -> None:
    """Error of imagined observations and rewards by steps ahead, in standard deviations of the data."""
    figure, axes = new_axes("steps ahead", "RMSE / standard deviation")
    ahead = np.arange(1, len(error.states) + 1)
    axes.plot(ahead, error.states, marker="o", label="observations")
    axes.plot(ahead, error.unchanged, linestyle="--", label="observation unchanged")
    axes.plot(np.arange(len(error.rewards)), error.rewards, marker="s", label="rewards")
    axes.set_ylim(bottom=0.0)
    axes.legend()
    save_figure(figure, path)


def draw_imagined_trajectory(error: OpenLoopError, path: Path) -> None:
    """One imagined trajectory over the real one, a panel for each of the first observation dimensions."""
    count = min(MOST_DIMENSIONS, error.real.shape[1])
    figure = new_figure(7.0, 1.2 * count)
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for dimension, axes in enumerate(panels):
        axes.plot(error.real[:, dimension], color="black", label="real")
        axes.plot(error.imagined[:, dimension], linestyle="--", label="imagined")
        axes.set_ylabel(f"o[{dimension}]")
    panels[0].legend(fontsize=8)
    panels[-1].set_xlabel("steps ahead")
    save_figure(figure, path)


def draw_ratio_curves(curves: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Mean return on the selection episodes over the target-return ratio, a line for each policy."""
    figure, axes = new_axes("target-return ratio", "return (selection episodes)")
    for name, curve in curves.items():
        ratios = sorted(curve, key=float)
        axes.plot([float(ratio) for ratio in ratios], [curve[ratio] for ratio in ratios], marker="o", label=name)
    axes.legend(fontsize=7)
    save_figure(figure, path)
