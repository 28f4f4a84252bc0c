"""The world-action learner: sharding, exact continuation, what is trained when."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import with_method
from torch import nn

from system.config import PretrainConfig
from system.envs.atari_games import GAMES
from system.errors import ConfigError
from system.families.world_action import losses as jowa_losses
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.categorical_value import project_distribution
from system.families.world_action.config import WorldActionTrainingConfig
from system.families.world_action.learner import WorldActionLearner, learning_rate_at
from system.types import SegmentBatch, TaskSpec
from tests.support.jowa_windows import (
    BREAKOUT,
    CONFIG,
    DISCOUNT,
    LENGTH,
    PER_FRAME,
    PONG,
    TASK,
    draw_segments,
    hidden_of,
    make_agent,
    windows_of,
    with_training,
)


def update(learner: WorldActionLearner, step: int, stage: str = "offline", rows: int = 4) -> dict[str, float]:
    metrics = learner.update(draw_segments(rows, seed=step), [], stage=stage, step=step)
    return {name: float(value) for name, value in metrics.items()}


def changed(before: nn.Module, after: nn.Module) -> bool:
    pairs = zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    return any(not torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("objective", "clone_weight", "stage", "step", "trained"),
    [
        ("jowa", 0.0, "offline", 3, {"world"}),
        ("jowa", 0.0, "offline", 4, {"world", "value"}),
        ("jowa", 0.0, "online", 0, {"world", "value"}),
        ("jowa", 0.5, "offline", 3, {"world", "clone"}),
        ("jowa", 0.5, "offline", 4, {"world", "value", "clone"}),
        ("jowa", 0.5, "online", 0, {"world", "value", "clone"}),
        ("conservative_q", 0.5, "offline", 0, {"value"}),
        ("clone", 0.0, "offline", 0, {"clone"}),
    ],
)
def test_each_objective_and_stage_trains_its_heads(
    objective: str, clone_weight: float, stage: str, step: int, trained: set[str]
) -> None:
    config = with_training(objective=objective, clone_weight=clone_weight, weight_decay=0.0)
    agent, fresh = WorldActionAgent(TASK, config), WorldActionAgent(TASK, config)
    metrics = update(WorldActionLearner(agent, config), step, stage)
    assert {name.split("/")[0] for name in metrics} - {"jowa"} == trained
    assert changed(fresh.model.backbone, agent.model.backbone) == (objective != "conservative_q")
    assert changed(fresh.model.reward_head, agent.model.reward_head) == ("world" in trained)
    assert changed(fresh.model.q_head.output, agent.model.q_head.output) == ("value" in trained)
    assert (agent.model.clone_output is not None) == ("clone" in trained)
    if agent.model.clone_output is not None:
        assert changed(fresh.model.clone_output, agent.model.clone_output)
    assert not changed(fresh.tokenizer, agent.tokenizer)


def test_the_joint_loss_weighs_its_terms() -> None:
    config = with_training(world_weight=0.3, conservative_weight=0.7, clone_weight=0.2)
    learner = WorldActionLearner(make_agent(config), config)
    windows = windows_of(draw_segments())
    joint, terms = learner._loss(windows, False)
    world = sum(terms[f"world/{name}_loss"] for name in ("token", "reward", "end"))
    expected = 0.3 * world + terms["value/td_loss"] + 0.7 * terms["value/conservative_loss"]
    expected = expected + 0.2 * terms["clone/loss"]
    assert joint.item() == pytest.approx(expected.item(), rel=1e-6)
    alone, terms = learner._loss(windows, True)
    assert alone.item() == pytest.approx((world + 0.2 * terms["clone/loss"]).item(), rel=1e-6)


def test_the_learner_backs_up_the_best_of_the_likely_actions() -> None:
    def td(threshold: float) -> float:
        config = with_training(clone_weight=1.0)
        config = replace(config, planner=replace(config.planner, support_threshold=threshold))
        learner = WorldActionLearner(make_agent(config), config)
        return learner._loss(windows_of(draw_segments()), False)[1]["value/td_loss"].item()

    assert td(1.0) != pytest.approx(td(0.0), rel=1e-6)


def test_the_learner_takes_the_configured_share_of_received_returns() -> None:
    segments = draw_segments()
    segments.returns_to_go[:] = 25.0
    windows = windows_of(segments)

    def td(share: float) -> float:
        config = with_training(return_share=share)
        return WorldActionLearner(make_agent(config), config)._loss(windows, False)[1]["value/td_loss"].item()

    assert td(1.0) != pytest.approx(td(0.0), rel=0.01)
    assert td(0.5) == pytest.approx((td(0.0) + td(1.0)) / 2, rel=1e-5)


def test_no_gradient_reaches_targets_and_all_terms_reach_the_backbone() -> None:
    agent = make_agent()
    learner = WorldActionLearner(agent, CONFIG)
    _, terms = learner._loss(windows_of(draw_segments()), False)
    for name in ("world/token_loss", "world/end_loss", "value/td_loss", "value/conservative_loss"):
        agent.zero_grad(set_to_none=True)
        terms[name].backward(retain_graph=True)
        assert float(agent.model.token_table.grad.abs().max()) > 0.0, name
    assert all(parameter.grad is None for parameter in agent.target_head.parameters())


def test_the_target_is_copied_by_the_step_alone() -> None:
    agent = make_agent()
    learner = WorldActionLearner(agent, CONFIG)
    copied = []
    for stage, step in [("offline", step) for step in range(8)] + [("online", step) for step in range(4)]:
        before = {name: value.clone() for name, value in agent.target_head.state_dict().items()}
        online = {name: value.clone() for name, value in agent.model.q_head.state_dict().items()}
        update(learner, step, stage)
        after = agent.target_head.state_dict()
        if any(not torch.equal(before[name], value) for name, value in after.items()):
            assert all(torch.equal(online[name], value) for name, value in after.items())
            copied.append((stage, step))
    assert copied == [("offline", 4), ("offline", 7), ("online", 0), ("online", 3)]


class Halves:
    """Two learners whose gradients are averaged: the first one's wait until the second's are there."""

    def __init__(self) -> None:
        self.offered: list[list[torch.Tensor]] = []

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        own = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.offered.append([gradient.clone() for gradient in own])
        if len(self.offered) == 2:
            for gradient, first in zip(own, self.offered[0], strict=True):
                gradient.add_(first).div_(2.0)


@pytest.mark.parametrize(
    ("objective", "clone_weight"), [("jowa", 0.0), ("jowa", 0.5), ("conservative_q", 0.0), ("clone", 0.0)]
)
def test_two_learners_on_half_batches_equal_one_on_the_whole(objective: str, clone_weight: float) -> None:
    # Small steps: Adam makes whole ones of the rounding of gradients that are zero (the key biases').
    config = with_training(objective=objective, clone_weight=clone_weight, online_learning_rate=1e-5)
    whole_agent, first_agent, second_agent = (make_agent(config) for _ in range(3))
    whole, halves = draw_segments(8), Halves()
    shares = [
        SegmentBatch(**{name: value[part] for name, value in vars(whole).items()})
        for part in (slice(0, 4), slice(4, 8))
    ]
    WorldActionLearner(whole_agent, config).update(whole, [], stage="online", step=1)
    for rank, (agent, share) in enumerate(zip((first_agent, second_agent), shares, strict=True)):
        learner = WorldActionLearner(agent, config, average_gradients=halves.average, shard=(rank, 2))
        learner.update(share, [], stage="online", step=1)
    for ours, theirs in zip(second_agent.model.parameters(), whole_agent.model.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            assert float((ours.grad - theirs.grad).abs().max()) <= 1e-6
        assert float((ours - theirs).detach().abs().max()) <= 1e-6


@pytest.mark.parametrize(("dropout", "optimizer"), [(0.0, "adamw"), (0.3, "adamw"), (0.0, "muon")])
def test_a_restored_learner_goes_on_bit_for_bit(dropout: float, optimizer: str) -> None:
    config = with_method(with_training(optimizer=optimizer), model=replace(CONFIG.method.model, dropout=dropout))
    learner, other = (WorldActionLearner(WorldActionAgent(TASK, config), config) for _ in range(2))
    for step in range(5):
        update(learner, step)
    other.load_state(learner.state())
    torch.manual_seed(123)
    for step in range(5, 8):
        assert update(learner, step) == update(other, step)
    ours, theirs = learner.state(), other.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    acting = WorldActionAgent(TASK, config)
    acting.load_state_dict(learner.weights())
    assert not changed(acting, learner.agent)


def test_dropout_leaves_targets_and_the_global_generator_alone() -> None:
    config = with_method(CONFIG, model=replace(CONFIG.method.model, dropout=0.5))
    agent = make_agent(config)
    learner = WorldActionLearner(agent, config)
    windows = windows_of(draw_segments())
    features = hidden_of(agent, windows)[1]
    calm = learner._target_features(features, windows)
    assert torch.equal(calm, learner._target_features(features, windows))
    assert not torch.equal(calm, features)
    assert agent.model.training
    agent.eval()
    # Another order of summation on some processors: the target's pass leaves out what no value is read from.
    torch.testing.assert_close(calm, hidden_of(agent, windows)[1].detach())
    before = torch.random.get_rng_state()
    update(learner, 6)
    assert torch.equal(before, torch.random.get_rng_state())


def test_targets_are_computed_without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(
        with_method(with_training(clone_weight=1.0), model=replace(CONFIG.method.model, q_dropout=0.5)),
        planner=replace(CONFIG.planner, support_threshold=0.5),
    )
    learner = WorldActionLearner(make_agent(config), config)
    windows, targets = windows_of(draw_segments()), []

    def record(*parts: torch.Tensor) -> torch.Tensor:
        targets.append(parts[0])
        return project_distribution(*parts)

    monkeypatch.setattr(jowa_losses, "project_distribution", record)
    losses = []
    for seed in range(4):
        torch.manual_seed(seed)
        losses.append(learner._loss(windows, world_alone=False)[1]["value/td_loss"].item())
    assert all(torch.equal(target, targets[0]) for target in targets)
    assert len(set(losses)) > 1, "the predictions themselves have dropout"


def test_values_of_a_chain_are_learnt_and_stop_at_its_end() -> None:
    """Three frames, rewards 0, 0, 1, the end; a second action that the data lack is worth less under CQL."""
    config = with_method(
        with_training(
            objective="conservative_q", learning_rate=1e-2, target_update_steps=3, conservative_weight=0.02
        ),
        model=replace(CONFIG.method.model, width=16, num_atoms=41),
    )
    learner = WorldActionLearner(WorldActionAgent(TASK, config), config)
    valid = np.tile(np.array([False, True, True, True]), (2, 1))
    tokens = np.zeros((2, LENGTH, PER_FRAME), np.int16)
    tokens[:, 1:] = np.arange(3)[None, :, None]
    rewards = np.zeros((2, LENGTH), np.float32)
    rewards[:, -1] = 7.0
    terminated = np.zeros((2, LENGTH), bool)
    terminated[:, -1] = True
    segments = SegmentBatch(
        tokens,
        np.ones((2, LENGTH), np.int64) * valid,
        rewards,
        np.zeros((2, LENGTH), np.float32),
        valid,
        valid,
        terminated,
        np.full(2, BREAKOUT),
    )
    for step in range(150):
        learner.update(segments, [], stage="offline", step=step)
    windows = windows_of(segments)
    with torch.no_grad():
        q_values = learner.agent.model.q_values(hidden_of(learner.agent, windows)[1])[0, :3]
    assert q_values[:, 1].tolist() == pytest.approx([DISCOUNT**2, DISCOUNT, 1.0], abs=0.12)
    valid_actions = list(GAMES[BREAKOUT].minimal_actions)
    assert q_values[:, valid_actions].argmax(-1).tolist() == [1, 1, 1]


def test_losses_fall_on_a_repeated_batch() -> None:
    config = replace(with_training(world_share=1.0), pretrain=PretrainConfig(update_steps=100))
    learner = WorldActionLearner(WorldActionAgent(TASK, config), config)
    segments = draw_segments()
    history = [learner.update(segments, [], stage="offline", step=step) for step in range(100)]
    for name in ("world/token_loss", "world/reward_loss", "world/end_loss"):
        assert float(history[-1][name]) < 0.6 * float(history[0][name]), name


def test_the_learning_rate_warms_up_and_stays_or_falls() -> None:
    training = WorldActionTrainingConfig(learning_rate=1.0, online_learning_rate=0.25, warmup_steps=4)
    steps = (0, 1, 3, 4, 90)
    assert [learning_rate_at(training, "offline", step, 100) for step in steps] == [0.25, 0.5, 1.0, 1.0, 1.0]
    falling = replace(training, final_learning_rate_fraction=0.1)
    rates = [learning_rate_at(falling, "offline", step, 100) for step in (1, 3, 4, 52, 100, 200)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.55, 0.1, 0.1])
    assert learning_rate_at(falling, "online", 0, 100) == 0.25
    learner = WorldActionLearner(make_agent(), CONFIG)
    update(learner, 0)
    rates = [group["lr"] for optimizer in learner.optimizers.values() for group in optimizer.param_groups]
    assert rates == pytest.approx([1.5e-3] * len(rates))


def test_decay_is_for_weight_matrices() -> None:
    learner = WorldActionLearner(make_agent(), CONFIG)
    decayed, free = (group["params"] for group in learner.optimizers["world_action_optimizer"].param_groups)
    names = {id(parameter): name for name, parameter in learner.agent.model.named_parameters()}
    decayed_names, free_names = ({names[id(parameter)] for parameter in part} for part in (decayed, free))
    assert {"backbone.blocks.0.query_key_value.weight", "token_head.head.0.weight"} <= decayed_names
    tables = {"token_table", "step_table", "place_table"}
    assert {*tables, "token_head.head.0.bias", "token_head.weight", "token_head.bias"} <= free_names
    assert len(decayed) + len(free) == len(names)


def test_muon_is_for_the_backbones_matrices_and_moves_them_evenly_in_all_directions() -> None:
    config = with_training(optimizer="muon", muon_rate_factor=3.0, warmup_steps=0, weight_decay=0.0)
    learner = WorldActionLearner(make_agent(config), config)
    parameters = dict(learner.agent.model.named_parameters())
    before = {name: value.detach().clone() for name, value in parameters.items()}
    groups = {name: each.param_groups for name, each in learner.optimizers.items()}
    muons = {id(value) for group in groups["backbone_optimizer"] for value in group["params"]}
    adams = {id(value) for group in groups["world_action_optimizer"] for value in group["params"]}
    assert muons == {id(v) for name, v in parameters.items() if name.startswith("backbone.") and v.ndim == 2}
    assert adams == {id(value) for value in parameters.values()} - muons
    update(learner, 3)
    rate = learner.optimizers["backbone_optimizer"].param_groups[0]["lr"]
    assert rate == 3.0 * learner.optimizers["world_action_optimizer"].param_groups[0]["lr"] > 0.0
    name = "backbone.blocks.0.query_key_value.weight"
    step = parameters[name].detach() - before[name]
    # Muon makes all singular values about 1, times 0.2 √(longer side): entries as large as those of AdamW's steps.
    strengths = torch.linalg.svdvals(step) / (0.2 * rate * max(step.shape) ** 0.5)
    assert strengths.amin() > 0.5
    assert strengths.amax() < 1.5
    assert not torch.equal(parameters["token_table"], before["token_table"])


def test_the_agents_weights_follow_the_seed_and_its_frozen_parts_stay_in_evaluation_mode() -> None:
    state = torch.random.get_rng_state()
    first, second = WorldActionAgent(TASK, CONFIG), WorldActionAgent(TASK, CONFIG)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not changed(first, second)
    assert changed(first, WorldActionAgent(TASK, replace(CONFIG, seed=1)))
    assert not changed(first.model.q_head, first.target_head)
    first.train()
    assert (first.model.training, first.tokenizer.training, first.target_head.training) == (True, False, False)
    frozen = [*first.tokenizer.parameters(), *first.target_head.parameters()]
    assert not any(parameter.requires_grad for parameter in frozen)
    second.tokenizer.load_state_dict({name: value + 1 for name, value in second.tokenizer.state_dict().items()})
    first.set_tokenizer(second.tokenizer.state_dict())
    assert not changed(first.tokenizer, second.tokenizer)


def test_every_game_has_its_own_buttons() -> None:
    table = WorldActionAgent(replace(TASK, valid_actions=(0, 2)), CONFIG).valid_actions
    assert table.shape == (len(GAMES), 18)
    assert table[PONG].nonzero().flatten().tolist() == [0, 2]
    assert table[BREAKOUT].nonzero().flatten().tolist() == [0, 1, 3, 4]
    with pytest.raises(ConfigError, match="Hopper-v5"):
        WorldActionAgent(TaskSpec("Hopper-v5", 11, 3, 1000), CONFIG)


def test_bfloat16_gives_finite_losses_near_those_of_float32() -> None:
    configs = CONFIG, replace(CONFIG, precision="bfloat16")
    exact, rough = (update(WorldActionLearner(make_agent(config), config), 6) for config in configs)
    assert exact != rough
    for name, value in exact.items():
        assert rough[name] == pytest.approx(value, rel=0.1, abs=0.1), name
