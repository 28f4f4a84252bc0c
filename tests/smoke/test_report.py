"""`o2o report` on run directories: pairing, files, pictures, the page, and what it refuses."""

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure

from system.cli.main import main
from system.cli.report import read_exploration
from system.documents.page import render_page
from system.documents.text import Section, TextTable
from system.reports import figures as report_figures
from tests.support.summary_factory import Returns, make_record, make_summary, write_run

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SCORED: Returns = {
    ("offline", "random"): {10_000: 2.0, 10_001: 2.0, 10_002: 2.0},
    ("offline", "rcbc_mode"): {10_000: 10.0, 10_001: 20.0, 10_002: 30.0},
    ("offline", "rcbc_mean"): {10_000: 20.0, 10_001: 30.0, 10_002: 40.0},
    ("offline", "q_only"): {10_000: 22.0, 10_001: 32.0, 10_002: 42.0},
    ("offline", "forward_mpc_q"): {10_000: 40.0, 10_001: 50.0, 10_002: 60.0},
    ("online", "forward_mpc_q"): {10_000: 70.0, 10_001: 80.0, 10_002: 90.0},
    ("online", "random"): {10_000: 2.0, 10_001: 2.0, 10_002: 2.0},
}
SCHEDULE = [
    {"env_steps": 0.0, "mean": 40.0, "low": 30.0, "high": 50.0},
    {"env_steps": 100.0, "mean": 80.0, "low": 60.0, "high": 100.0},
]
VOID_TAGS = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text; tags must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID_TAGS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "h2", "p"):
            self.cells.append(data)


def report(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What `o2o report` prints."""
    assert main(["report", *map(str, words)]) == 0
    return capsys.readouterr().out


def refuse(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line with which `o2o report` refuses."""
    assert main(["report", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of all Markdown tables by the first cell, or the first two where the second is a stage."""
    rows = [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    rows = [[row[0].removeprefix("| "), *row[1:-1], row[-1].removesuffix(" |")] for row in rows]
    return {" ".join(row[:2]) if row[1] in ("offline", "online") else row[0]: row for row in rows}


@pytest.mark.parametrize(
    ("clone", "interval", "pairs"),
    [
        ({10_000: 0.0, 10_001: 100.0}, "–", "1 of 3"),
        ({10_000: 0.0, 10_001: 100.0, 10_002: 20.0}, "+10.0", "2 of 3"),
        ({10_001: 100.0}, "–", "1 of 3"),
    ],
)
def test_episodes_are_paired_by_their_seed_when_some_were_lost(
    clone: dict[int, float], interval: str, pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The planner is 20 points, 10 % of the references' range, better on every episode of the same seed."""
    planner = {10_001: 120.0, 10_002: 40.0}
    returns = {("offline", "rcbc_mean"): clone, ("offline", "forward_mpc_q"): planner}
    out = report(capsys, write_run(tmp_path / "run", make_summary(returns)))
    row = rows_of(out)["forward_mpc_q offline − rcbc_mean offline"]
    assert row[1:] == ["+10.0", interval, interval, "+10.0", pairs]
    assert "nan" not in out
    assert rows_of(out)["forward_mpc_q offline"][8] == "2 of 3"
    assert "Pairs of which environment errors ended an episode are left out." in out


def test_every_planner_is_compared_with_the_stronger_clone_and_the_choice_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = report(capsys, write_run(tmp_path / "run", make_summary(SCORED)))
    rows = rows_of(out)
    assert rows["forward_mpc_q offline"][2:] == ["50", "25.0", "20.0", "30.0", "25.0", "25.0", "3", "–", "1.5"]
    assert rows["best planner: forward_mpc_q offline − rcbc_mean offline"][1] == "+10.0"
    assert rows["q_only offline − rcbc_mean offline"][1] == "+1.0"
    assert rows["forward_mpc_q online − forward_mpc_q offline"][1:] == ["+15.0", "+15.0", "+15.0", "+15.0", "3"]
    assert not any("rcbc_mode" in name or "random" in name for name in rows if "−" in name)
    assert "chosen by these episodes: slightly optimistic for the planner" in out
    assert "left out" not in out
    assert "too narrow" not in out


def test_runs_that_differ_in_seed_are_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seed 1 is 20 points better everywhere; it did not come to the online stage."""
    better = {
        key: {seed: value + 20.0 for seed, value in episodes.items()}
        for key, episodes in SCORED.items()
        if key[0] == "offline"
    }
    runs = [
        write_run(tmp_path / "1", make_summary(better, seed=1)),
        write_run(tmp_path / "0", make_summary(SCORED, seed=0)),
    ]
    out = report(capsys, *runs)
    assert "2 training seeds (0, 1) × 3 episodes; dataset mean 10.0, best 30.0" in out
    rows = rows_of(out)
    assert rows["forward_mpc_q offline"][3] == "30.0"
    assert rows["forward_mpc_q offline"][7:9] == ["25.0, 35.0", "6"]
    assert rows["forward_mpc_q online"][7:9] == ["40.0, –", "3"]
    assert rows["forward_mpc_q online − forward_mpc_q offline"][1:] == ["+15.0", "+15.0", "+15.0", "+15.0, –", "3"]
    assert rows["best planner: forward_mpc_q offline − rcbc_mean offline"][4:] == ["+10.0, +10.0", "6"]
    assert "too narrow" in out
    assert str(runs[0]) in refuse(capsys, *runs, runs[0])


def test_other_configurations_are_other_tables_named_by_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = [make_summary(SCORED) for _ in range(3)]
    summaries[1]["config"]["planner"]["horizon"] = 2
    summaries[2]["dataset"]["digest"] = "e" * 64
    runs = [write_run(tmp_path / str(index), summary) for index, summary in enumerate(summaries)]
    out = report(capsys, *runs, "--output", tmp_path / "out")
    assert [line for line in out.splitlines() if line.startswith("###")] == [
        "### toy/mixed-v0 (planner.horizon = 4, dataset digest dddddddd)",
        "### toy/mixed-v0 (planner.horizon = 2, dataset digest dddddddd)",
        "### toy/mixed-v0 (planner.horizon = 4, dataset digest eeeeeeee)",
    ]
    names = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert names == {f"scores_toy-mixed-v0{suffix}.png" for suffix in ("", "-2", "-3")}


def test_scores_count_from_the_lower_reference_and_differences_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = make_summary(SCORED)
    summary["dataset"].update(reference_min=-200.0, reference_max=200.0)
    rows = rows_of(report(capsys, write_run(tmp_path / "run", summary)))
    assert rows["forward_mpc_q offline"][3:6] == ["62.5", "60.0", "65.0"]
    assert rows["best planner: forward_mpc_q offline − rcbc_mean offline"][1:5] == ["+5.0"] * 4


def test_games_learnt_together_are_reported_one_by_one_by_their_own_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = make_summary({}, schedule=SCHEDULE)
    summary["evaluations"] = [
        make_record("offline", policy, {1: base * value}, environment=game, reference_min=0.0, reference_max=base)
        for game, base in (("ALE/Pong-v5", 10.0), ("ALE/Breakout-v5", 1000.0))
        for policy, value in (("q_greedy", 0.25), ("beam", 0.75))
    ]
    out = report(capsys, write_run(tmp_path / "run", summary), "--output", tmp_path / "out")
    pong, breakout = (rows_of(text) for text in out.split("### ")[1:3])
    assert pong["beam offline"][2:4] == ["8", "75.0"]
    assert breakout["beam offline"][2:4] == ["750", "75.0"]
    assert pong["beam offline − q_greedy offline"][1] == "+50.0"
    assert [line for line in out.splitlines() if line.startswith("#")] == [
        "### toy/mixed-v0: ALE/Pong-v5",
        "### toy/mixed-v0: ALE/Breakout-v5",
        "### Atari: 2 games together",
        "### Atari: game by game",
    ]
    assert "dataset mean" not in out
    assert "optimistic" not in out
    names = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert names == {"scores_toy-mixed-v0-ALE-Pong-v5.png", "scores_toy-mixed-v0-ALE-Breakout-v5.png"}


def test_without_references_returns_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = make_summary(SCORED)
    summary["dataset"]["reference_max"] = None
    out = report(capsys, write_run(tmp_path / "run", summary))
    assert "Returns; 95 % intervals" in out
    assert rows_of(out)["forward_mpc_q offline"][2:7] == ["50", "40.0", "60.0", "50.0", "50.0"]
    assert rows_of(out)["q_only offline − rcbc_mean offline"][1] == "+2.0"


def test_the_files_hold_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, output = write_run(tmp_path / "run", make_summary(SCORED, schedule=SCHEDULE)), tmp_path / "a" / "b"
    out = report(capsys, run, "--output", output)
    pictures = ["scores_toy-mixed-v0.png", "learning_curves_toy-mixed-v0.png"]
    assert {path.name for path in output.iterdir()} == {"report.md", "report.csv", *pictures}
    text = (output / "report.md").read_text()
    assert out.startswith(text[: text.index("![")].strip())
    for name in pictures:
        assert f"]({name})" in text
        assert (output / name).read_bytes().startswith(PNG_SIGNATURE)
    frame = pandas.read_csv(output / "report.csv")
    scores = frame[frame["table"] == "scores"].set_index(["policy", "stage"])
    assert scores.loc[("forward_mpc_q", "online"), ["value", "return", "episodes"]].tolist() == [40.0, 80.0, 3]
    differences = frame[frame["table"] == "differences"]
    best = differences[differences["best_planner"] == True]  # noqa: E712 (a column that reads as objects)
    assert best[["policy", "minus_policy", "value"]].to_numpy().tolist() == [["forward_mpc_q", "rcbc_mean", 10.0]]
    assert len(frame) == len([line for line in rows_of(out) if line not in ("policy", "policy stage")]) - 1


def test_the_page_holds_everything_and_asks_for_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = [make_summary(SCORED, schedule=SCHEDULE) for _ in range(2)]
    summaries[1]["config"]["dataset"]["path"] = "<script>alert('x')</script>"
    runs = [write_run(tmp_path / str(index), summary) for index, summary in enumerate(summaries)]
    report(capsys, *runs, "--output", tmp_path / "out", "--html")
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert set(page.tags).isdisjoint({"script", "link", "iframe", "object", "base", "form", "svg"})
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    drawn = {base64.b64decode(str(source).removeprefix("data:image/png;base64,")) for source in sources}
    assert drawn == {path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    assert len(sources) == 4
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert ("content", "width=device-width, initial-scale=1") in page.attributes
    assert any("<script>alert('x')</script>" in cell for cell in page.cells)
    assert "best planner: forward_mpc_q offline − rcbc_mean offline" in page.cells
    assert page.cells.count("+10.0") == 2 * 4
    assert any("slightly optimistic for the planner" in cell for cell in page.cells)
    assert "<script" not in (tmp_path / "out" / "report.md").read_text()


def test_the_page_of_a_run_shows_what_it_drew_of_itself_plans_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", make_summary(SCORED))
    (run / "figures").mkdir()
    drawn = {"utilities.png": b"u", "plans_offline.png": b"p", "imagined_offline.gif": b"g"}
    for name, content in drawn.items():
        (run / "figures" / name).write_bytes(content)
    report(capsys, run, "--html")
    text = (run / "report" / "report.html").read_text()
    places = [text.find(f">seed 0: {name}<") for name in ("plans offline", "imagined offline", "utilities")]
    assert -1 < places[0] < places[1] < places[2]
    for kind, content in (("png", b"u"), ("png", b"p"), ("gif", b"g")):
        assert f"data:image/{kind};base64,{base64.b64encode(content).decode()}" in text


def test_whatever_a_section_holds_is_text_on_the_page() -> None:
    hostile = "<img src=x onerror='y'>&\"|"
    table = TextTable([hostile], [[hostile]], frozenset({hostile}))
    section = Section(hostile, hostile, table, table, [hostile])
    page = Page(render_page([(section, {})]))
    assert page.cells == [hostile] * 5
    assert "img" not in page.tags


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures of a report by the first word of their file names, in place of the files."""
    drawn: dict[str, Figure] = {}

    def keep(figure: Figure, path: Path) -> None:
        drawn[path.name.split("_")[0]] = figure
        path.write_bytes(PNG_SIGNATURE)

    monkeypatch.setattr(report_figures, "save_figure", keep)
    return drawn


def test_the_picture_of_scores_shows_means_intervals_and_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: dict[str, Figure]
) -> None:
    shifted = {key: {seed: value + 20.0 for seed, value in each.items()} for key, each in SCORED.items()}
    shifted[("online", "forward_mpc_q")][10_002] += 60.0
    runs = [
        write_run(tmp_path / "0", make_summary(SCORED)),
        write_run(tmp_path / "1", make_summary(shifted, seed=1)),
    ]
    out = report(capsys, *runs, "--output", tmp_path / "out")
    (axes,) = figures["scores"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "random", "rcbc_mode", "rcbc_mean", "q_only", "forward_mpc_q"
    ]  # fmt: skip
    markers = {bars.get_label(): bars.lines[0].get_xdata().tolist() for bars in axes.containers}
    assert markers["online: mean, 95 %"] == [6.0, 50.0]
    assert markers["offline: mean, 95 %"] == [6.0, 15.0, 20.0, 21.0, 30.0]
    places = {bars.get_label()[:7].strip(":"): bars.lines[0].get_ydata() for bars in axes.containers}
    assert places["offline"].round().tolist() == [0, 1, 2, 3, 4]
    assert places["online"].round().tolist() == [0, 4]
    assert not set(places["offline"]) & set(places["online"])
    online = next(bars for bars in axes.containers if bars.get_label().startswith("online"))
    ends = online.lines[2][0].get_segments()[1][:, 0]
    assert [f"{end:.1f}" for end in ends] == rows_of(out)["forward_mpc_q online"][4:6]
    dots = np.concatenate([dots.get_offsets()[:, 0] for dots in axes.collections if len(dots.get_offsets()) == 2])
    assert {40.0, 60.0} <= set(dots.tolist())
    assert len(dots) == 2 * 7


def test_the_picture_of_learning_shows_every_seed_and_their_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: dict[str, Figure]
) -> None:
    later = [{**SCHEDULE[0], "mean": 60.0}, {**SCHEDULE[1], "env_steps": 120.0, "mean": 120.0}]
    events = [{"kind": "metrics", "step": at, "values": {"rollout/return_mean": 2.0 * at}} for at in (10, 50)]
    runs = [
        write_run(tmp_path / "0", make_summary(SCORED, schedule=SCHEDULE), events),
        write_run(tmp_path / "1", make_summary(SCORED, seed=1, schedule=later)),
    ]
    report(capsys, *runs, "--output", tmp_path / "out")
    (axes,) = figures["learning"].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["seed 0"].get_xydata().tolist() == [[0.0, 20.0], [100.0, 40.0]]
    assert lines["seed 1"].get_xydata().tolist() == [[0.0, 30.0], [120.0, 60.0]]
    mean = lines["mean of seeds"].get_xydata()
    assert mean[[0, -1]].tolist() == [[0.0, 25.0], [100.0, pytest.approx((40.0 + 55.0) / 2)]]
    assert [[10.0, 10.0], [50.0, 50.0]] in [line.get_xydata().tolist() for line in axes.lines]
    assert axes.get_ylabel() == "normalised score"


def test_runs_that_never_went_online_have_no_learning_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: dict[str, Figure]
) -> None:
    report(capsys, write_run(tmp_path / "0", make_summary(SCORED)), "--output", tmp_path / "out")
    assert list(figures) == ["scores"]


def test_exploration_is_read_from_the_log_as_the_last_resumption_left_it(tmp_path: Path) -> None:
    assert read_exploration(tmp_path) == []
    returns = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 5.0), (40, 6.0)]
    events: list[Any] = [
        {"kind": "metrics", "step": step, "values": {"rollout/return_mean": value}} for step, value in returns
    ]
    events[1:1] = [
        {"kind": "note", "message": "resumed"},
        {"kind": "metrics", "step": "15", "values": {"rollout/return_mean": 9.0}},
        {"kind": "metrics", "step": 15, "values": {"rollout/return_mean": float("nan")}},
        {"kind": "metrics", "step": 15, "values": [9.0]},
    ]
    run = write_run(tmp_path / "run", make_summary(SCORED), events)
    with (run / "events.jsonl").open("a") as stream:
        stream.write("not JSON\n" + '{"step": 50')
    assert read_exploration(run) == [(10, 1.0), (20, 5.0), (40, 6.0)]


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", make_summary(SCORED))
    assert "--output" in refuse(capsys, run, run, "--html")
    (tmp_path / "file").write_text("mine")
    assert main(["report", str(run), "--output", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_summary_may_be_named_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", make_summary(SCORED))
    assert report(capsys, run / "summary.json") == report(capsys, run)
