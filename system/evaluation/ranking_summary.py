"""How well planners' utilities rank candidates, as records of a summary, metrics and lines for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from system.evaluation.summary import format_interval, interval_of
from system.types import UtilityRanking

Record = Mapping[str, Any]


def ranking_record(stage: str, environment: str, policy: str, ranking: UtilityRanking) -> dict[str, Any]:
    """One planner's ranking, as it stands in summary.json.

    Args:
        stage: `offline` or `online`.
        environment, policy: what was played, and by which planner.
        ranking: its states; means and intervals are None where none could be compared, intervals of a single
            episode too: states of one episode are alike, so that intervals are over episodes.
    """
    spearman, ci95 = _mean_and_interval(ranking.correlations, ranking.episodes)
    gain_share, gain_share_ci95 = _mean_and_interval(ranking.gain_shares, ranking.episodes)
    return {
        "stage": stage,
        "environment": environment,
        "policy": policy,
        "horizon": ranking.horizon,
        "states": len(ranking.correlations),
        "candidates": ranking.num_candidates,
        "spearman": spearman,
        "ci95": ci95,
        "gain_share": gain_share,
        "gain_share_ci95": gain_share_ci95,
        "left_out": ranking.num_left_out,
        "reachable": float(np.mean(ranking.reachable)) if ranking.reachable else None,
    }


def ranking_figures(record: Record) -> dict[tuple[str, str], float]:
    """Those of a ranking record that are followed as metrics, by group and name."""
    figures = {("ranking", name): record[name] for name in ("spearman", "gain_share")}
    return {name: float(value) for name, value in figures.items() if value is not None}


def format_rankings(records: Sequence[Record]) -> str:
    """One line a record, under a line that says what they show."""
    several = len({each["environment"] for each in records}) > 1
    names = [f"{each['environment'] + ' ' if several else ''}{each['policy']}" for each in records]
    width = max(map(len, names), default=0)
    lines = ["utilities against executed candidates: Spearman [95 %], share of the possible gain [95 %]"]
    for name, each in zip(names, records, strict=True):
        left_out = f", {each['left_out']} left out" if each["left_out"] else ""
        if each.get("reachable") is not None:
            left_out += f"; linearly reachable {each['reachable']:+.2f}"
        lines.append(
            f"{each['stage'] + ':':<9}{name:<{width}}  {_cell(each['spearman'], each['ci95'])}  "
            f"{_cell(each['gain_share'], each['gain_share_ci95'])}  ({each['states']} states{left_out})"
        )
    return "\n".join(lines)


def _mean_and_interval(values: list[float], episodes: list[int]) -> tuple[float | None, list[float] | None]:
    """Over all states, and of the means of their episodes."""
    if not values:
        return None, None
    found = np.array(values)
    means = [found[np.array(episodes) == episode].mean() for episode in dict.fromkeys(episodes)]
    return float(found.mean()), interval_of(np.array(means))


def _cell(value: float | None, interval: Sequence[float] | None) -> str:
    return f"{'–' if value is None else f'{value:+.2f}':>5} {format_interval(interval, '+.2f'):<14}"
