"""The console's progress: sparse lines in a log, one redrawn line on a terminal."""

import io

import pytest

from system.tracking.console import ConsoleTracker, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_the_first_and_the_last_line() -> None:
    stream = io.StringIO()
    console = ConsoleTracker(stream=stream)
    for done in range(0, 101):
        console.progress("offline", done, 100, "updates")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["offline", "0/100", "updates"]
    assert "100/100 updates" in lines[1]


def test_a_terminal_gets_one_line_redrawn() -> None:
    stream = Terminal()
    console = ConsoleTracker(stream=stream)
    console.progress("offline", 1, 10, "updates")
    console.progress("offline", 10, 10, "updates")
    console.close()
    assert stream.getvalue().count("\n") == 1


def test_metrics_show_in_the_next_line_and_notes_stand_alone() -> None:
    stream = io.StringIO()
    console = ConsoleTracker(stream=stream)
    console.log_metrics({"offline/trajectory/nll_loss": 1.25}, step=1)
    console.progress("offline", 0, 1, "updates")
    console.log_metrics({"offline/trajectory/nll_loss": 0.5, "evaluation/offline/random/return_mean": 9.0}, step=1)
    console.note("resumed")
    console.progress("offline", 1, 1, "updates")
    lines = stream.getvalue().splitlines()
    assert lines[1] == "resumed"
    assert lines[2].endswith("nll 0.5")


def test_quiet_keeps_the_notes() -> None:
    stream = io.StringIO()
    console = ConsoleTracker(stream=stream, quiet=True)
    console.progress("offline", 1, 1, "updates")
    console.note("resumed")
    assert stream.getvalue() == "resumed\n"


@pytest.mark.parametrize(("seconds", "text"), [(7.9, "7 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text
