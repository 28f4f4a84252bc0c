"""From a sweep file and the command line to what is tried; what does not go together is refused by its key."""

from pathlib import Path

import pytest
import yaml

from system.cli.options import PRESETS
from system.config import RunConfig, SweepConfig
from system.config.loading import dump_yaml, load_config
from system.errors import ConfigError
from system.sweeps.plan import load_sweep, plan_sweep, preset_text

SHIPPED = Path(__file__).parents[2] / "tune_configs"
TRAINING = {
    "kind": "run",
    "config": "smoke",
    "trials": 3,
    "set": {"online": {"env_steps": 300}, "masked_trajectory.critic.expectile": 0.8},
    "space": {
        "planner.horizon": {"choice": [2, 3]},
        "masked_trajectory.training.learning_rate": {"loguniform": [1e-4, 1e-2]},
    },
}


def write(folder: Path, **changes: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in {**TRAINING, **changes}.items() if value is not None})
    )
    return str(path)


def test_settings_of_file_and_command_line_come_together(tmp_path: Path) -> None:
    width = "masked_trajectory.critic.hidden_width=32"
    overrides = ["trials=7", "online.env_steps=400", "planner.horizon=2", width]
    config = load_sweep(write(tmp_path), overrides, sweeps=tmp_path, presets=PRESETS)
    assert config.trials == 7
    assert config.set == {
        "online.env_steps": 400,
        "masked_trajectory.critic.expectile": 0.8,
        "planner.horizon": 2,
        "masked_trajectory.critic.hidden_width": 32,
    }
    assert list(config.space) == ["masked_trajectory.training.learning_rate"]
    plan = plan_sweep(config, presets=PRESETS)
    assert (plan.base.online.env_steps, plan.base.planner.horizon) == (400, 2)
    assert plan.base.method.critic.expectile == 0.8
    assert plan.fit({"masked_trajectory.training.learning_rate": 0.002}).method.training.learning_rate == 0.002


def test_a_value_that_is_given_decides_what_is_still_searched(tmp_path: Path) -> None:
    space = {
        "planner.horizon": {"choice": [1, 2, 3]},
        "planner.td_lambda": {"choice": [0.2, 0.5], "when": {"planner.horizon": [2, 3]}},
        "planner.temperature": {"choice": [1.0, 2.0], "when": {"planner.td_lambda": [0.5]}},
        "planner.num_candidates": {"choice": [8, 16]},
    }
    file = write(tmp_path, space=space, set={})
    short = load_sweep(file, ["planner.horizon=1"], sweeps=tmp_path, presets=PRESETS)
    assert list(short.space) == ["planner.num_candidates"]
    long = load_sweep(file, ["planner.horizon=3"], sweeps=tmp_path, presets=PRESETS)
    assert set(long.space) == space.keys() - {"planner.horizon"}
    plan_sweep(short, presets=PRESETS)
    conditions = {each.key: each.when for each in plan_sweep(long, presets=PRESETS).space.domains}
    assert conditions["planner.td_lambda"] == {}
    assert conditions["planner.temperature"] == {"planner.td_lambda": (0.5,)}


def test_what_the_planner_does_not_read_is_not_searched(tmp_path: Path) -> None:
    file = write(tmp_path, space={"planner.beam_width": {"choice": [2, 3]}})
    with pytest.raises(ConfigError, match=r"^space\.planner\.beam_width: forward_mpc does not read it"):
        plan_sweep(load_sweep(file, [], sweeps=tmp_path, presets=PRESETS), presets=PRESETS)


def test_a_sweep_is_written_down_and_read_back(tmp_path: Path) -> None:
    config = load_sweep(write(tmp_path), [], sweeps=tmp_path, presets=PRESETS)
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert load_config(SweepConfig, str(tmp_path / "again.yaml"), (), presets=tmp_path) == config


def test_a_sweep_is_found_by_its_name(tmp_path: Path) -> None:
    write(tmp_path)
    assert load_sweep("mine", [], sweeps=tmp_path, presets=PRESETS).config == "smoke"
    with pytest.raises(ConfigError, match=r"preset 'mime': unknown; did you mean mine\?"):
        load_sweep("mime", [], sweeps=tmp_path, presets=PRESETS)


def test_the_best_is_a_preset(tmp_path: Path) -> None:
    config = load_sweep(write(tmp_path), ["planner.target_return_ratio=0.7"], sweeps=tmp_path, presets=PRESETS)
    best = plan_sweep(config, presets=PRESETS).best_preset({"planner.horizon": 2})
    (tmp_path / "best.yaml").write_text(preset_text(best, ["The best"]))
    read = load_config(RunConfig, str(tmp_path / "best.yaml"), (), presets=PRESETS)
    assert read == best
    assert (read.planner.horizon, read.online.env_steps) == (2, 300)
    assert read.evaluation.target_return_ratios == (0.7,)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "runs"}, "kind: 'runs' is not one of planner, run, online; did you mean run?"),
        ({"trails": 3}, "trails: unknown key; did you mean trials?"),
        ({"set": {"planner.horizn": 2}}, "planner.horizn: unknown key; did you mean planner.horizon?"),
        ({"set": [1]}, r"set: .* given where keys and values are expected"),
        ({"config": None}, "config: needed with kind run"),
        ({"kind": "online"}, "checkpoint: needed with kind online"),
        ({"kind": "planner"}, "checkpoint: needed with kind planner"),
        ({"space": {"seed": {"choice": [1, 2]}}}, "space.seed: cannot be searched; see seeds"),
        ({"space": {"tracking.mlflow": {"choice": [True]}}}, "space.tracking.mlflow: cannot be searched"),
        ({"space": {"planner.name": {"choice": ["forward_mpc"]}}}, "space.planner.name: cannot be searched"),
        ({"space": {"planner.horizon": {"choice": [2, 5]}}}, "space.planner.horizon: 5 never fits: .* exceeds 4"),
        (
            {"space": {"masked_trajectory.model.width": {"choice": [15]}}},
            "space.masked_trajectory.model.width: 15 never fits: .* not divisible",
        ),
        ({"scheduler": "asha", "set": {"online.env_steps": 0}}, "scheduler: asha judges by online evaluations"),
        (
            {"set": {"evaluation.policies": ["iql", "q_only"]}},
            "space.masked_trajectory.training.learning_rate: .* never fits: .*must hold forward_mpc_m",
        ),
    ],
)
def test_what_cannot_be_swept_is_named(changes: dict, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        plan_sweep(load_sweep(write(tmp_path, **changes), [], sweeps=tmp_path, presets=PRESETS), presets=PRESETS)


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_a_shipped_sweep_can_be_read(name: str) -> None:
    config = load_sweep(name, [], sweeps=SHIPPED, presets=PRESETS)
    assert config.space
    assert (config.kind == "planner") == (config.config is None)
    if config.kind == "run":
        plan = plan_sweep(config, presets=PRESETS)
        assert all(plan.fit(point) for point in plan.space.grid())
        return
    with pytest.raises(ConfigError, match=r"checkpoint: needed .*--set checkpoint="):
        plan_sweep(config, presets=PRESETS)
