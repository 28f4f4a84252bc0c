"""What adapting to a game from few transitions can be configured to do, and which models can be begun with."""

from dataclasses import replace
from pathlib import Path

import pytest
from configs import with_method

from system.cli.options import PRESETS
from system.config import RunConfig
from system.config.loading import load_config, to_dict
from system.errors import CheckpointError, ConfigError
from system.runs.checkpoint import CheckpointContent
from system.runs.saved_agent import check_same_model
from tests.support.jowa_windows import CONFIG

FEW_SHOT = "few-shot"


def build(*overrides: str) -> RunConfig:
    return load_config(RunConfig, FEW_SHOT, overrides, presets=PRESETS)


def test_the_preset_adapts_the_two_games_model_to_a_third_game() -> None:
    few, two = build(), load_config(RunConfig, "two-games", presets=PRESETS)
    content = CheckpointContent(tensors={}, documents={"config": to_dict(two)})
    check_same_model(Path("runs/two-games-0"), content, few)
    assert few.dataset.max_transitions == 5000
    assert few.dataset.id not in (two.dataset.id, *two.dataset.also)
    assert few.pretrain.from_checkpoint == "runs/two-games-0"
    assert build("pretrain.from_checkpoint=null").pretrain.from_checkpoint is None
    assert (two.method.training.imagined_share, two.dataset.max_transitions) == (0.0, None), (
        "both are off by default"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["world_action.training.imagined_share=0.3"],
            "world_action.training.imagined_share: 0.3 of a learner's 16 windows is not whole",
        ),
        (["learners=8"], "world_action.training.imagined_share: 0.25 of a learner's 2 windows is not whole"),
        (
            ["world_action.training.imagined_share=1"],
            "world_action.training.imagined_share: 1.0 is out of range [0, 0.9]",
        ),
        (
            ["world_action.training.imagined_steps=7"],
            "world_action.training.imagined_steps: 7 exceeds 6, all that world_action.model.context_length = 8",
        ),
        (
            [
                "world_action.training.objective=conservative_q",
                "evaluation.policies=[q_greedy]",
                "planner.horizon=0",
            ],
            "world_action.training.imagined_share: objective conservative_q has no world model to imagine with",
        ),
        (["dataset.max_transitions=0"], "dataset.max_transitions: 0 is out of range [1, inf]"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(*overrides)
    assert str(refusal.value).startswith(message)


def test_only_the_world_action_family_begins_with_another_runs_weights() -> None:
    with pytest.raises(ConfigError, match=r"^pretrain.from_checkpoint: family masked_trajectory does not"):
        load_config(RunConfig, None, ["pretrain.from_checkpoint=runs/x"], presets=PRESETS)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (RunConfig(), "family = masked_trajectory, but this run's has world_action"),
        (
            with_method(CONFIG, model=replace(CONFIG.method.model, num_layers=3)),
            "world_action.model.num_layers = 3, but this run's has 2",
        ),
        (
            with_method(CONFIG, model=replace(CONFIG.method.model, value_low=-9.0)),
            "world_action.model.value_low = -9.0, but this run's has -10",
        ),
        (
            with_method(CONFIG, tokenizer=replace(CONFIG.method.tokenizer, vocabulary=8)),
            "world_action.tokenizer.vocabulary = 8, but this run's has 9",
        ),
    ],
)
def test_a_model_of_another_kind_or_size_is_refused(changed: RunConfig, difference: str) -> None:
    config = replace(CONFIG, planner=replace(CONFIG.planner, name="beam_search", select="argmax"))
    named = {"masked_trajectory": "forward_mpc", "world_action": "beam_search"}[changed.family]
    policies = {"masked_trajectory": ("iql",), "world_action": ("beam",)}[changed.family]
    saved = replace(
        changed,
        planner=replace(config.planner, name=named, horizon=1),
        evaluation=replace(config.evaluation, policies=policies),
    )
    content = CheckpointContent(tensors={}, documents={"config": to_dict(saved)})
    with pytest.raises(CheckpointError) as refusal:
        check_same_model(Path("there"), content, config)
    assert str(refusal.value).startswith(f"there: a model with {difference}")


def test_what_only_training_depends_on_may_differ() -> None:
    saved = replace(
        CONFIG,
        planner=replace(CONFIG.planner, name="beam_search", select="argmax", horizon=1),
        evaluation=replace(CONFIG.evaluation, policies=("beam",)),
        seed=3,
    )
    method = CONFIG.method
    saved = with_method(
        saved,
        model=replace(method.model, dropout=0.5),
        tokenizer=replace(method.tokenizer, update_steps=7),
    )
    check_same_model(Path("there"), CheckpointContent(tensors={}, documents={"config": to_dict(saved)}), CONFIG)


@pytest.mark.parametrize("name", ["jowa-40m", "jowa-70m", "jowa-150m"])
def test_the_papers_sizes_have_the_papers_settings(name: str) -> None:
    """JOWA tables 11 and 12; nothing of what CPU sizes add."""
    config = load_config(RunConfig, name, (), presets=PRESETS)
    training = config.method.training
    assert (training.batch_size, training.conservative_weight, training.target_update_steps) == (512, 0.1, 1000)
    assert (training.bootstrap_steps, training.return_share, training.clone_weight) == (1, 0.0, 0.0)
    assert (training.optimizer, training.final_learning_rate_fraction) == ("adamw", 1.0)
    model = config.method.model
    assert (training.weight_decay, model.dropout, model.q_dropout) == (0.01, 0.1, 0.01)
    assert (model.num_atoms, model.value_low, model.value_high) == (51, -10.0, 30.0)
    assert (config.planner.support_threshold, config.planner.td_lambda) == (0.0, 1.0)
    assert config.evaluation.random_action_share == 0.0
