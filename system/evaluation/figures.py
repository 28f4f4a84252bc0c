"""Pictures of a run: each function draws one figure into one PNG file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from system.documents.canvas import new_axes, save_figure


def draw_learning_curve(
    schedule: Sequence[Mapping[str, float]], policy: str, environment: str, path: Path
) -> None:
    """Return of the planner over env steps, with the interval of the offline policy.

    Args:
        schedule: {env_steps, mean, low, high}, the offline policy first.
        policy: whose returns they are.
        environment: in which they were had.
        path: of the PNG.
    """
    title = f"scheduled evaluations of {policy} in {environment}"
    figure, axes = new_axes("online env steps", f"return of {policy}", title=title)
    steps = [entry["env_steps"] for entry in schedule]
    low, high = ([entry[name] for entry in schedule] for name in ("low", "high"))
    axes.axhspan(low[0], high[0], alpha=0.15, color="gray", label="offline, 95 %")
    axes.fill_between(steps, low, high, alpha=0.25)
    axes.plot(steps, [entry["mean"] for entry in schedule], marker="o", label="mean")
    axes.legend()
    save_figure(figure, path)


def draw_utilities(
    utilities: Sequence[float], returns: Sequence[float], environment: str, path: Path
) -> None:
    """What exploration expected at its first decision, against what came: one point an episode.

    Args:
        utilities: P-weighted utility (discounted), NaN where nothing was planned.
        returns: undiscounted.
        environment: in which they were had.
        path: of the PNG.
    """
    pairs = np.array([(u, r) for u, r in zip(utilities, returns, strict=True) if np.isfinite(u)])
    title = f"episodes of exploration in {environment}"
    if len(pairs) > 2 and pairs.std(axis=0).all():
        title += f"\ncorrelation {np.corrcoef(pairs.T)[0, 1]:.2f}; later episodes are brighter"
    x, y = "utility at the first decision (discounted)", "return of the episode"
    figure, axes = new_axes(x, y, title=title)
    if len(pairs):
        axes.scatter(pairs[:, 0], pairs[:, 1], c=np.arange(len(pairs)), s=12, alpha=0.7)
    save_figure(figure, path)


def draw_ratio_curves(curves: Mapping[str, Mapping[str, float]], environment: str, path: Path) -> None:
    """Mean return on the selection episodes over the target-return ratio, a line for each policy."""
    title = f"how much to ask for in {environment}, by stage and policy"
    figure, axes = new_axes("target-return ratio", "return (selection episodes)", title=title)
    for name, curve in curves.items():
        ratios = sorted(curve, key=float)
        axes.plot([float(ratio) for ratio in ratios], [curve[ratio] for ratio in ratios], marker="o", label=name)
    axes.legend(fontsize=7)
    save_figure(figure, path)


def draw_policies(records: Sequence[Mapping[str, Any]], environment: str, path: Path) -> None:
    """Every policy that was measured, one below the other: its episodes, their mean and its interval, by stage.

    Args:
        records: of one environment, as under `evaluations` in summary.json.
        environment: its id.
        path: of the PNG.
    """
    names = list(dict.fromkeys(record["policy"] for record in records))
    title = f"all policies in {environment}: episodes, mean and 95 % interval"
    figure, axes = new_axes("return", "", title=title, width=7.0, height=1.4 + 0.45 * len(names))
    for place, stage in enumerate(dict.fromkeys(record["stage"] for record in records)):
        for record in records:
            if record["stage"] != stage:
                continue
            height, color = names.index(record["policy"]) + 0.25 * place, f"C{place}"
            returns = record["returns"]
            axes.scatter(returns, np.full(len(returns), height), s=8, alpha=0.35, color=color, linewidths=0)
            if record["return_ci95"]:
                axes.plot(record["return_ci95"], [height, height], color=color, linewidth=2)
            axes.plot(record["return_mean"], height, marker="D", color=color)
        axes.plot([], [], marker="D", color=f"C{place}", label=stage)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.5)
    axes.legend(fontsize=8)
    save_figure(figure, path)
