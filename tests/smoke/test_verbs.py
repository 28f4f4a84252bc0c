"""Every verb of the command, end to end on a tiny run, in this process."""

import itertools
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from system.cli.main import main
from system.runs.run_directory import RunDirectory
from tests.support.tiny_runs import DATASET, learner_digest, read_summary, write_tiny_config

SUMMARY_KEYS = {"config", "seed", "versions", "dataset", "stages", "evaluations", "comparisons", "faults"}
RECORD_KEYS = {
    "stage",
    "seeds",
    "target_return_ratio",
    "policy",
    "episodes",
    "returns",
    "return_mean",
    "return_ci95",
    "normalized_mean",
    "decision_ms_p50",
    "decision_ms_p99",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config = write_tiny_config(folder)
    assert main(["run", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder


def test_run_writes_what_programs_and_people_look_for(finished: Path) -> None:
    summary = read_summary(finished / "run")
    assert summary.keys() >= SUMMARY_KEYS
    assert {(each["stage"], each["policy"]) for each in summary["evaluations"]} == {
        (stage, policy) for stage in ("offline", "online") for policy in ("rcbc_mean", "forward_mpc_q")
    }
    for record in summary["evaluations"]:
        assert record.keys() >= RECORD_KEYS
        assert record["episodes"] == len(record["returns"]) == len(record["seeds"]) == 2
        low, high = record["return_ci95"]
        assert low <= record["return_mean"] <= high
    ranked = summary["utility_rank_correlation"]
    assert [(each["stage"], each["policy"]) for each in ranked] == [
        (stage, "forward_mpc_q") for stage in ("offline", "online")
    ]
    for record in ranked:
        assert (record["states"] + record["left_out"], record["candidates"], record["horizon"]) == (2, 3, 2)
        assert -1.0 <= record["spearman"] <= 1.0 and record["gain_share"] <= 1.0
    log = (finished / "run" / "events.jsonl").read_text()
    for stage, name in itertools.product(("offline", "online"), ("spearman", "gain_share")):
        assert f'"ranking/{stage}/{name}/forward_mpc_q"' in log
    assert set(summary["stages"]) == {"offline", "offline_evaluation", "online", "online_evaluation"}
    assert summary["stages"]["offline"]["steps"] == 20
    assert summary["stages"]["online"]["steps"] >= 60
    assert summary["dataset"]["episodes"] == 12
    assert set(json.loads((finished / "run" / "processes.json").read_text())) == {"driver"}
    assert {path.name for path in (finished / "run" / "figures").iterdir()} >= {
        "learning_curve.png",
        "plans_offline.png",
        "plans_online.png",
        "utilities.png",
        "utility_ranking_offline.png",
        "utility_ranking_online.png",
    }


def test_the_ratio_is_chosen_on_other_episodes_than_the_reported(finished: Path) -> None:
    summary = read_summary(finished / "run")
    assert {"offline/rcbc_mean", "offline/forward_mpc_q"} <= set(summary["target_return_ratio_curves"])
    for record in summary["evaluations"]:
        assert min(record["seeds"]) >= 10_000
        assert max(record["seeds"]) < 20_000


def test_a_finished_run_prints_its_table_again_and_changes_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = learner_digest(finished / "run"), (finished / "run" / "summary.json").stat().st_mtime_ns
    assert main(["run", str(finished / "tiny.yaml"), "--run-dir", str(finished / "run"), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "forward_mpc_q" in out
    assert "online" in out
    assert len([line for line in out.splitlines() if line.startswith("online:  forward_mpc_q")]) == 1
    assert (learner_digest(finished / "run"), (finished / "run" / "summary.json").stat().st_mtime_ns) == before


def test_another_configuration_is_refused_by_its_first_key(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        str(finished / "tiny.yaml"),
        "--run-dir",
        str(finished / "run"),
        "--set",
        "planner.td_lambda=0.5",
    ]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "planner.td_lambda" in error
    assert "0.6" in error


def test_restart_moves_the_old_run_aside(finished: Path, tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path, pretrain={"update_steps": 5}, online={"env_steps": 1})
    words = ["pretrain", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main(words) == 0
    assert main([*words, "--restart"]) == 0
    assert (tmp_path / "run.1" / "summary.json").exists()
    assert read_summary(tmp_path / "run")["faults"]["driver_resumed"] == 0


def test_the_page_about_runs_names_all_that_a_summary_holds(finished: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    summary = page.split("\n## summary.json\n", 1)[1].split("\n## ", 1)[0]
    written = read_summary(finished / "run")
    assert written.keys() <= set(re.findall(r"`(\w+)`", summary))
    for records in (written["evaluations"], written["utility_rank_correlation"]):
        assert {name for each in records for name in each} <= set(re.findall(r"\w+", summary))


def test_pretrain_then_run_is_run(finished: Path, tmp_path: Path) -> None:
    words = [str(write_tiny_config(tmp_path)), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main(["pretrain", *words]) == 0
    assert read_summary(tmp_path / "run")["next_stage"] == "online"
    assert main(["run", *words]) == 0
    ranked = [read_summary(each / "run")["utility_rank_correlation"] for each in (tmp_path, finished)]
    assert ranked[0] == ranked[1], "what a checkpoint held was kept"
    assert learner_digest(tmp_path / "run") == learner_digest(finished / "run")


def test_finetune_starts_from_a_checkpoint(finished: Path, tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path)
    words = ["finetune", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main([*words, "--checkpoint", str(finished / "run")]) == 0
    summary = read_summary(tmp_path / "run")
    assert "offline" not in summary["stages"]
    after = [
        each["returns"] for each in read_summary(finished / "run")["evaluations"] if each["stage"] == "online"
    ]
    before = [each["returns"] for each in summary["evaluations"] if each["stage"] == "offline"]
    assert before == after


def test_a_run_goes_on_with_the_checkpoint_that_it_began_with(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_tiny_config(tmp_path)
    begun, own = tmp_path / "begun", tmp_path / "own"
    words = [str(config), "--quiet", "--run-dir"]
    assert main(["pretrain", *words, str(own)]) == 0
    assert main(["finetune", *words, str(begun), "--checkpoint", str(own)]) == 0
    taken = [json.loads(line) for line in (begun / "events.jsonl").read_text().splitlines()]
    assert any("policies as measured by the run of" in str(event) for event in taken), "not measured again"
    offline = [
        [each for each in read_summary(folder)["evaluations"] if each["stage"] == "offline"]
        for folder in (own, begun)
    ]
    assert offline[0] == offline[1]
    for again in (own, next((own / "checkpoints").glob("0*"))):
        assert main(["finetune", *words, str(begun), "--checkpoint", str(again)]) == 0
    capsys.readouterr()
    for directory, source in ((begun, str(own)), (own, "pretraining of its own")):
        assert main(["finetune", *words, str(directory), "--checkpoint", str(finished / "run")]) == 2
        error = capsys.readouterr().err
        assert f"would not be used, since the run in {directory} began with {source};" in error
        assert error.count("\n") == 1
    assert main(["finetune", *words, str(own), "--checkpoint", str(own)]) == 0, "its own is what it goes on from"
    assert read_summary(own)["next_stage"] == "done"


def test_finetune_refuses_another_models_checkpoint(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_tiny_config(tmp_path, model={"width": 32})
    words = ["finetune", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main([*words, "--checkpoint", str(finished / "run")]) == 2
    assert "a model with masked_trajectory.model.width = 16, but this run's has 32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "{config}", "--checkpoint", "{run}", "--set", "online.env_steps=0"], "online.env_steps: 0"),
        (
            ["finetune", "pong-demo", "--checkpoint", "{run}", "--set", "online.env_steps=9"],
            "family = masked_trajectory",
        ),
        (["run", "{config}", "--address", "10.255.255.1:1"], "--address: 10.255.255.1:1 would not be used"),
        (["evaluate", "{run}", "--address", "10.255.255.1:1"], "--address: 10.255.255.1:1 would not be used"),
        (["evaluate", "{run}", "--set", "dataset.id=a/b-v0"], "dataset.id: nothing is trained here"),
        (["evaluate", "{run}", "--policies", "iql,,x"], "evaluation.policies: '' is not one of"),
        (["evaluate", "{run}", "--output", "{run}"], "is a folder"),
        (["evaluate", "{run}", "--output", "{run}/nothing/here.json"], "nothing"),
    ],
)
def test_what_would_not_be_done_as_asked_is_refused_at_once(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    places = {"config": str(write_tiny_config(tmp_path)), "run": str(finished / "run")}
    given = [word.format_map(places) for word in words]
    directory = [] if words[0] == "evaluate" else ["--run-dir", str(tmp_path / "run")]
    assert main([*given, *directory, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_a_device_that_is_not_there_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_tiny_config(tmp_path, device="cuda"))
    assert main(["run", config, "--run-dir", str(tmp_path / "run")]) == 2
    assert main(["evaluate", str(finished / "run"), "--set", "device=cuda", "--policies", "random"]) == 2
    assert capsys.readouterr().err.count("device: cuda, but torch finds none here") == 2


def test_evaluate_repeats_the_figures_of_the_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "evaluation.json"
    assert main(["evaluate", str(finished / "run"), "--quiet", "--output", str(output)]) == 0
    found, summary = json.loads(output.read_text()), read_summary(finished / "run")
    records = found["evaluations"]
    expected = [each for each in summary["evaluations"] if each["stage"] == "online"]
    assert [each["returns"] for each in records] == [each["returns"] for each in expected]
    ranked = found["utility_rank_correlation"]
    assert ranked == [each for each in summary["utility_rank_correlation"] if each["stage"] == "online"]
    assert "\nonline:  forward_mpc_q  " in capsys.readouterr().out


@pytest.mark.usefixtures("ray_session")
def test_evaluators_over_ray_give_the_same_records(finished: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "here.json", tmp_path / "there.json"]
    for output, count in zip(outputs, (0, 2), strict=True):
        words = ["evaluate", str(finished / "run"), "--quiet", "--set", f"evaluators={count}"]
        assert main([*words, "--output", str(output)]) == 0
    here, there = (json.loads(output.read_text()) for output in outputs)
    assert [(each["policy"], each["returns"]) for each in here["evaluations"]] == [
        (each["policy"], each["returns"]) for each in there["evaluations"]
    ]
    assert here["utility_rank_correlation"] == there["utility_rank_correlation"] != []


def test_report_pairs_runs_by_seed(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = finished / "tiny.yaml"
    assert main(["run", str(config), "--run-dir", str(finished / "second"), "--seed", "1", "--quiet"]) == 0
    output = tmp_path / "report"
    words = ["report", str(finished / "run"), str(finished / "second"), "--output", str(output)]
    assert main(words) == 0
    text = (output / "report.md").read_text()
    assert "2 training seeds (0, 1) × 2 episodes" in text
    assert "forward_mpc_q online − forward_mpc_q offline" in text
    assert main(["report", str(tmp_path)]) == 2
    assert "summary.json" in capsys.readouterr().err
    check_that_measurements_are_reported(finished, tmp_path, capsys)


def check_that_measurements_are_reported(
    finished: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of `evaluate --output` are grouped by what was overridden, and paired by training seed."""
    files = []
    for run in ("run", "second"):
        for horizon in (1, 2):
            files.append(str(folder / f"{run}-{horizon}.json"))
            words = ["evaluate", str(finished / run), "--quiet", "--policies", "rcbc_mean,forward_mpc_q"]
            assert main([*words, "--set", f"planner.horizon={horizon}", "--output", files[-1]]) == 0
    capsys.readouterr()
    assert main(["report", *files]) == 0
    told = capsys.readouterr().out
    assert told.count("2 training seeds (0, 1) × 2 episodes; Returns") == 2
    assert "(planner.horizon = 1)" in told and "(planner.horizon = 2)" in told
    assert told.count("forward_mpc_q offline") + told.count("forward_mpc_q online") >= 2


def test_collect_writes_a_dataset_that_data_check_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["collect", "hopper-medium-replay", "--quiet"]
    words += ["--set", "policy=random", "--set", "kind=random", "--set", "dataset_id=mine/random-v0"]
    words += ["--set", "env_steps=150", "--set", "environment=InvertedPendulum-v5"]
    assert main(words) == 0
    assert main(["data", "check", "mine/random-v0", "--path", "datasets"]) == 0
    assert "no faults" in capsys.readouterr().out
    assert main([*words, "--restart"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_saved_policy_records_data(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["collect", "hopper-medium-replay", "--quiet", "--set", "policy=checkpoint", "--set", "kind=medium"]
    words += ["--set", f"checkpoint={finished / 'run'}", "--set", "action_noise=0.1"]
    words += [
        "--set",
        "environment=InvertedPendulum-v5",
        "--set",
        "dataset_id=mine/medium-v0",
        "--set",
        "env_steps=40",
    ]
    assert main(words) == 0
    assert main(["data", "check", "mine/medium-v0", "--path", "datasets"]) == 0


def one_line_and_code_2(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    assert expected in error


def test_a_wrong_dataset_id_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_tiny_config(tmp_path, dataset={"id": "toy/pendulun-v0", "download": False})
    one_line_and_code_2(["run", str(config), "--run-dir", str(tmp_path / "run")], "toy/pendulun-v0", capsys)


def test_a_nan_reward_is_named_by_episode_and_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_tiny_config(tmp_path)
    with h5py.File(tmp_path / "datasets" / DATASET / "data" / "main_data.hdf5", "a") as file:
        rewards = file["episode_5"]["rewards"][:]
        rewards[3] = np.nan
        file["episode_5"]["rewards"][:] = rewards
    words = ["run", str(config), "--run-dir", str(tmp_path / "run")]
    one_line_and_code_2(words, "episode 5", capsys)
    one_line_and_code_2(words, "step 3", capsys)


def test_a_bad_episode_can_be_dropped_and_is_counted(tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path, dataset={"on_bad_episode": "drop"}, pretrain={"update_steps": 2})
    with h5py.File(tmp_path / "datasets" / DATASET / "data" / "main_data.hdf5", "a") as file:
        file["episode_5"]["rewards"][3] = np.nan
    assert main(["pretrain", str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 0
    assert read_summary(tmp_path / "run")["faults"]["episode_dropped"] == 1


def test_an_unknown_key_is_named_with_the_nearest_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    one_line_and_code_2(["run", "smoke", "--set", "planner.horizn=4"], "planner.horizon", capsys)


def test_batches_that_learners_cannot_share_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_tiny_config(tmp_path, deterministic=False, learners=3)
    one_line_and_code_2(
        ["run", str(config), "--run-dir", str(tmp_path / "run")], "masked_trajectory.training.batch_size", capsys
    )


def test_a_run_directory_in_use_is_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from system.config import RunConfig
    from system.config.loading import load_config

    config = write_tiny_config(tmp_path)
    loaded = load_config(RunConfig, str(config), presets=tmp_path)
    with RunDirectory.claim(tmp_path / "run", loaded, restart=False):
        assert main(["run", str(config), "--run-dir", str(tmp_path / "run")]) == 4
    assert "locked by process" in capsys.readouterr().err


def test_the_shipped_dataset_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "o2o/hopper/medium-replay-v0"]) == 0
    assert "no faults" in capsys.readouterr().out


def test_a_run_is_not_gone_on_with_on_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_tiny_config(tmp_path, online={"env_steps": 0})
    words = [str(config), "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main(["pretrain", *words]) == 0
    with h5py.File(tmp_path / "datasets" / DATASET / "data" / "main_data.hdf5", "a") as file:
        file["episode_3/rewards"][0] = 0.5
    assert main(["run", *words]) == 2
    assert f"dataset {DATASET}: has changed since this run began; --restart" in capsys.readouterr().err
