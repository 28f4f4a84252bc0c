"""`o2o report` on what models were asked by name: settings side by side, a picture, and the file for programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure

from system.cli.main import main
from system.reports import capability_report
from tests.support.summary_factory import Returns, make_summary, write_run

SCORED: Returns = {("offline", "rcbc_mean"): {10_000: 20.0, 10_001: 30.0, 10_002: 40.0}}


def prediction(capability: str, predicted: str, errors: list[float], **changes: Any) -> dict[str, Any]:
    """An entry of a summary's `capabilities`, as far as a report reads it."""
    entry = {"stage": "offline", "capability": capability, "predicted": predicted, "error": errors, "episodes": 7}
    return {**entry, **changes}


def runs(folder: Path) -> list[Path]:
    """Two seeds of two settings; what is predicted differs by setting and seed."""
    found = []
    for index, (seed, horizon, actions) in enumerate([(0, 4, 0.2), (1, 4, 0.4), (0, 2, 0.6), (1, 2, 0.8)]):
        measured = [prediction("id", "actions", [actions, 2 * actions]), prediction("rp", "rewards", [0.5])]
        summary = make_summary(SCORED, seed=seed, capabilities=measured)
        summary["config"]["planner"]["horizon"] = horizon
        found.append(write_run(folder / str(index), summary))
    return found


def report(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What `o2o report` prints."""
    assert main(["report", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_settings_stand_side_by_side_with_every_seeds_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = report(capsys, *runs(tmp_path)).split("### Capabilities on toy/mixed-v0")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")][1:]
    assert rows == [
        ["id", "actions", "offline", "horizon = 4", *two(0.3, 0.2, 0.4), "2"],
        ["id", "actions", "offline", "horizon = 2", *two(0.7, 0.6, 0.8), "2"],
        ["rp", "rewards", "offline", "any", *["0.5000 (0.5000 to 0.5000)"] * 2, "2"],
    ]


def test_settings_are_told_apart_by_whole_keys_where_words_are_not_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for share in (0.5, 1.0):
        summary = make_summary(SCORED, capabilities=[prediction("id", "actions", [share])])
        summary["config"]["masked_trajectory"]["training"]["mask_shares"] = {"random": share}
        found.append(write_run(tmp_path / str(share), summary))
    table = report(capsys, *found).split("### Capabilities")[1]
    assert "| random = 0.5 |" in table and "| random = 1.0 |" in table
    assert capability_report._labels(["a.rate = 1", "b.rate = 1"])["a.rate = 1"] == "a.rate = 1"
    shortened = {"a.b.rate = 0.25, c = x.y": "rate = 0.25, c = x.y", "": "all runs"}
    assert capability_report._labels([*shortened]) == shortened


def two(mean: float, low: float, high: float) -> list[str]:
    """Cells of the first and of the last step, whose errors are twice as large."""
    return [f"{by * mean:.4f} ({by * low:.4f} to {by * high:.4f})" for by in (1, 2)]


def test_where_no_setting_changes_anything_all_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for horizon in (2, 4):
        summary = make_summary(SCORED, capabilities=[prediction("id", "actions", [0.5])])
        summary["config"]["planner"]["horizon"] = horizon
        found.append(write_run(tmp_path / str(horizon), summary))
    assert "| id | actions | offline | any |" in report(capsys, *found, "--output", tmp_path / "out")
    assert (tmp_path / "out" / "capabilities_1.png").is_file()


def test_runs_that_were_asked_nothing_by_name_have_no_such_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", make_summary(SCORED, capabilities=[]))
    assert "Capabilities" not in report(capsys, run, "--output", tmp_path / "out")
    assert not list((tmp_path / "out").glob("capabilities*"))


def test_the_files_hold_them_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = capability_report.save_figure
    monkeypatch.setattr(
        capability_report, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path))
    )
    report(capsys, *runs(tmp_path), "--output", tmp_path / "out", "--html")
    frame = pandas.read_csv(tmp_path / "out" / "report.csv")
    rows = frame[frame["table"] == "capabilities"]
    of_actions = rows[(rows["capability"] == "id") & (rows["setting"] == "planner.horizon = 4")]
    assert of_actions[["steps", "seeds", "episodes"]].to_numpy().tolist() == [[1, 2, 14], [2, 2, 14]]
    np.testing.assert_allclose(of_actions[["value", "low", "high"]], [[0.3, 0.2, 0.4], [0.6, 0.4, 0.8]])
    assert "capabilities_1.png" in (tmp_path / "out" / "report.md").read_text()
    assert "Capabilities on toy/mixed-v0" in (tmp_path / "out" / "report.html").read_text()

    panels = drawn[0].axes
    assert [panel.get_title() for panel in panels] == ["id, offline:\nactions"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["horizon = 4", "horizon = 2"]
    shown = [points.get_offsets().tolist() for points in panels[0].collections]
    np.testing.assert_allclose(shown[0], [[0.6, 0]])
    np.testing.assert_allclose(shown[1], [[0.4, 0], [0.8, 0]])
    np.testing.assert_allclose(shown[2], [[1.4, 1]])
