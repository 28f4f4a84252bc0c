"""`o2o report` on Atari runs: normalised scores of each game and over games, by what is worked out by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas
import pytest

from system.cli.main import main
from tests.support.summary_factory import make_record, make_summary, write_run

PONG, BREAKOUT, ALIEN = "ALE/Pong-v5", "ALE/Breakout-v5", "ALE/Alien-v5"
RANGES = {PONG: (-20.7, 14.6), BREAKOUT: (1.7, 30.5), ALIEN: (227.8, 7127.7)}
Scores = Mapping[str, Mapping[tuple[str, str], list[float]]]

GREEDY, BEAM, LATER = ("offline", "q_greedy"), ("offline", "beam"), ("online", "beam")


def at(environment: str, score: float) -> float:
    """The return with this human-normalised score."""
    low, high = RANGES[environment]
    return low + (high - low) * score / 100.0


def run_dir(folder: Path, scores: Scores, *, seed: int = 0, **changes: Any) -> Path:
    """A finished run with these human-normalised scores, by environment, stage and policy."""
    summary = make_summary({}, seed=seed)
    summary["evaluations"] = [
        make_record(
            *key,
            {10_000 + index: at(environment, value) for index, value in enumerate(values)},
            environment=environment,
            reference_min=RANGES[environment][0],
            reference_max=RANGES[environment][1],
        )
        for environment, policies in scores.items()
        for key, values in policies.items()
    ]
    summary["dataset"]["id"] = " + ".join(scores)
    for key, value in changes.items():
        section, name = key.split("__")
        summary["config"][section][name] = value
    return write_run(folder, summary)


def sections(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, str]:
    """The Atari sections of a report, by title."""
    assert main(["report", *map(str, words)]) == 0
    parts = capsys.readouterr().out.split("### ")[1:]
    return {part.splitlines()[0]: part for part in parts if part.startswith("Atari")}


def cells(text: str, *first: str) -> list[str]:
    """The rest of the row that begins with these cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    (found,) = [row[len(first) :] for row in rows if row[: len(first)] == list(first)]
    return found


def test_scores_of_a_game_are_of_people_and_of_dqn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        run_dir(tmp_path / str(seed), {PONG: {BEAM: [50.0 + 20.0 * seed] * 3}}, seed=seed) for seed in range(2)
    ]
    found = sections(capsys, *runs)
    assert list(found) == ["Atari: game by game"]
    mean = at(PONG, 60.0)
    dqn = [f"{100 * (at(PONG, score) + 20.7) / 37.3:.1f}" for score in (60.0, 50.0, 70.0)]
    assert cells(found["Atari: game by game"], "Pong", "beam", "offline") == [
        f"{mean:.1f}", f"{mean + 20.7:.1f}", "60.0", "50.0 to 70.0", dqn[0], f"{dqn[1]} to {dqn[2]}"
    ]  # fmt: skip


def test_games_learnt_apart_are_strata_of_one_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 40, 60, 80 and 80 the middle two are 60 and 80; with Pong's seeds at 40, 40 or 60, 60 others are."""
    runs = [
        run_dir(
            tmp_path / f"{environment[4:]}{seed}",
            {environment: {GREEDY: [base + spread * seed] * 3, BEAM: [base + spread * seed + 7.0] * 3}},
            seed=seed,
            dataset__id=environment,
        )
        for environment, base, spread in ((PONG, 40.0, 20.0), (BREAKOUT, 80.0, 0.0))
        for seed in range(2)
    ]
    text = sections(capsys, *runs)["Atari: 2 games together"]
    assert cells(text, "q_greedy", "offline")[:2] == ["70.0", "60.0 to 70.0"]
    assert cells(text, "q_greedy", "offline")[4:] == ["2", "4"]
    assert cells(text, "beam offline − q_greedy offline") == ["+7.0", "+7.0", "+7.0", "2", "4"]


def test_games_learnt_together_are_drawn_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A seed gains in one game what it loses in the other."""
    runs = [
        run_dir(
            tmp_path / str(seed),
            {
                PONG: {BEAM: [40.0 + 20.0 * seed] * 3, LATER: [70.0] * 3},
                BREAKOUT: {BEAM: [60.0 - 20.0 * seed] * 3, LATER: [70.0] * 3},
            },
            seed=seed,
        )
        for seed in range(2)
    ]
    text = sections(capsys, *runs)["Atari: 2 games together"]
    assert cells(text, "beam", "offline")[:2] == ["50.0", "50.0 to 50.0"]
    assert cells(text, "beam", "offline")[4:] == ["2", "2"]
    assert cells(text, "beam online − beam offline") == ["+20.0", "+20.0", "+20.0", "2", "2"]


def test_a_game_without_a_score_of_dqn_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_dir(tmp_path / "run", {PONG: {BEAM: [50.0]}, ALIEN: {BEAM: [90.0]}})
    found = sections(capsys, run)
    alien = cells(found["Atari: game by game"], "Alien", "beam", "offline")
    assert alien[2:] == ["90.0", "90.0 to 90.0", "–", "–"]
    overall = cells(found["Atari: 2 games together"], "beam", "offline")
    assert (overall[0], overall[4]) == ("70.0", "2, DQN 1")
    assert overall[2] == f"{100 * (at(PONG, 50.0) + 20.7) / 37.3:.1f}"
    for text in found.values():
        assert "No DQN score is known of ALE/Alien-v5: left out there." in text


def test_recipes_are_told_apart_and_never_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        run_dir(
            tmp_path / f"{width}{environment[4:]}",
            {environment: {BEAM: [float(width)]}},
            dataset__id=environment,
            planner__beam_width=width,
        )
        for width in (2, 4)
        for environment in (PONG, BREAKOUT)
    ]
    text = sections(capsys, *runs)["Atari: 2 games together"]
    assert cells(text, "planner.beam_width = 2", "beam", "offline")[0] == "2.0"
    assert cells(text, "planner.beam_width = 4", "beam", "offline")[0] == "4.0"


def test_a_second_dataset_of_a_game_counts_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for number, score in enumerate((10.0, 30.0)):
        runs.append(run_dir(tmp_path / str(number), {PONG: {BEAM: [score]}}, dataset__id=f"pong/{number}-v0"))
    text = sections(capsys, *runs)["Atari: game by game"]
    assert [line.split("|")[7].strip() for line in text.splitlines() if "| Pong |" in line] == ["10.0", "30.0"]


def test_the_cut_of_episodes_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_dir(tmp_path / "run", {PONG: {BEAM: [50.0]}}, evaluation__max_episode_steps=2000)
    assert "Episodes are cut after 2000 decisions." in sections(capsys, run)["Atari: game by game"]


def test_the_files_hold_the_games_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_dir(tmp_path / "run", {PONG: {BEAM: [50.0]}, ALIEN: {BEAM: [90.0]}})
    out = tmp_path / "out"
    assert main(["report", str(run), "--output", str(out), "--html"]) == 0
    printed = capsys.readouterr().out
    assert "### Atari: game by game" in (out / "report.md").read_text()
    assert "<h2>Atari: 2 games together</h2>" in (out / "report.html").read_text()
    assert "### Atari: game by game" in printed
    frame = pandas.read_csv(out / "report.csv").set_index(["table", "environment", "unit"])
    assert frame.loc[("game", ALIEN, "human"), "value"] == pytest.approx(90.0)
    assert ("game", ALIEN, "dqn") not in frame.index
    both, pong = (frame.loc[("games together", *key)] for key in ((f"{PONG} + {ALIEN}", "human"), (PONG, "dqn")))
    assert (both["value"], both["episodes"], pong["episodes"]) == (pytest.approx(70.0), 2, 1)
