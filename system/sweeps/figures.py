"""Pictures of a sweep: score over each parameter, over pairs of them, and against decision time."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from system.documents.canvas import new_axes, new_figure, save_figure
from system.sweeps.ranking import Ranked, pareto_front

SEARCH_COLOR, FINAL_COLOR = "#0b6fb8", "#c2570c"
MOST_KEYS_IN_PAIRS = 4
PANELS_PER_ROW = 3
LARGE_RATIO = 50.0


def draw_parameters(
    search: Sequence[Ranked], final: Sequence[Ranked], names: Mapping[str, str], path: Path
) -> None:
    """A panel for each key: the score of every configuration over its value there.

    Args:
        search, final: rankings of the two rounds; the second may be empty.
        names: key → how it is shown.
        path: of the PNG.
    """
    figure, panels = _panels(len(names))
    for axes, (key, name) in zip(panels, names.items(), strict=True):
        places = _Scale([each.point[key] for each in search if key in each.point])
        for ranking, color, marker in ((search, SEARCH_COLOR, "o"), (final, FINAL_COLOR, "D")):
            shown = [each for each in ranking if key in each.point]
            if shown:
                scores = np.array([each.score for each in shown])
                arms = np.maximum(
                    0.0, [scores - [each.low for each in shown], [each.high for each in shown] - scores]
                )
                at = places.positions([each.point[key] for each in shown])
                axes.errorbar(at, scores, yerr=arms, fmt=marker, color=color, markersize=5, elinewidth=0.7)
        places.label(axes, "x")
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("score, 95 %")
    again = "; circles: search, diamonds: the best again, on other episodes" if final else ""
    figure.suptitle(f"score by each key{again}", fontsize=9)
    save_figure(figure, path)


def draw_pareto_front(search: Sequence[Ranked], final: Sequence[Ranked], path: Path) -> None:
    """Score against decision time, with a step along those that no other beats in both.

    Args:
        search, final: as in `draw_parameters`; some must have decision times.
        path: of the PNG.
    """
    figure, axes = new_axes("decision time (ms)", "score", title="score against decision time")
    for ranking, color, marker, label in (
        (search, SEARCH_COLOR, "o", "search"),
        (final, FINAL_COLOR, "D", "best again"),
    ):
        timed = [each for each in ranking if each.decision_ms is not None]
        if not timed:
            continue
        axes.scatter(*_times_and_scores(timed), color=color, marker=marker, s=30, label=label)
        for each, time, score in zip(timed, *_times_and_scores(timed), strict=True):
            axes.annotate(f" {each.number}", (time, score), fontsize=7)
        axes.step(*_times_and_scores(pareto_front(timed)), where="post", color=color)
    axes.legend(fontsize=8)
    save_figure(figure, path)


def draw_interactions(search: Sequence[Ranked], names: Mapping[str, str], path: Path) -> None:
    """A panel for each pair of the first few keys: configurations where they lie, brighter where they score more.

    Args:
        search: ranking.
        names: key → how it is shown; two at least.
        path: of the PNG.
    """
    pairs = list(itertools.combinations(list(names)[:MOST_KEYS_IN_PAIRS], 2))
    figure, panels = _panels(len(pairs))
    scores = [each.score for each in search]
    drawn = None
    for axes, (first, second) in zip(panels, pairs, strict=True):
        shown = [each for each in search if first in each.point and second in each.point]
        for key, side in ((first, "x"), (second, "y")):
            _Scale([each.point[key] for each in shown]).label(axes, side)
        drawn = axes.scatter(
            _Scale([each.point[first] for each in shown]).positions([each.point[first] for each in shown]),
            _Scale([each.point[second] for each in shown]).positions([each.point[second] for each in shown]),
            c=[each.score for each in shown],
            vmin=min(scores),
            vmax=max(scores),
            s=45,
            edgecolors="black",
            linewidths=0.4,
        )
        axes.set_xlabel(names[first])
        axes.set_ylabel(names[second])
    figure.suptitle("score by pairs of keys", fontsize=9)
    if drawn is not None:
        figure.colorbar(drawn, ax=list(panels), label="score")
    save_figure(figure, path)


def _times_and_scores(ranking: Sequence[Ranked]) -> tuple[list[float], list[float]]:
    """Of those that were timed."""
    timed = [(each.decision_ms, each.score) for each in ranking if each.decision_ms is not None]
    return [time for time, _ in timed], [score for _, score in timed]


class _Scale:
    """Where values stand on an axis: numbers at themselves, other values one beside the other.

    Args:
        values: all that are shown.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self.is_numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        numbers = [float(value) for value in values] if self.is_numeric else []
        self.is_wide = bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= LARGE_RATIO
        self.names = list(dict.fromkeys(map(str, values)))

    def positions(self, values: Sequence[Any]) -> list[float]:
        if self.is_numeric:
            return [float(value) for value in values]
        return [float(self.names.index(str(value))) for value in values]

    def label(self, axes: Axes, side: str) -> None:
        if self.is_wide:
            axes.set_xscale("log") if side == "x" else axes.set_yscale("log")
        if not self.is_numeric:
            places = range(len(self.names))
            axes.set_xticks(places, self.names) if side == "x" else axes.set_yticks(places, self.names)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, PANELS_PER_ROW)
    rows = -(-count // columns)
    figure = new_figure(0.6 + 3.0 * columns, 0.4 + 2.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]
