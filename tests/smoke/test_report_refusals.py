"""What `o2o report` refuses as a run: in one line that names the file and the place in it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from system.cli.main import main
from tests.support.summary_factory import Returns, make_record, make_summary, write_run

SCORED: Returns = {
    ("offline", "rcbc_mode"): {10_000: 10.0, 10_001: 20.0, 10_002: 30.0},
    ("offline", "q_only"): {10_000: 22.0, 10_001: 32.0, 10_002: 42.0},
}
ENTRY = {"env_steps": 0.0, "mean": 40.0, "low": 30.0, "high": 50.0}
PREDICTION = {"stage": "offline", "capability": "id", "predicted": "actions", "error": [0.5], "episodes": 3}


def refuse(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line with which `o2o report` refuses."""
    assert main(["report", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def change(*path: str | int, to: Any = None, drop: bool = False) -> Callable[[dict[str, Any]], None]:
    """Sets or removes one value of a summary."""

    def apply(summary: Any) -> None:
        for part in path[:-1]:
            summary = summary[part]
        if drop:
            del summary[path[-1]]
        else:
            summary[path[-1]] = to

    return apply


DAMAGES = [
    (change("config", drop=True), "config is missing"),
    (change("config", to=[]), "config is not an object"),
    (change("config", "planner", "horizn", to=1), "planner.horizn"),
    (change("config", "planner", "horizon", to="x"), "planner.horizon"),
    (change("seed", to="0"), "seed is not an integer"),
    (change("seed", to=True), "seed is not an integer"),
    (change("seed", to=4), "seed: 4 is not config.seed = 0"),
    (change("dataset", to=None), "dataset is not an object"),
    (change("dataset", "id", to=5), "dataset.id is not a short text"),
    (change("dataset", "id", to="a\nb"), "dataset.id is not a short text"),
    (change("evaluations", 0, "environment", to=""), "evaluations[0].environment is not a short text"),
    (change("dataset", "return_mean", to="1"), "dataset.return_mean is not a finite number"),
    (change("dataset", "return_max", to=10**400), "dataset.return_max is not a finite number"),
    (change("dataset", "reference_max", to=-1.0), "dataset.reference_max is not above"),
    (change("evaluations", to={}), "evaluations is not a list"),
    (change("evaluations", to=[]), "evaluations: none yet"),
    (change("evaluations", 1, to=3), "evaluations[1] is not an object"),
    (change("evaluations", 1, "stage", to="later"), "evaluations[1].stage is none of offline, online"),
    (change("evaluations", 1, "policy", to="<b>"), "evaluations[1].policy is not a name"),
    (change("evaluations", 0, "returns", to=5.0), "evaluations[0].returns is not a list"),
    (change("evaluations", 0, "returns", 2, to=None), "evaluations[0].returns[2] is not a finite number"),
    (change("evaluations", 0, "returns", 2, to=float("nan")), "evaluations[0].returns[2] is not a finite number"),
    (change("evaluations", 0, "returns", 2, drop=True), "evaluations[0].seeds are 3 different ones for 2 returns"),
    (change("evaluations", 0, "seeds", 2, to=10_000), "evaluations[0].seeds are 2 different ones for 3 returns"),
    (change("evaluations", 0, "seeds", 2, to=1.5), "evaluations[0].seeds[2] is not an integer"),
    (change("evaluations", 0, "seeds", drop=True), "evaluations[0].seeds is missing"),
    (change("evaluations", 0, "decision_ms_p50", to=[1]), "evaluations[0].decision_ms_p50 is not a finite number"),
    (change("evaluations", 0, to=make_record("offline", "q_only", {})), "evaluations[0].returns are none"),
    (change("evaluations", 1, to=make_record("offline", "rcbc_mode", {1: 1.0})), "listed twice"),
    (change("schedule", to=[1]), "schedule[0] is not an object"),
    (change("schedule", to=[{**ENTRY, "low": "-"}]), "schedule[0].low is not a finite number"),
    (change("capabilities", to={}), "capabilities is not a list"),
    (change("capabilities", to=[PREDICTION] * 2), "capabilities[1].predicted is listed twice"),
    (change("capabilities", to=[{**PREDICTION, "error": []}]), "capabilities[0].error has no step"),
    (change("capabilities", to=[{**PREDICTION, "error": [None]}]), "capabilities[0].error[0] is not a finite"),
    (change("capabilities", to=[{**PREDICTION, "stage": "later"}]), "capabilities[0].stage is none of"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_damaged_summary_is_refused_by_file_and_place(
    damage: Callable[[dict[str, Any]], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = copy.deepcopy(make_summary(SCORED))
    damage(summary)
    run = write_run(tmp_path / "run", summary)
    error = refuse(capsys, run)
    assert str(run / "summary.json") in error
    assert message in error


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '"summary"', "[" * 100_000, json.dumps(make_summary(SCORED))[:-40], "\x00\ud800"],
    ids=["empty", "half", "list", "number", "text", "deep", "cut", "binary"],
)
def test_another_file_in_its_place_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", "")
    (run / "summary.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert str(run / "summary.json") in refuse(capsys, run)


def test_a_run_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path / 'summary.json'}: no such file; the run is unfinished" in refuse(capsys, tmp_path)
    assert f"{tmp_path / 'nothing'}: no such run directory" in refuse(capsys, tmp_path / "nothing")
    assert str(tmp_path / "absent") in refuse(capsys, tmp_path / "absent")
