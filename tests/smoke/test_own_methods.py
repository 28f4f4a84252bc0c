"""A family and a planner of one's own, each in one file, go through every verb; nothing else is edited."""

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from system import fault_points
from system.cli.main import main
from system.config.registry import FAMILIES, PLANNERS
from tests.support.tiny_runs import finish_run, learner_digest, read_summary, run_o2o, write_tiny_config

SUPPORT = Path(__file__).parents[1] / "support"
ONLINE = {"explore_with": "configured", "env_steps": 60, "evaluate_every_env_steps": 1000}
CASES: dict[str, dict[str, Any]] = {
    "family": {
        "modules": ["tests.support.toy_family"],
        "family": "toy",
        "toy": {"learning_rate": 0.02},
        "evaluation": {"policies": ["linear", "toy_forward_mpc"]},
    },
    "planner": {
        "modules": ["tests.support.toy_planner"],
        "planner": {"name": "toy_shooting"},
        "evaluation": {"policies": ["rcbc_mean", "toy_shooting_q"]},
    },
}
PLANNED = {"family": "toy_forward_mpc", "planner": "toy_shooting_q"}


def write_config(folder: Path, case: str, **changes: Any) -> Path:
    """The tiny run of a case."""
    merged: dict[str, Any] = {"online": ONLINE, **CASES[case]}
    for key, value in changes.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return write_tiny_config(folder, **merged)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Both, as `modules` would have them; and afterwards neither."""
    known = dict(FAMILIES), dict(PLANNERS)
    family, planner = (importlib.import_module(f"tests.support.{name}") for name in ("toy_family", "toy_planner"))
    FAMILIES[family.NAME], PLANNERS[planner.NAME] = family.FAMILY, planner.PLANNER
    yield
    for registry, before in zip((FAMILIES, PLANNERS), known, strict=True):
        registry.clear()
        registry.update({name: each for name, each in before.items() if name not in (family.NAME, planner.NAME)})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {case: tmp_path_factory.mktemp(case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_it_is_trained_evaluated_and_learns_online(case: str, folders: dict[str, Path]) -> None:
    folder = folders[case]
    finish_run(folder, write_config(folder, case))
    summary = read_summary(folder / "run")
    assert summary["config"]["modules"] == CASES[case]["modules"]
    evaluated = [(each["stage"], each["policy"]) for each in summary["evaluations"]]
    policies = CASES[case]["evaluation"]["policies"]
    assert evaluated == [(stage, policy) for stage in ("offline", "online") for policy in policies]
    assert summary["stages"]["online"]["steps"] >= 60
    assert summary["exploration"]["policy"] == PLANNED[case]
    planned = [(each["a"], each["b"]) for each in summary["comparisons"] if each["stage"] == "offline"]
    assert planned == [(PLANNED[case], policies[0])]
    ranked = [(each["stage"], each["policy"]) for each in summary["utility_rank_correlation"]]
    assert ranked == [(stage, PLANNED[case]) for stage in ("offline", "online")]


@pytest.mark.parametrize("case", CASES)
def test_stopped_in_the_online_stage_it_goes_on_bit_for_bit(
    case: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, case)
    fault_points._REACHED.clear()
    monkeypatch.setenv("O2O_FAULT", "learner.step:28:SIGTERM")
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 143
    monkeypatch.delenv("O2O_FAULT")
    assert not (tmp_path / "run" / "summary.json").exists()
    finish_run(tmp_path, config)
    assert read_summary(tmp_path / "run")["faults"]["driver_resumed"] == 1
    assert learner_digest(tmp_path / "run") == learner_digest(folders[case] / "run")


@pytest.mark.parametrize("case", CASES)
def test_its_checkpoint_is_evaluated_and_its_run_reported(
    case: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folders[case] / "run"
    words = ["evaluate", str(run), "--set", "planner.num_candidates=2", "--output", str(tmp_path / "found.json")]
    assert main([*words, "--set", "evaluation.ranked_states=0", "--quiet"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["utility_rank_correlation"] == [], "it was left out"
    assert [each["policy"] for each in found["evaluations"]] == CASES[case]["evaluation"]["policies"]
    capsys.readouterr()
    assert main(["report", str(run), "--output", str(tmp_path / "report")]) == 0
    assert PLANNED[case] in capsys.readouterr().out
    assert (tmp_path / "report" / "report.md").exists()


@pytest.mark.usefixtures("ray_session")
def test_the_family_is_swept_by_its_own_keys_and_known_to_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, "family", pretrain={"update_steps": 4}, online={"env_steps": 12})
    sweep = {
        "kind": "run",
        "config": str(config),
        "searcher": "grid",
        "set": {"rollout_workers": 1},
        "concurrent": 1,
        "space": {"toy.learning_rate": {"grid": [0.01, 0.03]}},
    }
    Path("own.yaml").write_text(yaml.safe_dump(sweep))
    assert main(["sweep", "own.yaml", "--run-dir", "sweep", "--quiet"]) == 0
    summary = read_summary(tmp_path / "sweep")
    assert {each["point"]["toy.learning_rate"] for each in summary["search"]} == {0.01, 0.03}
    assert summary["faults"] == {"trial_retried": 0, "trial_given_up": 0}


@pytest.mark.usefixtures("ray_session")
def test_the_planner_is_swept(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders["planner"])
    sweep = {
        "kind": "planner",
        "checkpoint": "run",
        "searcher": "grid",
        "episodes": 1,
        "finalists": 0,
        "set": {"modules": CASES["planner"]["modules"]},
        "space": {"planner.horizon": {"grid": [1, 2]}},
    }
    Path("own.yaml").write_text(yaml.safe_dump(sweep))
    assert main(["sweep", "own.yaml", "--run-dir", "sweep", "--quiet"]) == 0
    best = yaml.safe_load(Path("sweep/best.yaml").read_text())
    assert (best["planner"]["name"], best["modules"]) == ("toy_shooting", CASES["planner"]["modules"])
    sweep["space"] = {"planner.beam_width": {"grid": [1, 2]}}
    Path("own.yaml").write_text(yaml.safe_dump(sweep))
    assert main(["sweep", "own.yaml", "--run-dir", "other", "--quiet"]) == 2


def test_a_lone_file_beside_the_user_is_enough_and_a_checkpoint_imports_nothing(tmp_path: Path) -> None:
    """In processes of their own, as a user would have it."""
    shutil.copy(SUPPORT / "toy_family.py", tmp_path / "my_family.py")
    config = write_config(tmp_path, "family", modules=["my_family"], pretrain={"update_steps": 4})
    done = run_o2o(tmp_path, "pretrain", config.name, "--run-dir", "run", "--quiet")
    assert done.returncode == 0, done.stderr
    words = ("evaluate", "run", "--quiet", "--policies", "linear")
    refused = run_o2o(tmp_path, *words)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "'toy' is not one of" in refused.stderr
    assert "modules = [my_family], to be named here too if you trust them" in refused.stderr
    assert run_o2o(tmp_path, *words, "--set", "modules=[my_family]").returncode == 0
    assert "my_family" not in sys.modules


def test_modules_that_are_not_there_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, reason in (
        ("no_such_toy", "no_such_toy can't be imported (ModuleNotFoundError: No module named 'no_such_toy')"),
        ("rm -rf", "modules: 'rm -rf' is not the name of a module"),
        ("tests.support.no_toy", "modules: tests.support.no_toy can't be imported"),
    ):
        config = write_config(tmp_path, "family", modules=[name])
        assert main(["run", str(config), "--run-dir", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert main(["report", str(tmp_path / "run"), "--modules", "no_such_toy"]) == 2
    assert capsys.readouterr().err.startswith("o2o: error: --modules: no_such_toy can't be imported")
