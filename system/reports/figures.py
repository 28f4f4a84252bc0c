"""Pictures of several runs together: scores by policy and stage, and learning curves of all seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from jaxtyping import Float
from matplotlib.axes import Axes

from system.documents.canvas import new_axes, save_figure

STAGE_COLORS = {"offline": "#7a7a7a", "online": "#0b6fb8"}
SEED_COLORS = ("#0b6fb8", "#c2570c", "#2a7f3f", "#8a3ffc", "#b3123f", "#5c5c00", "#00777a", "#7a4a2b")
GRID_POINTS = 200

Points = Float[np.ndarray, "points"]


@dataclass(frozen=True)
class LearningCurve:
    """One run's way through the online stage, in the unit of the picture.

    Attributes:
        seed: the training seed.
        env_steps, mean, low, high: scheduled evaluations, the offline policy first.
        exploration_steps, exploration: return of the newest exploring episodes; empty if not known.
    """

    seed: int
    env_steps: Points
    mean: Points
    low: Points
    high: Points
    exploration_steps: Float[np.ndarray, "explored"]
    exploration: Float[np.ndarray, "explored"]


def draw_scores(table: pandas.DataFrame, unit: str, title: str, path: Path) -> None:
    """A line for every policy and stage: the mean's interval as a bar, each training seed as a dot.

    Args:
        table: with the columns policy, stage, value, low, high and each_seed.
        unit: of the values.
        title: of the figure; names the data.
        path: of the PNG.
    """
    policies = list(dict.fromkeys(table["policy"]))
    figure, axes = new_axes(unit, "", width=6.0, height=1.6 + 0.55 * len(policies))
    figure.suptitle(title, fontsize=10)
    for stage, rows in table.groupby("stage", sort=False):
        color, shift = STAGE_COLORS[str(stage)], 0.17 if stage == "online" else -0.17
        places = np.array([policies.index(policy) for policy in rows["policy"]]) + shift
        values = rows["value"].to_numpy(float)
        # A percentile interval may, rarely, leave out the mean itself; a bar can't have a negative length.
        arms = np.maximum(0.0, [values - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - values])
        axes.errorbar(
            values, places, xerr=arms, fmt="D", color=color, markersize=6, capsize=4, label=f"{stage}: mean, 95 %"
        )
        for place, each_seed in zip(places, rows["each_seed"], strict=True):
            axes.scatter(each_seed, np.full(len(each_seed), place), s=16, color="black", alpha=0.6, zorder=3)
    axes.scatter([], [], s=16, color="black", alpha=0.6, label="each training seed")
    axes.set_yticks(range(len(policies)), policies)
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.0)
    _legend_above(axes)
    save_figure(figure, path)


def draw_learning_curves(curves: Sequence[LearningCurve], unit: str, title: str, path: Path) -> None:
    """Scheduled evaluations over env steps: each seed with its interval, their mean, and exploration faintly.

    Args:
        curves: at least one; those without scheduled evaluations show exploration alone.
        unit: of the values.
        title: of the figure; names the data.
        path: of the PNG.
    """
    figure, axes = new_axes("online env steps", unit, width=6.0, height=4.5)
    figure.suptitle(title, fontsize=10)
    for index, curve in enumerate(curves):
        color = SEED_COLORS[index % len(SEED_COLORS)]
        axes.fill_between(curve.env_steps, curve.low, curve.high, alpha=0.12, color=color, linewidth=0)
        axes.plot(curve.env_steps, curve.mean, marker="o", markersize=4, color=color, label=f"seed {curve.seed}")
        if len(curve.exploration):
            axes.plot(curve.exploration_steps, curve.exploration, ":", linewidth=1, alpha=0.7, color=color)
    if any(len(curve.exploration) for curve in curves):
        axes.plot([], [], ":", color="gray", label="exploring")
    common = _mean_curve(curves)
    if common is not None:
        axes.plot(*common, color="black", linewidth=2.5, label="mean of seeds")
    _legend_above(axes)
    save_figure(figure, path)


def _mean_curve(curves: Sequence[LearningCurve]) -> tuple[Points, Points] | None:
    """Mean over seeds where all have a curve, linear between evaluations; None for a single one."""
    curves = [curve for curve in curves if len(curve.env_steps) > 1]
    if len(curves) < 2:
        return None
    steps = np.linspace(
        max(curve.env_steps[0] for curve in curves), min(curve.env_steps[-1] for curve in curves), GRID_POINTS
    )
    return steps, np.mean([np.interp(steps, curve.env_steps, curve.mean) for curve in curves], axis=0)


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False)
