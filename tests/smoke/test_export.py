"""An exported policy decides as its checkpoint does, where nothing but torch and NumPy is installed too."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import system
from system.cli.main import main
from system.errors import CheckpointError, ConfigError, SystemFailure
from system.runs import one_pass
from system.runs.policy_package import read_package, write_package
from system.sealed_folder import COMPLETE
from tests.support.tiny_games import write_tiny_game_config
from tests.support.tiny_runs import write_tiny_config

ROOT = Path(__file__).parents[2]
BLOCKER = ROOT / "tests" / "support" / "only_torch_and_numpy.py"
EXPORTED = {
    *("weights.safetensors", "configuration.json", "task.json", "example.npz", "README.md"),
    *("manifest.json", "COMPLETE"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    measured = {"policies": ["forward_mpc_q", "iql"]}
    config = write_tiny_config(folder, evaluation=measured, tracking={"mlflow": True})
    words = ["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]
    assert main([*words, "--tracking-uri", f"sqlite:///{folder}/mlflow.db"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def game_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    measured = {"policies": ["q_greedy"], "episodes": 1}
    config = write_tiny_game_config(folder, evaluation=measured, training={"clone_weight": 1.0})
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def observations(agent: system.LoadedAgent) -> np.ndarray:
    generator = np.random.default_rng(1)
    if agent.task.frame_shape is not None:
        return generator.integers(0, 256, (5, *agent.task.frame_shape), dtype=np.uint8)
    return generator.standard_normal((5, agent.task.observation_dim)).astype(np.float32)


def decisions(agent: system.LoadedAgent, seen: np.ndarray) -> np.ndarray:
    agent.reset()
    return np.stack([agent.act(each) for each in seen])


ALONE = """
import sys
sys.path[:0] = {paths}
import only_torch_and_numpy
import numpy as np, system
seen = np.load({seen!r})
agent = system.load_agent({package!r}, device="cpu")
agent.reset()
print(agent.policy, agent.task.environment_id)
np.save({done!r}, np.stack([agent.act(each) for each in seen]))
assert all(map(only_torch_and_numpy.is_missing, ["yaml", "safetensors", "gymnasium", "ray", "mlflow", "PIL"]))
"""


@pytest.mark.parametrize(("source", "policy"), [("run", "forward_mpc_q"), ("game_run", "beam")])
def test_it_decides_as_the_checkpoint_where_only_torch_and_numpy_are(
    source: str, policy: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(source)
    package = tmp_path / "package"
    assert main(["export", str(run), str(package), "--policy", policy]) == 0
    agent = system.load_agent(run, policy=policy, device="cpu")
    seen = observations(agent)
    np.save(tmp_path / "seen.npy", seen)
    names = {"seen": str(tmp_path / "seen.npy"), "package": str(package), "done": str(tmp_path / "done.npy")}
    code = ALONE.format(paths=[str(ROOT), str(BLOCKER.parent)], **names)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [policy, agent.task.environment_id]
    np.testing.assert_allclose(np.load(tmp_path / "done.npy"), decisions(agent, seen), rtol=0, atol=1e-6)


def test_what_lies_in_the_folder(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "deep" / "package"
    assert main(["export", str(run), str(package)]) == 0
    assert f'system.load_agent("{package}")' in capsys.readouterr().out
    assert {path.name for path in package.iterdir()} == EXPORTED
    assert [path.name for path in package.parent.iterdir()] == ["package"]

    task = json.loads((package / "task.json").read_text())
    assert task["policy"] == "forward_mpc_q"
    spaces = task["spaces"]["InvertedPendulum-v5"]
    assert spaces["observation"] == {"shape": [4], "dtype": "float32"}
    assert spaces["action"] == {"shape": [1], "dtype": "float32", "low": [-3.0], "high": [3.0]}

    example = np.load(package / "example.npz")
    agent = system.load_agent(package, device="cpu")
    np.testing.assert_allclose(decisions(agent, example["observations"]), example["actions"], atol=1e-6)
    assert np.abs(example["observations"][0]).max() < 0.011, "an episode of the environment itself"

    rows = json.loads((run / "summary.json").read_text())["evaluations"]
    (row,) = [row for row in rows if row["policy"] == "forward_mpc_q"]
    low, high = row["return_ci95"]
    card = (package / "README.md").read_text()
    assert f"| {row['return_mean']:.1f} | [{low:.1f}, {high:.1f}] |" in card
    assert "toy/pendulum-v0, 12 episodes" in card


def test_where_there_is_no_environment_the_example_is_of_numbers_by_chance(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("system.runs.exporting.is_known", lambda environment_id: False)
    monkeypatch.delattr("system.runs.exporting.EnvironmentBatch")
    package = system.export_policy(run, tmp_path / "package", policy="iql", one_pass=True).path
    example = np.load(package / "example.npz")
    assert example["observations"].std() > 0.5
    agent = system.load_agent(package, device="cpu")
    np.testing.assert_allclose(decisions(agent, example["observations"]), example["actions"], atol=1e-6)


def test_it_is_measured_and_loaded_like_a_checkpoint_but_not_trained(run: Path, tmp_path: Path) -> None:
    package = system.export_policy(run, tmp_path / "package", policy="rcbc_mode").path
    (ours,) = system.evaluate(package, policies=["rcbc_mode"], episodes=2)
    (theirs,) = system.evaluate(run, policies=["rcbc_mode"], episodes=2)
    assert ours["returns"] == theirs["returns"]
    config = system.load_config(run / "config.yaml", {"online.env_steps": 10})
    with pytest.raises(CheckpointError, match="package: is an exported policy"):
        system.train(config, checkpoint=package, run_dir=tmp_path / "more", quiet=True)


def test_overrides_are_written_and_sizes_are_not(run: Path, tmp_path: Path) -> None:
    package = system.export_policy(run, tmp_path / "package", overrides={"planner.num_candidates": 3}).path
    assert system.load_agent(package).plan(np.zeros(4)).probabilities.shape == (1, 3)
    with pytest.raises(ConfigError, match="can't be overridden"):
        system.export_policy(run, tmp_path / "other", overrides={"masked_trajectory.model.width": 32})
    assert not (tmp_path / "other").exists()


def test_damage_is_refused_by_file(run: Path, tmp_path: Path) -> None:
    package = system.export_policy(run, tmp_path / "package").path
    for name in ("weights.safetensors", "configuration.json", "task.json"):
        damaged = tmp_path / name
        shutil.copytree(package, damaged)
        content = bytearray((damaged / name).read_bytes())
        content[len(content) // 2] ^= 1
        (damaged / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            system.load_agent(damaged)
    for changes, message in ((("policy", [3]), "which policy"), (("tasks", []), "does not describe tasks")):
        stranger = read_package(package)
        stranger.task[changes[0]] = changes[1]
        write_package(tmp_path / changes[0], stranger, {})
        with pytest.raises(CheckpointError, match=rf"task\.json: .*{message}"):
            system.load_agent(tmp_path / changes[0])
    (package / COMPLETE).unlink()
    with pytest.raises(CheckpointError, match="COMPLETE: missing"):
        system.load_agent(package)


def test_it_appears_whole_or_not_at_all(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("system.runs.policy_package.mark_complete", fail)
    with pytest.raises(ConfigError, match="package: cannot be written"):
        system.export_policy(run, tmp_path / "package")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="full: is not empty"):
        system.export_policy(run, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert system.load_agent(system.export_policy(run, tmp_path / "empty").path).policy == "forward_mpc_q"


@pytest.mark.parametrize(
    ("source", "policy"), [("run", "iql"), ("run", "rcbc_mode"), ("game_run", "clone"), ("game_run", "q_greedy")]
)
def test_a_one_pass_policy_is_a_program_of_torch_alone(
    source: str, policy: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(source)
    words = ["export", str(run), str(tmp_path / "package"), "--policy", policy, "--one-pass", "torch-export"]
    assert main(words) == 0
    program = torch.export.load(tmp_path / "package" / "one_pass.pt2").module()
    agent = system.load_agent(run, policy=policy, device="cpu")
    seen = observations(agent)
    decided = decisions(agent, seen)
    windows = one_pass.windows_of(agent.task, seen, decided, agent.config.context_length)
    for rows in (slice(None), slice(2, 3)):
        chosen = program(*(each[rows] for each in windows)).numpy()
        np.testing.assert_allclose(chosen, decided[rows], rtol=0, atol=1e-5)
    assert "one_pass.pt2" in (tmp_path / "package" / "README.md").read_text()


def test_planning_is_not_one_pass(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(run), str(tmp_path / "package"), "--one-pass", "torch-export"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "policy forward_mpc_q does not decide in one pass; rcbc_mode and iql do" in said
    assert not (tmp_path / "package").exists()


def test_a_program_that_decides_otherwise_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Otherwise(one_pass.InOwnBounds):
        def forward(
            self, observations: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor, steps: torch.Tensor
        ) -> torch.Tensor:
            return super().forward(observations, actions, valid, steps) + 0.01

    monkeypatch.setattr(one_pass, "InOwnBounds", Otherwise)
    with pytest.raises(SystemFailure, match="does not decide as the policy does"):
        system.export_policy(run, tmp_path / "package", policy="iql", one_pass=True)
    assert not (tmp_path / "package").exists()


def test_a_package_is_registered_and_measured_by_its_version(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{run.parent}/mlflow.db"
    words = ["export", str(run), "package", "--policy", "iql", "--register", "taken", "--tracking-uri"]
    assert main([*words, uri]) == 0
    assert "registered: models:/taken/1" in capsys.readouterr().out
    shutil.rmtree("package")
    assert main([*words, uri]) == 0
    assert "registered: models:/taken/1" in capsys.readouterr().out, "it is a version already"
    assert main(["evaluate", "models:/taken/1", "--policies", "iql", "--quiet", "--tracking-uri", uri]) == 0
    shutil.rmtree("package")
    assert main([*words, f"sqlite:///{tmp_path}/other.db"]) == 1
    assert "has no run in MLflow" in capsys.readouterr().err
    assert not Path("package").exists(), "the same command can be given again"
