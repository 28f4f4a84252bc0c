"""`o2o collect` end to end: what it writes, what it refuses, and what a stop or a kill leaves to go on from."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import yaml

from system.cli.main import main
from system.data.replay.episode_journal import EpisodeJournal
from system.distributed.behaviour import BehaviourAgent
from tests.support.tiny_runs import read_processes, read_summary, run_o2o

DATASET = "mine/pendulum-v0"
RANDOM: dict[str, Any] = {
    "environment": "InvertedPendulum-v5",
    "dataset_id": DATASET,
    "kind": "random",
    "policy": "random",
    "env_steps": 150,
    "target_return": None,
}
CHECKPOINT = {"policy": "checkpoint", "kind": "medium", "checkpoint": "somewhere"}
PPO = {**RANDOM, "kind": "medium-replay", "policy": "ppo", "env_steps": 2500}


def write_config(folder: Path, **keys: Any) -> Path:
    path = folder / "pendulum.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def read_episodes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[minari.EpisodeData]:
    """Through Minari's own reader."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "datasets"))
    return list(minari.load_dataset(DATASET).iterate_episodes())


@pytest.mark.usefixtures("ray_session")
def test_medium_replay_of_an_agent_that_was_stopped_while_it_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["collect", str(write_config(tmp_path, **PPO)), "--quiet"]
    train, steps_before = BehaviourAgent.train, []

    def stop_after_training(agent: BehaviourAgent) -> list:
        os.kill(os.getpid(), signal.SIGTERM)
        return train(agent)

    monkeypatch.setattr(BehaviourAgent, "train", stop_after_training)
    assert main(words) == 143
    assert capsys.readouterr().err == "o2o: error: interrupted by signal 15\n"
    run_dir = tmp_path / "runs" / "pendulum-0"
    kept = EpisodeJournal(run_dir / "training").episodes
    assert (run_dir / "agent.safetensors").exists()
    assert 1000 < sum(episode.num_steps for episode in kept) < 2500

    def note_training(agent: BehaviourAgent) -> list:
        steps_before.append(int(agent._tensors()["filter.count"]))
        return train(agent)

    monkeypatch.setattr(BehaviourAgent, "train", note_training)
    assert main(words) == 0
    assert len(steps_before) == 1, "what was learnt and recorded is not done again"
    assert steps_before[0] > 2000, "the agent goes on from what it had learnt"
    episodes = read_episodes(tmp_path, monkeypatch)
    assert len(episodes) > len(kept)
    for written, before in zip(episodes, kept, strict=False):
        assert np.array_equal(written.observations, before.observations)
        assert np.allclose(written.actions, 3.0 * before.actions, atol=1e-6), "in the environment's own units"
    starts = np.stack([episode.observations[0] for episode in episodes])
    assert len(np.unique(starts, axis=0)) == len(starts), "no episode is recorded twice"
    steps = sum(len(episode.rewards) for episode in episodes)
    assert 2500 <= steps < 2500 + 1000
    dataset = read_summary(run_dir)["dataset"]
    assert (dataset["episodes"], dataset["steps"]) == (len(episodes), steps)


@pytest.mark.usefixtures("ray_session")
def test_medium_is_what_the_trained_agent_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = {**PPO, "kind": "medium", "env_steps": 100, "max_training_env_steps": 1}
    assert main(["collect", str(write_config(tmp_path, **keys)), "--quiet"]) == 0
    summary = read_summary(tmp_path / "runs" / "pendulum-0")
    assert summary["training_env_steps"] > 1000
    assert 100 <= summary["dataset"]["steps"] < 300, "the steps of the training are not in it"
    metadata = json.loads((tmp_path / "datasets" / DATASET / "data" / "metadata.json").read_text())
    assert metadata["algorithm_name"] == "PPO (RLlib)"
    assert metadata["author"] == ["offline-to-online"]
    assert f"trained for {summary['training_env_steps']} steps, seed 0" in metadata["description"]
    assert json.loads(metadata["env_spec"])["id"] == "InvertedPendulum-v5"
    episodes = read_episodes(tmp_path, monkeypatch)
    assert minari.load_dataset(DATASET).recover_environment().spec.id == "InvertedPendulum-v5"
    assert len(episodes) == summary["dataset"]["episodes"]


@pytest.mark.parametrize("point", ["replay.before_append:3:SIGKILL", "replay.mid_append:3:SIGKILL"])
def test_a_killed_collection_ends_as_if_it_had_not_been(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        words = ["collect", str(write_config(folder, **RANDOM)), "--quiet"]
        if name == "killed":
            killed = run_o2o(folder, *words, environment={"O2O_FAULT": point})
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            assert not (folder / "datasets").exists()
            assert read_processes(folder / "runs" / "pendulum-0").keys() == {"driver"}
        assert main(words) == 0
        contents.append((folder / "datasets" / DATASET / "data" / "main_data.hdf5").read_bytes())
    assert contents[0] == contents[1]


def test_a_finished_collection_prints_its_table_again_and_the_dataset_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["collect", str(write_config(tmp_path, **RANDOM)), "--quiet"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "next: o2o data check mine/pendulum-v0 --path datasets" in first
    file = tmp_path / "datasets" / DATASET / "data" / "main_data.hdf5"
    before = file.stat().st_mtime_ns
    assert main(words) == 0
    assert capsys.readouterr().out == first
    for refused in (["--restart"], ["--run-dir", "other"]):
        assert main([*words, *refused]) == 2
        assert capsys.readouterr().err == f"o2o: error: dataset_id: {DATASET} exists already in datasets\n"
    assert not (tmp_path / "other").exists()
    assert (tmp_path / "runs" / "pendulum-0" / "summary.json").exists()
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "medium"}, "kind: medium does not go with policy random"),
        ({"policy": "ppo"}, "kind: random does not go with policy ppo"),
        ({**CHECKPOINT, "kind": "medium-replay"}, "kind: medium-replay does not go with policy checkpoint"),
        ({**CHECKPOINT, "checkpoint": None}, "checkpoint: needed"),
        (CHECKPOINT, "somewhere"),
        ({"checkpoint": "somewhere"}, "checkpoint: does not go with policy random"),
        ({"action_noise": 0.1}, "action_noise: does not go with policy random"),
        ({"environment": "InvertedPendulun-v5"}, "did you mean 'InvertedPendulum-v5'?"),
        ({"dataset_id": "../escape-v0"}, "escape-v0"),
        ({"env_steps": 0}, "env_steps"),
        ({**PPO, "environment": "ALE/Breakout-v5"}, "policy: ppo learns continuous actions"),
        ({**CHECKPOINT, "environment": "ALE/Breakout-v5", "action_noise": 0.1}, "action_noise: the actions of"),
    ],
)
def test_requests_that_make_no_sense_are_refused_in_a_line(
    changes: dict[str, Any],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["collect", str(write_config(tmp_path, **{**RANDOM, **changes}))]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    assert expected in error
    assert not (tmp_path / "datasets").exists()
