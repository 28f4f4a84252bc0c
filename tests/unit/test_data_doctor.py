"""`check_dataset` and `o2o data check`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import ENVIRONMENTS, edit_file, edit_metadata, make_dataset, make_episode, make_episodes

from system.cli.main import main
from system.config import DatasetConfig
from system.data.doctor import DoctorReport, check_dataset
from system.envs import registry


def check(root: Path) -> DoctorReport:
    config = DatasetConfig(id="toy/mixed-v0", path=str(root), download=False)
    return check_dataset(config, environments=ENVIRONMENTS)


def test_a_clean_dataset(tmp_path: Path) -> None:
    make_dataset(tmp_path, episodes=[make_episode(4, "terminated"), make_episode(6, "time_limit")])
    report = check(tmp_path)
    assert (report.faults, report.warnings) == ([], [])
    assert (report.num_episodes, report.num_steps) == (2, 10)
    assert (report.ended_terminated, report.ended_time_limit, report.ended_cut) == (1, 1, 0)
    assert report.length_quantiles[[0, -1]].tolist() == [4.0, 6.0]
    names = [each.name for each in report.coverage]
    assert names == ["observation 0", "observation 1", "observation 2", "action 0", "action 1", "reward"]
    rewards = np.concatenate([make_episode(4, "terminated").rewards, make_episode(6, "time_limit").rewards])
    assert report.coverage[-1].mean == pytest.approx(rewards.mean(), abs=1e-6)
    assert report.coverage[-1].minimum == rewards.min()


def test_every_fault_is_listed_by_episode_and_step(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    edit_file(data, lambda file: file["episode_0/rewards"].__setitem__(2, np.inf))
    edit_file(data, lambda file: file["episode_0/actions"].__setitem__((1, 1), 1.5))
    edit_file(data, lambda file: file["episode_4/observations"].__setitem__((5, 0), np.nan))
    edit_metadata(data, total_episodes=6)
    report = check(tmp_path)
    assert report.faults == [
        "episode 0, step 2: reward is inf",
        "episode 0, step 1: action dimension 1 is 1.5, outside [-1, 1]",
        "episode 4, step 5: observation dimension 0 is nan",
        "the metadata declare 6 episodes, main_data.hdf5 has 5",
    ]
    assert report.num_episodes == 3


def test_oddities_are_warnings(tmp_path: Path) -> None:
    absurd = np.array([0.0, -2e6, 1.0], dtype=np.float32)
    episodes = [*make_episodes()[:2], replace(make_episode(3, "cut"), rewards=absurd)]
    flattening = np.array([1.0, 1.0, 0.0], dtype=np.float32)
    offset = np.array([0.0, 0.0, 7.0], dtype=np.float32)
    flat = [replace(episode, observations=episode.observations * flattening + offset) for episode in episodes]
    make_dataset(tmp_path, episodes=[*flat, flat[1]])
    report = check(tmp_path)
    assert report.faults == []
    assert report.warnings == [
        "episode 3: the same as episode 1",
        "episode 2, step 1: reward is -2e+06",
        "episode 2: cut after 3 steps, before the end or the time limit",
        "observation 2 is constant (7)",
    ]
    assert report.ended_cut == 1


def test_of_many_cut_episodes_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    make_dataset(tmp_path, episodes=[make_episode(number % 5 + 2, "cut") for number in range(23)])
    cut = [line for line in check(tmp_path).warnings if "cut" in line]
    assert [line.partition(":")[0] for line in cut[:-1]] == [f"episode {number}" for number in range(20)]
    assert cut[-1] == "3 more episodes were cut likewise"


def test_a_dataset_without_a_fit_episode_is_a_fault(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, episodes=[make_episode(2, "terminated")])
    edit_file(data, lambda file: file["episode_0/rewards"].__setitem__(0, np.nan))
    report = check(tmp_path)
    assert report.faults == ["episode 0, step 0: reward is nan", "no episode is fit for training"]
    assert report.coverage == []


@pytest.fixture
def toy_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "Environments", lambda *_: ENVIRONMENTS)


@pytest.mark.usefixtures("toy_registry")
def test_command_prints_an_aligned_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_dataset(tmp_path)
    assert main(["data", "check", "toy/mixed-v0", "--path", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert "5 fit for training, 19 steps" in output
    assert "termination 3, time limit 1, cut 1" in output
    header = next(line for line in lines if line.startswith("by step"))
    reward = next(line for line in lines if line.startswith("reward"))
    assert len(header) == len(reward)
    assert any(line.startswith("normalised") for line in lines)
    assert lines[-1] == "no faults, 1 warnings"


@pytest.mark.usefixtures("toy_registry")
def test_command_ends_with_2_on_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path)
    edit_file(data, lambda file: file["episode_1/rewards"].__setitem__(3, np.nan))
    assert main(["data", "check", "toy/mixed-v0", "--path", str(tmp_path)]) == 2
    assert "fault: episode 1, step 3: reward is nan\n" in capsys.readouterr().out


def test_command_answers_a_missing_dataset_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "toy/nothing-v0", "--path", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "toy/nothing-v0" in output.err
