"""F12: the driver is killed at named points; the same command ends with the same weights."""

from pathlib import Path

import pytest

from system.runs.run_directory import SUMMARY
from tests.support.tiny_games import write_tiny_game_config
from tests.support.tiny_runs import finish_run, learner_digest, read_summary, run_o2o, write_tiny_config

POINTS = ["checkpoint.before_complete:2", "learner.step:13", "replay.after_append:2"]
MANY_POINTS = [
    f"{name}:{count}"
    for name, counts in (
        ("checkpoint.mid_write", range(1, 60, 6)),
        ("checkpoint.before_complete", range(1, 11)),
        ("checkpoint.after_complete", range(1, 11)),
        ("learner.step", range(1, 45, 4)),
        ("replay.before_append", range(1, 4)),
        ("replay.mid_append", range(1, 4)),
        ("replay.after_append", range(1, 4)),
    )
    for count in counts
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish_run(folder, write_tiny_config(folder))
    return learner_digest(folder / "run"), read_summary(folder / "run")


def killed_and_resumed(folder: Path, config: Path, point: str, undisturbed: tuple[str, dict]) -> None:
    words = ("run", str(config), "--run-dir", "run", "--quiet")
    killed = run_o2o(folder, *words, environment={"O2O_FAULT": f"{point}:SIGKILL"})
    assert killed.returncode == -9, f"{point} was not reached: {killed.stderr}"
    assert not (folder / "run" / SUMMARY).exists()
    finish_run(folder, config)
    digest, summary = undisturbed
    assert learner_digest(folder / "run") == digest
    after = read_summary(folder / "run")
    assert [each["returns"] for each in after["evaluations"]] == [
        each["returns"] for each in summary["evaluations"]
    ]
    assert after["schedule"] == summary["schedule"]
    assert after["utility_rank_correlation"] == summary["utility_rank_correlation"]


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_driver_goes_on_exactly(point: str, tmp_path: Path, undisturbed: tuple[str, dict]) -> None:
    killed_and_resumed(tmp_path, write_tiny_config(tmp_path), point, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["learner.step:8"])
def test_a_killed_run_of_the_world_action_family_goes_on_exactly(point: str, tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    configs = []
    for folder in (calm, killed):
        folder.mkdir()
        configs.append(write_tiny_game_config(folder, evaluation={"policies": ["q_greedy"]}))
    finish_run(calm, configs[0])
    undisturbed = learner_digest(calm / "run"), read_summary(calm / "run")
    killed_and_resumed(killed, configs[1], point, undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("point", MANY_POINTS)
def test_a_killed_driver_goes_on_exactly_from_anywhere(
    point: str, tmp_path: Path, undisturbed: tuple[str, dict]
) -> None:
    killed_and_resumed(tmp_path, write_tiny_config(tmp_path), point, undisturbed)
