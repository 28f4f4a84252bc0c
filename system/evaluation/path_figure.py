"""A course as it was asked for, as a planner inferred it and as it was walked, dimension by dimension."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from system.decisions import UNTIMED
from system.documents.canvas import new_figure, save_figure
from system.evaluation.reaching import Reached
from system.planning.goals import Course

MOST_DIMENSIONS = 5
MOST_PATHS = 12


def draw_paths(reached: Reached, course: Course, names: tuple[str, ...], path: Path) -> None:
    """One episode's picture.

    Args:
        reached: whose first episode is drawn.
        course: that it was asked for.
        names: of the dimensions of observations.
        path: of the PNG file.
    """
    walked = reached.walked[0]
    dimensions = np.flatnonzero(course.named.any(axis=0))[:MOST_DIMENSIONS]
    figure = new_figure(7.0, 1.0 + 1.5 * len(dimensions))
    panels = figure.subplots(len(dimensions), 1, sharex=True, squeeze=False)[:, 0]
    every = max(1, len(reached.inferred) // MOST_PATHS)
    for dimension, axes in zip(dimensions.tolist(), panels, strict=True):
        axes.plot(walked[:, dimension], color="black", label="walked")
        for index, (step, inferred) in enumerate(reached.inferred[::every]):
            label = "inferred" if index == 0 else None
            steps = step + np.arange(len(inferred))
            axes.plot(steps, inferred[:, dimension], color="tab:blue", alpha=0.5, linestyle="--", label=label)
        times, values, allowed = _asked(course, dimension, len(walked) - 1)
        line, gap = ("none", 1) if course.kind == "waypoints" else ("-", max(1, len(times) // 20))
        axes.errorbar(
            times, values, yerr=allowed, fmt=line, errorevery=gap, color="tab:red", capsize=3, label="asked for"
        )
        axes.set_ylabel(names[dimension])
    panels[0].legend(fontsize=8)
    panels[-1].set_xlabel("env steps")
    ending = "reached" if reached.outcomes[0].success else "not reached"
    figure.suptitle(f"{course.name}: {reached.policy}, {ending}")
    save_figure(figure, path)


def _asked(
    course: Course, dimension: int, last: int
) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]]:
    """Times, values and tolerances of one dimension; what has no time stands at the end."""
    rows = np.flatnonzero(course.named[:, dimension])
    times = np.where(course.times[rows] == UNTIMED, last, course.times[rows]).astype(np.float64)
    return times, course.values[rows, dimension], course.tolerances[rows, dimension]
