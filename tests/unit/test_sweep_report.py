"""What a sweep shows: the table, what it says beside it, and files of which none is empty."""

from pathlib import Path

from system.sweeps.ranking import Outcome, rank
from system.sweeps.report import (
    SweepResults,
    describe_sweep,
    format_terminal,
    short_names,
    write_sweep_report,
)

POINTS = {
    number: {"planner.horizon": 1 + number % 3, "planner.select": "argmax"}
    | ({"planner.temperature": 10.0**number} if number % 2 else {})
    for number in range(20)
}
EPISODES = [float(-3 + step) for step in range(7)]


def outcome(number: int, level: float) -> Outcome:
    return Outcome([level + each for each in EPISODES], list(range(7)), 1.0 + number, 2.0, 9)


def results_of(*, final: bool = True, failures: tuple[str, ...] = ()) -> SweepResults:
    search = {number: [outcome(number, 10.0 * number)] for number in POINTS}
    finals = {
        19: [outcome(19, 100.0)],
        18: [Outcome(outcome(18, 99.9).returns[::-1], list(range(7)), 2.0, 1.0, 9)],
    }
    return SweepResults(
        title="Sweep of a toy",
        about="20 configurations.",
        objective="return_mean",
        keys=["planner.horizon", "planner.select", "planner.temperature"],
        search=rank("search", POINTS, search, "return_mean"),
        final=rank("final", POINTS, finals if final else {}, "return_mean"),
        failures=list(failures),
    )


def test_names_are_short_unless_they_are_the_same() -> None:
    names = short_names(
        ["planner.horizon", "masked_trajectory.critic.learning_rate", "world_action.training.learning_rate"]
    )
    assert list(names.values()) == ["horizon", "critic.learning_rate", "training.learning_rate"]


def test_the_table_starts_with_the_best_of_the_final_round() -> None:
    lines = format_terminal(results_of()).splitlines()
    assert lines[0].split() == [
        *("configuration", "horizon", "select", "temperature", "search", "final"),
        *("low", "high", "episodes", "ms", "marks"),
    ]
    assert lines[1].split()[:2] == ["19", "2"]
    assert lines[1].split()[-2:] == ["best", "front"]
    assert lines[3].split()[0] == "17"
    assert "… and 5 more" in lines
    assert any(
        "Configuration 18 is not clearly worse than the best and decides in 2.0 ms" in line for line in lines
    )


def test_what_went_wrong_is_told() -> None:
    remarks = describe_sweep(results_of(final=False, failures=("0003-seed0 (broken)",))).remarks
    assert "Given up: 0003-seed0 (broken)." in remarks
    assert any("by chance" in remark for remark in remarks)


def test_the_report_is_written_with_its_pictures(tmp_path: Path) -> None:
    written = write_sweep_report(results_of(), tmp_path / "report")
    assert {path.name for path in written} == {
        *("report.md", "report.html", "parameters.png", "pareto_front.png", "interactions.png")
    }
    assert all(path.stat().st_size > 1000 for path in written)
    assert (tmp_path / "report" / "report.html").read_text().count("data:image/png") == 3
    assert "19 − 18" in (tmp_path / "report" / "report.md").read_text()
