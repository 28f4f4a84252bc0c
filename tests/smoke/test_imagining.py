"""A family that imagines goes through a run, is stopped in the midst of imagining, and through the other verbs."""

import json
from pathlib import Path

import h5py
import pytest

import system
from system import fault_points
from system.cli.main import main
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.store.episodes import EpisodeStore
from tests.support.tiny_families import IMAGINATION, MEASURED
from tests.support.tiny_families import write_imagination_config as write_config
from tests.support.tiny_runs import DATASET, finish_run, learner_digest, read_summary, run_o2o, write_tiny_config

POLICIES = ["quasi_optimal", "imagined_mpc", "ipd", "decision_transformer"]
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a finished run."""
    folder = tmp_path_factory.mktemp("imagining")
    finish_run(folder, write_config(folder))
    return folder


def test_a_run_imagines_offline_and_on_a_schedule_online(folder: Path) -> None:
    summary = read_summary(folder / "run")
    evaluated = [(each["stage"], each["policy"]) for each in summary["evaluations"]]
    assert evaluated == [(stage, policy) for stage in ("offline", "online") for policy in MEASURED]
    stages = [(each["stage"], each["env_steps"] // 30) for each in summary["imagined"]]
    assert stages[0] == ("offline", 0)
    assert stages[1:] == [("online", number) for number in range(1, len(stages))]
    assert len(stages) >= 2
    for each in summary["imagined"]:
        assert 0 < each["rollouts"] <= each["steps"] <= each["recorded_steps"]
        counts = dict(each["counts"])
        assert counts.pop("begun") == sum(counts.values())
    assert summary["exploration"]["policy"] in ("ipd", "imagined_mpc")


def assert_same_run(ours: Path, theirs: Path) -> None:
    """The same was imagined, and the same learnt of it."""
    imagined = [read_summary(each / "run")["imagined"] for each in (ours, theirs)]
    for record in (*imagined[0], *imagined[1]):
        record.pop("seconds")
    assert imagined[0] == imagined[1]
    assert learner_digest(ours / "run") == learner_digest(theirs / "run")


def test_killed_while_imagining_it_goes_on_bit_for_bit_and_imagines_nothing_twice(
    folder: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path)
    fault = {"O2O_FAULT": "imagining.chunk:1:SIGKILL"}
    killed = run_o2o(tmp_path, "run", config.name, "--run-dir", "run", "--quiet", environment=fault)
    assert killed.returncode == -9, killed.stderr
    (made,) = (tmp_path / "run" / "imagined").glob("chunk-*")
    when = made.stat().st_mtime_ns
    finish_run(tmp_path, config)
    assert made.stat().st_mtime_ns == when
    assert_same_run(tmp_path, folder)


def test_evaluators_over_ray_imagine_what_one_process_does(folder: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    ran = run_o2o(tmp_path, "run", config.name, "--run-dir", "run", "--quiet", "--set", "evaluators=2")
    assert ran.returncode == 0, ran.stderr
    assert_same_run(tmp_path, folder)


def test_stopped_in_the_online_stage_it_goes_on_bit_for_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    fault_points._REACHED.clear()
    monkeypatch.setenv("O2O_FAULT", "learner.step:38:SIGTERM")
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 143
    monkeypatch.delenv("O2O_FAULT")
    finish_run(tmp_path, config)
    assert_same_run(tmp_path, folder)


def test_its_checkpoint_is_evaluated_and_exported(folder: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(folder / "run"), "--output", str(tmp_path / "found.json"), "--quiet"]
    assert main([*words, "--policies", ",".join(POLICIES)]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["policy"] for each in found["evaluations"]] == POLICIES
    for policy in POLICIES:
        program = [] if policy == "imagined_mpc" else ["--one-pass", "torch-export"]
        target = tmp_path / policy
        assert main(["export", str(folder / "run"), str(target), "--policy", policy, *program]) == 0
        agent, original = system.load_agent(target), system.load_agent(folder / "run", policy=policy)
        for each in (agent, original):
            each.reset()
        observation = [0.1, 0.2, -0.1, 0.0]
        assert agent.act(observation).tolist() == original.act(observation).tolist()


def imagine(folder: Path, *words: str) -> int:
    return main(["imagine", str(folder / "run"), "--quiet", *words])


@pytest.mark.usefixtures("ray_session")
def test_a_checkpoint_imagines_a_dataset_the_same_with_two_workers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("system.training.imagining.CHUNK_STEPS", 20)
    minari = ["--minari", "toy/imagined-v0", "--output", str(tmp_path / "datasets")]
    assert imagine(folder, "--run-dir", str(tmp_path / "alone"), *minari) == 0
    assert len(list((tmp_path / "alone" / "chunks").glob("chunk-*"))) > 3
    assert imagine(folder, "--run-dir", str(tmp_path / "two"), "--workers", "2") == 0
    alone, two = ((tmp_path / name / "rollouts.safetensors").read_bytes() for name in ("alone", "two"))
    assert alone == two
    summary = read_summary(tmp_path / "alone")
    rollouts = ImaginedRollouts.from_bytes(alone, "alone")
    assert summary["imagined"]["steps"] == rollouts.num_steps > 0
    store = EpisodeStore.open(tmp_path / "alone" / "dataset")
    assert store.num_steps == rollouts.num_steps
    capsys.readouterr()
    assert imagine(folder, "--run-dir", str(tmp_path / "alone")) == 0
    assert "imagined steps a second" in capsys.readouterr().out, "finished, it is shown again"
    assert main(["data", "check", "toy/imagined-v0", "--path", str(tmp_path / "datasets")]) == 0
    shown = capsys.readouterr().out
    assert f"imagined, not recorded: by model {summary['model'][:12]}, from {DATASET}; disagreement" in shown
    with h5py.File(tmp_path / "datasets/toy/imagined-v0/data/main_data.hdf5") as written:
        infos = written["episode_0/infos"]
        assert infos["imagined"][:].tolist() == [False] + [True] * int(rollouts.lengths[0])
        assert infos["disagreement"][1] == rollouts.disagreements[0, 0]


def test_what_cannot_be_imagined_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = (
        (["--output", str(tmp_path)], "--output: goes with --minari"),
        (["--workers", "-1"], "--workers: -1 is less than 0"),
        (["--set", "imagination.augmentation.ratio=0"], "nothing was imagined"),
    )
    for words, reason in cases:
        code = imagine(folder, "--run-dir", str(tmp_path / "run"), "--restart", *words)
        error = capsys.readouterr().err
        assert (code, error.count("\n")) == (1 if "ratio" in words[-1] else 2, 1)
        assert reason in error
    other = write_tiny_config(tmp_path, pretrain={"update_steps": 2}, evaluation={"policies": ["rcbc_mode"]})
    assert main(["pretrain", str(other), "--run-dir", str(tmp_path / "masked"), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["imagine", str(tmp_path / "masked"), "--run-dir", str(tmp_path / "no")]) == 2
    assert "does not imagine from a dataset" in capsys.readouterr().err


def test_a_run_without_augmentation_imagines_nothing(tmp_path: Path) -> None:
    own = {**IMAGINATION, "augmentation": {"ratio": 0.0, "horizon": 2}}
    config = write_config(tmp_path, imagination=own, online={"env_steps": 0})
    finish_run(tmp_path, config)
    assert read_summary(tmp_path / "run")["imagined"] == []
    assert not (tmp_path / "run" / "imagined").exists()


def test_windows_too_short_for_what_is_imagined_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, imagination={**IMAGINATION, "augmentation": {"horizon": 5}})
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "imagination.augmentation.horizon: 5 imagined steps leave no past" in error
