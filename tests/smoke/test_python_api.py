"""Training, evaluating and reading data from Python is what the command line does."""

import threading
from pathlib import Path

import pytest
import yaml

import system
from system.cli.main import main
from system.errors import ConfigError
from tests.support.tiny_runs import DATASET, learner_digest, read_summary, write_tiny_config


def test_training_from_python_is_what_the_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_tiny_config(tmp_path)
    assert main(["run", str(config), "--run-dir", "commanded", "--quiet"]) == 0
    run = system.train(yaml.safe_load(config.read_text()), run_dir="called", quiet=True)
    assert learner_digest(tmp_path / "commanded") == learner_digest(run.run_dir)
    assert run.summary["evaluations"] == read_summary(run.run_dir)["evaluations"]
    assert run.checkpoint.parent == run.run_dir / "checkpoints"
    assert run.config == system.load_config(config)

    again = system.train(run.config, run_dir="called", quiet=True)
    assert again.summary["faults"] == run.summary["faults"], "finished: nothing is done again"
    rows = system.evaluate(run.checkpoint, policies=["rcbc_mean"], episodes=3)
    assert [(row["policy"], row["episodes"]) for row in rows] == [("rcbc_mean", 3)]
    with pytest.raises(ConfigError, match=r"pretrain\.update_steps: nothing is trained here"):
        system.evaluate(run.checkpoint, overrides=["pretrain.update_steps=3"])


def test_it_trains_in_a_thread_where_signals_are_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = system.load_config(write_tiny_config(tmp_path), {"online.env_steps": 0, "pretrain.update_steps": 5})
    runs: list[system.TrainedRun] = []
    thread = threading.Thread(target=lambda: runs.append(system.train(config, seed=3, quiet=True)))
    thread.start()
    thread.join()
    assert [(each.config.seed, str(each.run_dir)) for each in runs] == [(3, "runs/run-3")]


def test_configurations_are_built_from_names_files_mappings_and_each_other(tmp_path: Path) -> None:
    demo = system.load_config("demo", {"planner.horizon": 2, "evaluation.policies": ("random",)})
    assert (demo.planner.horizon, demo.evaluation.policies) == (2, ("random",))
    same = {"preset": "demo", "planner": {"horizon": 2}}
    assert system.load_config(same, ["evaluation.policies=[random]"]) == demo
    assert system.load_config(demo, {"seed": 4}).seed == 4
    given = {"learners": {"num": 2, "cpus": 3}}
    assert system.load_config({}, given).placement.learners.cpus == 3.0
    assert given == {"learners": {"num": 2, "cpus": 3}}, "what was given is the caller's"
    with pytest.raises(ConfigError, match=r"planner\.horizn: unknown key; did you mean planner\.horizon"):
        system.load_config("demo", {"planner.horizn": 2})
    with pytest.raises(ConfigError, match=r"planner\.horizon: 100 is out of range"):
        system.load_config({"planner": {"horizon": 100}})


def test_a_dataset_comes_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_tiny_config(tmp_path)
    data = system.load_dataset(DATASET, path=tmp_path / "datasets")
    assert data.training.num_episodes + data.validation.num_episodes == 12
    assert data.task.environment_id == "InvertedPendulum-v5"
    assert (tmp_path / "runs" / "dataset-cache").is_dir()
    same = system.load_dataset(system.load_config(config), cache_folder=tmp_path / "cache")
    assert same.description["digest"] == data.description["digest"]
    with pytest.raises(system.DataError, match="toy/none-v0"):
        system.load_dataset("toy/none-v0", path=tmp_path / "datasets")
