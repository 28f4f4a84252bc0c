"""A picture of how well planners' utilities rank candidates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system.documents.canvas import new_figure, save_figure

PANELS = (
    ("spearman", "ci95", "Spearman correlation of utility and return"),
    ("gain_share", "gain_share_ci95", "share of the possible gain"),
)


def draw_utility_ranking(records: Sequence[Mapping[str, Any]], stage: str, path: Path) -> None:
    """Means with their intervals by policy, the line of chance at 0; nothing where no state could be compared.

    Args:
        records: of one stage, as under `utility_rank_correlation` in summary.json.
        stage: which.
        path: of the PNG.
    """
    shown = [record for record in records if record["spearman"] is not None]
    if not shown:
        return
    several = len({record["environment"] for record in shown}) > 1
    names = [f"{record['environment'] + ' ' if several else ''}{record['policy']}" for record in shown]
    figure = new_figure(8.0, 1.4 + 0.35 * len(shown))
    where = "" if several else f" in {shown[0]['environment']}"
    figure.suptitle(f"how well utilities rank candidates{where} ({stage})", fontsize=10)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (value, interval, label) in zip(panels, PANELS, strict=True):
        axes.axvline(0.0, color="gray", linewidth=0.8)
        for place, record in enumerate(shown):
            axes.plot(record[interval] or [], [place, place] if record[interval] else [], color="C0")
            axes.plot(record[value], place, marker="o", color="C0")
        axes.set_xlabel(label, fontsize=8)
        axes.grid(alpha=0.3)
    panels[0].set_yticks(range(len(shown)), names, fontsize=8)
    panels[0].set_ylim(len(shown) - 0.5, -0.5)
    save_figure(figure, path)
