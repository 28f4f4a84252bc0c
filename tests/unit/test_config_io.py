"""Configurations: presets and files build on one another, overrides win, everything round-trips."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from system.cli.options import COLLECT_PRESETS, PRESETS
from system.config import (
    CollectConfig,
    LearnerPlacementConfig,
    PlannerConfig,
    RolloutPlacementConfig,
    RunConfig,
    TrackingConfig,
)
from system.config.loading import (
    config_from_dict,
    digest,
    dump_yaml,
    first_difference,
    flatten,
    load_config,
    preset_names,
    to_dict,
)
from system.config.registry import FAMILIES
from system.config.rules import validate
from system.errors import ConfigError
from system.families.masked_trajectory.config import MaskedTrajectoryConfig, ModelConfig
from tests.support.absent_extras import stand_in

KINDS = ("medium", "medium-replay")
FRAMES = ("family=world_action", "planner.name=beam_search", "planner.select=argmax", "evaluation.policies=[beam]")


def build(*overrides: str) -> RunConfig:
    return load_config(RunConfig, None, overrides, presets=PRESETS)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        build(*overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", preset_names(PRESETS))
def test_every_preset_loads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    assert load_config(RunConfig, name, presets=PRESETS) != RunConfig()


@pytest.mark.parametrize("name", preset_names(COLLECT_PRESETS))
def test_every_collect_preset_loads(name: str) -> None:
    assert load_config(CollectConfig, name, presets=COLLECT_PRESETS).dataset_id


def test_the_fixed_presets_are_there() -> None:
    tasks = {f"{task}-{kind}" for task in ("hopper", "walker2d", "halfcheetah") for kind in KINDS}
    assert {"demo", "smoke", "paper"} | tasks <= set(preset_names(PRESETS))


def test_without_a_source_the_defaults_count() -> None:
    assert load_config(RunConfig, None, presets=PRESETS) == RunConfig()
    assert load_config(CollectConfig, None, presets=PRESETS) == CollectConfig()


def test_override_beats_file_beats_preset_beats_default(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "seed: 1\nplanner: {horizon: 2, td_lambda: 0.1}\nmasked_trajectory: {model: {width: 32}}\n"
    )
    file = tmp_path / "mine.yaml"
    file.write_text("preset: base\nplanner: {td_lambda: 0.2, num_candidates: 7}\n")
    config = load_config(
        RunConfig, str(file), ["planner.num_candidates=9", "planner.num_candidates=5"], presets=tmp_path
    )
    assert config == RunConfig(
        seed=1,
        method=MaskedTrajectoryConfig(model=ModelConfig(width=32)),
        planner=PlannerConfig(horizon=2, td_lambda=0.2, num_candidates=5),
    )


def test_an_override_may_give_a_section_or_a_list() -> None:
    config = build(
        "planner={horizon: 3, select: argmax}", "planner.td_lambda=1", "evaluation.policies=[iql, random]"
    )
    assert config.planner == PlannerConfig("forward_mpc", horizon=3, select="argmax", td_lambda=1.0)
    assert config.evaluation.policies == ("iql", "random")


def test_a_mapping_that_an_override_gives_replaces_and_a_key_of_it_is_laid_over(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "environment: {kwargs: {a: 1}}\nmasked_trajectory: {training: {mask_shares: {reward_return: 0.5}}}\n"
    )
    shares = "masked_trajectory.training.mask_shares"

    def of(*overrides: str) -> RunConfig:
        return load_config(RunConfig, "base", overrides, presets=tmp_path)

    assert of().method.training.mask_shares == {"reward_return": 0.5}
    whole = of(f"{shares}={{return_conditioned: 5e-1}}", "environment.kwargs={b: 2}")
    assert whole.method.training.mask_shares == {"return_conditioned": 0.5}
    assert whole.environment.kwargs == {"b": 2}
    one = of(f"{shares}.path_inference=0.25", "environment.kwargs.b=2")
    assert one.method.training.mask_shares == {"reward_return": 0.5, "path_inference": 0.25}
    assert one.environment.kwargs == {"a": 1, "b": 2}
    assert config_from_dict(RunConfig, to_dict(one), {shares: {}}).method.training.mask_shares == {}
    assert config_from_dict(RunConfig, to_dict(one)) == one


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("={rcbc: 0.1}", ": 'rcbc' is not one of behaviour_cloning, return_conditioned,"),
        ("={return_conditoned: 0.1}", "did you mean return_conditioned?"),
        (".return_conditioned=-0.1", ".return_conditioned: -0.1 is out of range [0, 1]"),
        ("={return_conditioned: much}", ".return_conditioned: 'much' is not a number"),
        ("={return_conditioned: 0.7, path_inference: 0.4}", ": add up to 1.1, and all steps are 1"),
        ("=0.6", ": 0.6 given where keys and values are expected"),
    ],
)
def test_shares_that_no_mask_can_have_are_refused(given: str, reason: str) -> None:
    message = refusal(f"masked_trajectory.training.mask_shares{given}")
    assert message.startswith("masked_trajectory.training.mask_shares")
    assert reason in message


def test_workers_are_a_number_or_say_what_each_takes(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("learners: {num: 2, gpus: 1}\nplacement: {rollout_workers: {cpus: 2}}\n")
    (tmp_path / "mine.yaml").write_text("preset: base\nlearners: 4\nrollout_workers: {num: 8, at_least: 3}\n")
    overrides = ["learners.cpus=2", "rollout_workers={gpus: 0.5}"]
    config = load_config(RunConfig, str(tmp_path / "mine.yaml"), overrides, presets=tmp_path)
    assert (config.learners, config.rollout_workers) == (4, 8)
    assert config.placement.learners == LearnerPlacementConfig(cpus=2.0, gpus=1.0)
    assert config.placement.rollout_workers == RolloutPlacementConfig(cpus=2.0, gpus=0.5, at_least=3)
    assert flatten(to_dict(config))["learners"] == 4
    for override, message in (
        ("learners={num: 2, gpu: 1}", "placement.learners.gpu: unknown key; did you mean placement.learners.gpus"),
        ("rollout_workers={num: many}", "rollout_workers: 'many' is not an integer"),
        ("rollout_workers={num: 2, at_least: 3}", "placement.rollout_workers.at_least: 3 exceeds rollout_workers"),
    ):
        assert refusal(override).startswith(message)


def test_the_schema_gives_numbers_their_type() -> None:
    config = build(
        "masked_trajectory.training.learning_rate=1e-4",
        "discount=1",
        "dataset.path=",
        "evaluation.target_return_ratios=[1, 5e-1]",
    )
    assert config.method.training.learning_rate == 1e-4
    assert isinstance(config.discount, float)
    assert config.dataset.path is None
    assert config.evaluation.target_return_ratios == (1.0, 0.5)
    assert build("tracking.experiment=1e-4").tracking.experiment == "1e-4"
    assert build("tracking.experiment=012").tracking.experiment == "012"
    assert build('tracking.experiment="7"').tracking.experiment == "7"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("planner.horizn=4", "planner.horizn: unknown key; did you mean planner.horizon?"),
        ("horizon=4", "horizon: unknown key; did you mean planner.horizon?"),
        ("planer.horizon=4", "planer: unknown key; did you mean planner?"),
        (
            "online.batch_size=4",
            "online.batch_size: unknown key; did you mean masked_trajectory.training.batch_size?",
        ),
        ("planner.horizon=-1", "planner.horizon: -1 is out of range [0, 64]"),
        (
            "masked_trajectory.training.batch_size=0",
            "masked_trajectory.training.batch_size: 0 is out of range [1, inf]",
        ),
        (
            "evaluation.target_return_ratios=[1, 11]",
            "evaluation.target_return_ratios: 11.0 is out of range [0, 10]",
        ),
        ("planner.horizon=true", "planner.horizon: true is not an integer"),
        ("planner.horizon=4.0", "planner.horizon: 4.0 is not an integer"),
        ("planner.horizon=", "planner.horizon: null is not an integer"),
        ("deterministic=1", "deterministic: 1 is not true or false"),
        ("discount=.nan", "discount: nan is not a finite number"),
        (
            "masked_trajectory.training.gradient_clip=.inf",
            "masked_trajectory.training.gradient_clip: inf is not a finite number",
        ),
        ("dataset.id=4", "dataset.id: 4 is not a string"),
        ("planner=4", "planner: 4 given where keys and values are expected"),
        ("planner.horizon.deep=4", "planner.horizon: {'deep': 4} is not an integer"),
        ("evaluation.policies=random", "evaluation.policies: 'random' is not a list, such as [a, b]"),
        ("planner.horizon", "--set 'planner.horizon': expected key.path=value"),
        ("=4", "--set '=4': expected key.path=value"),
        ('dataset.id="a\\nb"', "dataset.id: 'a\\nb' holds characters that cannot be printed"),
        ("seed=99999999999999999999", "seed: 99999999999999999999 is too large"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(override: str, message: str) -> None:
    assert refusal(override) == message


def test_a_wrong_choice_names_the_nearest() -> None:
    assert refusal("planner.select=argmx").endswith("did you mean argmax?")
    assert refusal("evaluation.policies=[randm]").endswith("did you mean random?")
    choices = "sample, expectation, unsquashed_expectation, argmax"
    assert refusal("planner.select=xyz") == f"planner.select: 'xyz' is not one of {choices}"
    assert refusal("planner.guidance=xyz") == "planner.guidance: 'xyz' is not one of critic, return, none"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["masked_trajectory.model.width=30"], "masked_trajectory.model.width"),
        ([*FRAMES, "world_action.model.width=30"], "world_action.model.width"),
        ([*FRAMES, "planner.horizon=8"], "planner.horizon"),
        ([*FRAMES, "planner.select=expectation"], "planner.select"),
        ([*FRAMES, "planner.name=forward_mpc"], "planner.name"),
        ([*FRAMES, "world_action.model.value_low=30"], "world_action.model.value_low"),
        ([*FRAMES, "learners=3"], "world_action.training.batch_size"),
        ([*FRAMES, "evaluation.policies=[iql]"], "evaluation.policies"),
        ([*FRAMES, "planner.support_threshold=0.3"], "planner.support_threshold"),
        (["planner.support_threshold=0.3"], "planner.support_threshold"),
        (["planner.name=beam_search"], "planner.name"),
        (["dataset.also=[a/b-v0]"], "dataset.also"),
        ([*FRAMES, "dataset.also=[a/b-v0]", "online.env_steps=1"], "rollout_workers"),
        (["planner.horizon=9"], "planner.horizon"),
        (["learners=3", "masked_trajectory.critic.batch_size=255"], "masked_trajectory.training.batch_size"),
        (["learners=3", "masked_trajectory.training.batch_size=63"], "masked_trajectory.critic.batch_size"),
        (["deterministic=true", "learners=2"], "learners"),
        (["deterministic=true", "rollout_workers=2"], "rollout_workers"),
        (["evaluation.policies=[iql, iql]"], "evaluation.policies"),
        (["evaluation.target_return_ratios=[]"], "evaluation.target_return_ratios"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(overrides: list[str], key: str) -> None:
    assert refusal(*overrides).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("objective", "horizon", "allowed"),
    [
        ("jowa", 2, {"random", "q_greedy", "beam"}),
        ("clone", 2, {"random", "clone", "clone_sampled"}),
        ("conservative_q", 0, {"random", "q_greedy"}),
    ],
)
def test_nothing_acts_from_outputs_that_the_objective_does_not_train(
    objective: str, horizon: int, allowed: set[str]
) -> None:
    keys = [*FRAMES, f"world_action.training.objective={objective}", f"planner.horizon={horizon}"]
    online = "online.env_steps=0" if objective == "clone" else "online.env_steps=100"
    cause = "clone_weight: 0" if objective == "jowa" else f"objective: {objective}"
    for policy in FAMILIES["world_action"].policies():
        chosen = f"evaluation.policies=[{policy}]"
        if policy in allowed:
            build(*keys, online, chosen)
        else:
            assert refusal(*keys, online, chosen) == (
                f"evaluation.policies: {policy} acts from outputs that world_action.training.{cause} "
                "does not train"
            )


def test_what_imitates_beside_the_rest_may_act_and_be_asked() -> None:
    keys = [*FRAMES, "world_action.training.clone_weight=1", "planner.support_threshold=0.3"]
    acting = "evaluation.policies=[clone, clone_sampled, q_greedy, beam]"
    assert build(*keys, acting).method.training.imitates
    message = refusal(*keys, "evaluation.policies=[q_greedy]", "world_action.training.objective=conservative_q")
    assert message.startswith("planner.support_threshold: 0.3 needs an output that imitates")


@pytest.mark.parametrize(
    ("objective", "horizon", "explorer"),
    [("clone", 0, "q_greedy"), ("clone", 1, "beam"), ("conservative_q", 1, "beam")],
)
def test_nothing_explores_from_outputs_that_the_objective_does_not_train(
    objective: str, horizon: int, explorer: str
) -> None:
    trained = f"world_action.training.objective={objective}"
    keys = [*FRAMES, "evaluation.policies=[random]", trained, f"planner.horizon={horizon}"]
    message = refusal(*keys, "online.env_steps=100")
    assert message.startswith(f"online.env_steps: 100 would be explored by {explorer}, ")
    build(*keys, "online.env_steps=0")


def test_deterministic_allows_one_of_each() -> None:
    config = build("deterministic=true", "learners=1", "rollout_workers=1")
    assert config.deterministic
    validate(config)


def test_a_saved_policy_needs_a_checkpoint() -> None:
    with pytest.raises(ConfigError, match=r"^checkpoint: "):
        load_config(CollectConfig, None, ["policy=checkpoint"], presets=PRESETS)
    assert (
        load_config(CollectConfig, None, ["policy=checkpoint", "checkpoint=x"], presets=PRESETS).checkpoint == "x"
    )


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"preset 'dmeo': unknown; did you mean demo\?"):
        load_config(RunConfig, "dmeo", presets=PRESETS)


def test_presets_that_build_on_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("preset: b\n")
    (tmp_path / "b.yaml").write_text("preset: a\n")
    with pytest.raises(ConfigError, match="builds on itself"):
        load_config(RunConfig, "a", presets=tmp_path)


def num_settings(config: object) -> int:
    if not dataclasses.is_dataclass(config):
        return len(config) if isinstance(config, dict) and config else 1
    return sum(num_settings(getattr(config, field.name)) for field in dataclasses.fields(config))


def test_dict_and_flat_view_hold_every_value() -> None:
    flat = flatten(to_dict(RunConfig()))
    assert flat["planner.horizon"] == 4
    assert flat["evaluation.policies"] == list(FAMILIES["masked_trajectory"].evaluated)
    assert len(flat) == num_settings(RunConfig())
    assert json.loads(json.dumps(flat)) == flat


printable = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
configurations = st.builds(
    RunConfig,
    seed=st.integers(0, 2**63 - 1),
    discount=st.floats(0.0, 1.0),
    planner=st.builds(PlannerConfig, horizon=st.integers(0, 8), temperature=st.floats(0.0, 1e9)),
    tracking=st.builds(TrackingConfig, experiment=printable),
)


@settings(max_examples=20, deadline=None)
@given(config=configurations)
@example(config=RunConfig(tracking=TrackingConfig(experiment="1e-4")))
@example(config=RunConfig(tracking=TrackingConfig(experiment="010")))
@example(config=RunConfig(tracking=TrackingConfig(experiment="null")))
def test_yaml_round_trip_is_exact(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    file.write_text(dump_yaml(config))
    assert yaml.safe_load(file.read_text()) == to_dict(config)
    assert load_config(RunConfig, file, presets=PRESETS) == config


def test_a_dumped_configuration_loads_again(tmp_path: Path) -> None:
    config = load_config(RunConfig, "smoke", ["masked_trajectory.training.learning_rate=1e-05"], presets=PRESETS)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_config(RunConfig, tmp_path / "config.yaml", presets=PRESETS) == config


def test_the_first_difference_is_named() -> None:
    config = build("planner.horizon=3", "online.env_steps=7")
    assert first_difference(config, RunConfig()) == "planner.horizon"
    assert first_difference(json.loads(json.dumps(to_dict(config))), config) is None
    assert first_difference({"seed": 1}, {"seed": 1, "extra": 2}) == "extra"


def test_the_digest_changes_with_any_value_only() -> None:
    assert digest(RunConfig()) == digest(build())
    assert digest(RunConfig()) != digest(build("planner.td_lambda=0.61"))
