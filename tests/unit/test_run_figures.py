"""Figures of one run say what they show, and of which policy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from system.evaluation import figures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    kept: list[Any] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure))
    return kept


def record(policy: str, stage: str, returns: list[float], interval: list[float] | None) -> dict[str, Any]:
    mean = float(np.mean(returns))
    return {"policy": policy, "stage": stage, "returns": returns, "return_mean": mean, "return_ci95": interval}


def test_all_policies_stand_in_one_chart_with_their_episodes_and_intervals(drawn: list[Any]) -> None:
    records = [
        record("clone", "offline", [1.0, 3.0], [1.0, 3.0]),
        record("planner", "offline", [5.0], None),
        record("planner", "online", [6.0, 8.0], [6.0, 8.0]),
    ]
    figures.draw_policies(records, "Reach-v0", Path("policies.png"))
    (axes,) = drawn[0].axes
    assert "Reach-v0" in axes.get_title()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["clone", "planner"]
    assert [sorted(points.get_offsets()[:, 0].tolist()) for points in axes.collections] == [
        [1.0, 3.0],
        [5.0],
        [6.0, 8.0],
    ]
    bars = [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert bars == [[1.0, 3.0], [6.0, 8.0]], "an interval over one episode is none"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["offline", "online"]


def test_titles_name_policy_and_environment(drawn: list[Any]) -> None:
    schedule = [{"env_steps": step, "mean": 1.0, "low": 0.0, "high": 2.0} for step in (0, 10)]
    figures.draw_learning_curve(schedule, "planner", "Reach-v0", Path("a.png"))
    figures.draw_utilities([1.0, 2.0, 3.0], [1.0, 2.0, 4.0], "Reach-v0", Path("b.png"))
    figures.draw_ratio_curves({"offline/planner": {"1.0": 2.0}}, "Reach-v0", Path("c.png"))
    titles = [figure.axes[0].get_title() for figure in drawn]
    assert "planner in Reach-v0" in titles[0]
    assert "Reach-v0" in titles[1] and "correlation 0.98" in titles[1]
    assert "Reach-v0" in titles[2]
