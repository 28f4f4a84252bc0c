"""Pictures of a run: each function draws one figure into one PNG file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from system.documents.canvas import new_axes, save_figure


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


def draw_ratio_curves(curves: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Mean return on the selection episodes over the target-return ratio, a line for each policy."""
    figure, axes = new_axes("target-return ratio", "return (selection episodes)")
    for name, curve in curves.items():
        ratios = sorted(curve, key=float)
        axes.plot([float(ratio) for ratio in ratios], [curve[ratio] for ratio in ratios], marker="o", label=name)
    axes.legend(fontsize=7)
    save_figure(figure, path)
