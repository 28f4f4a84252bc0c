"""The world-action family through the command: from frames to a summary, resumed, fine-tuned and over Ray."""

import json
from pathlib import Path

import numpy as np
import pytest

from system.cli.main import main
from system.envs.registry import find_task
from system.families.world_action.agent import WorldActionAgent
from tests.support.tiny_games import GAME, OTHER_DATASET, OTHER_GAME, write_tiny_game_config
from tests.support.tiny_runs import learner_digest, read_summary


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config = write_tiny_game_config(folder)
    assert main(["run", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder


def test_run_evaluates_every_policy_before_and_after(finished: Path) -> None:
    summary = read_summary(finished / "run")
    found = [(record["stage"], record["policy"], record["environment"]) for record in summary["evaluations"]]
    policies = ("random", "q_greedy", "beam")
    assert found == [(stage, policy, GAME) for stage in ("offline", "online") for policy in policies]
    assert summary["stages"]["online"]["steps"] >= 24
    figures = finished / "run" / "figures"
    for name in ("imagined_offline.png", "imagined_offline.gif", "imagined_online.png", "imagined_online.gif"):
        assert 0 < (figures / name).stat().st_size <= 2_000_000
    log = (finished / "run" / "events.jsonl").read_text()
    assert str(figures / "imagined_online.gif") in log, "the tracker was not given it"
    (scores,) = [each for each in summary["game_scores"] if (each["stage"], each["policy"]) == ("online", "beam")]
    played = [record["return_mean"] for record in summary["evaluations"]][-1]
    assert scores["games"][GAME]["human"] == pytest.approx(100 * (played + 20.7) / 35.3)
    assert len(summary["open_loop_error"]["offline"]["tokens"]) == 1
    ranked = [(each["stage"], each["policy"], each["left_out"]) for each in summary["utility_rank_correlation"]]
    assert ranked == [("offline", "beam", 1), ("online", "beam", 1)], "nothing is won or lost in so few steps"


def test_pretrain_then_run_is_run(finished: Path, tmp_path: Path) -> None:
    words = [str(write_tiny_game_config(tmp_path)), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main(["pretrain", *words]) == 0
    assert main(["run", *words]) == 0
    assert learner_digest(tmp_path / "run") == learner_digest(finished / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_actors_learn_the_same_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    config = write_tiny_game_config(tmp_path, learners=1, rollout_workers=1)
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    assert learner_digest(tmp_path / "run") == learner_digest(finished / "run")


def test_finetune_takes_over_the_tokenizer(finished: Path, tmp_path: Path) -> None:
    config = write_tiny_game_config(tmp_path, seed=1)
    words = ["finetune", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main([*words, "--checkpoint", str(finished / "run")]) == 0
    summary = read_summary(tmp_path / "run")
    assert [each["stage"] for each in summary["evaluations"]] == ["offline"] * 3 + ["online"] * 3
    assert "offline" not in summary["stages"]
    assert not list((tmp_path / "dataset-cache").glob("tokenizer-*")), "none was trained"


def test_evaluate_repeats_the_figures_of_the_run(finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "evaluation.json"
    assert main(["evaluate", str(finished / "run"), "--quiet", "--output", str(output)]) == 0
    records = json.loads(output.read_text())["evaluations"]
    expected = [each for each in read_summary(finished / "run")["evaluations"] if each["stage"] == "online"]
    assert [each["returns"] for each in records] == [each["returns"] for each in expected]


@pytest.mark.parametrize(("objective", "policy"), [("clone", "clone"), ("conservative_q", "q_greedy")])
def test_the_baselines_train_and_play(objective: str, policy: str, tmp_path: Path) -> None:
    config = write_tiny_game_config(
        tmp_path, training={"objective": objective}, evaluation={"policies": [policy]}, online={"env_steps": 0}
    )
    assert main(["pretrain", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    assert [record["policy"] for record in read_summary(tmp_path / "run")["evaluations"]] == [policy]


@pytest.fixture
def perceived(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The games whose frames have been perceived."""
    games: set[int] = set()
    perceive = WorldActionAgent.perceive

    def watched(agent: WorldActionAgent, observations: np.ndarray, game: int) -> np.ndarray:
        games.add(game)
        return perceive(agent, observations, game)

    monkeypatch.setattr(WorldActionAgent, "perceive", watched)
    return games


def test_frames_are_perceived_as_of_their_game_in_rollouts_too(tmp_path: Path, perceived: set[int]) -> None:
    config = write_tiny_game_config(
        tmp_path, pretrain={"update_steps": 2}, online={"env_steps": 12}, evaluation={"policies": ["random"]}
    )
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    assert perceived == {find_task(GAME).game}


def test_two_games_are_learnt_together_and_played_each(tmp_path: Path, perceived: set[int]) -> None:
    config = write_tiny_game_config(
        tmp_path,
        dataset={"also": [OTHER_DATASET]},
        online={"env_steps": 0},
        evaluation={"policies": ["q_greedy"]},
    )
    assert main(["pretrain", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    summary = read_summary(tmp_path / "run")
    assert [record["environment"] for record in summary["evaluations"]] == [GAME, OTHER_GAME]
    assert perceived == {find_task(GAME).game, find_task(OTHER_GAME).game}
    assert summary["dataset"]["episodes"] == 12
    assert [each["human"]["games"] for each in summary["game_scores"]] == [2]
    clips = {path.name for path in (tmp_path / "run" / "figures").glob("*.gif")}
    assert clips == {"imagined_offline_Pong-v5.gif", "imagined_offline_Breakout-v5.gif"}
    output = tmp_path / "evaluation.json"
    assert main(["evaluate", str(tmp_path / "run"), "--quiet", "--output", str(output)]) == 0
    returns = [each["returns"] for each in json.loads(output.read_text())["evaluations"]]
    assert returns == [each["returns"] for each in summary["evaluations"]]


def test_without_online_steps_nothing_is_evaluated_again(tmp_path: Path) -> None:
    config = write_tiny_game_config(tmp_path, online={"env_steps": 0}, evaluation={"policies": ["random"]})
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    summary = read_summary(tmp_path / "run")
    assert [record["stage"] for record in summary["evaluations"]] == ["offline"]
    assert summary["next_stage"] == "done"


def test_frames_are_not_for_the_trajectory_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_tiny_game_config(
        tmp_path,
        family="masked_trajectory",
        planner={"name": "forward_mpc", "select": "expectation"},
        evaluation={"policies": ["rcbc_mode"]},
    )
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("o2o: error: family: masked_trajectory can't learn ALE/Pong-v5")
