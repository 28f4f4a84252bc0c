"""Distributions, masks and the trajectory model: what each promises in its docstring."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from system.decisions import Context
from system.families.masked_trajectory.config import ModelConfig, planning_masks
from system.families.masked_trajectory.mask_layout import layout_of
from system.families.masked_trajectory.masks import (
    ACTIONS,
    RETURNS,
    REWARDS,
    STATES,
    TASK_MASKS,
    forward_dynamics,
    random_autoregressive,
    return_conditioned,
    sample_training_mask,
)
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.models.distributions import SquashedNormal

LENGTH = 6


def squashed() -> SquashedNormal:
    generator = torch.Generator().manual_seed(0)
    return SquashedNormal(torch.randn(4, 3, generator=generator), 0.3 * torch.randn(4, 3, generator=generator))


def test_the_log_density_is_that_of_tanh_of_a_normal() -> None:
    ours = squashed()
    actions = ours.sample(1, torch.Generator().manual_seed(1))[0].clamp(-0.99, 0.99)
    theirs = Independent(TransformedDistribution(Normal(ours.mean, ours.log_std.exp()), TanhTransform()), 1)
    assert torch.allclose(ours.log_prob(actions), theirs.log_prob(actions), atol=1e-4)


def test_actions_at_the_bounds_have_a_finite_density() -> None:
    assert torch.isfinite(squashed().log_prob(torch.ones(4, 3))).all()


def test_the_entropy_estimate_is_the_mean_negative_log_density() -> None:
    one = squashed()
    ours = SquashedNormal(one.mean.expand(4000, 4, 3), one.log_std.expand(4000, 4, 3))
    estimate = ours.entropy(torch.randn(4000, 4, 3, generator=torch.Generator().manual_seed(2))).mean(0)
    literal = -ours.log_prob(ours.sample(1, torch.Generator().manual_seed(3))[0]).mean(0)
    assert torch.allclose(estimate, literal, atol=0.1)


@pytest.mark.parametrize("current", [0, 3, LENGTH - 1])
def test_the_named_masks_show_what_their_names_say(current: int) -> None:
    steps = np.arange(LENGTH)
    rcbc, dynamics = return_conditioned(LENGTH, current), forward_dynamics(LENGTH, current)
    assert np.array_equal(rcbc[STATES], steps <= current)
    assert np.array_equal(rcbc[ACTIONS], steps < current)
    assert rcbc[RETURNS, current]
    assert not rcbc[REWARDS].any()
    assert np.array_equal(dynamics[STATES], steps <= current)
    assert dynamics[ACTIONS].all()
    assert not dynamics[RETURNS].any()
    assert not dynamics[REWARDS].any()


def test_a_training_mask_always_hides_an_action_and_the_future_of_its_anchor() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        mask = random_autoregressive(LENGTH, generator)
        assert mask.shape == (4, LENGTH)
        assert not mask[ACTIONS].all()


def test_the_share_of_task_masks_is_what_is_asked_for() -> None:
    exact = [
        mask(LENGTH, current).tobytes()
        for mask in (return_conditioned, forward_dynamics)
        for current in range(LENGTH)
    ]
    generator = np.random.default_rng(0)
    always = [sample_training_mask(LENGTH, planning_masks(1.0), generator).tobytes() in exact for _ in range(100)]
    assert all(always)
    rarely = planning_masks(0.4)
    share = np.mean([sample_training_mask(LENGTH, rarely, generator).tobytes() in exact for _ in range(3000)])
    assert share == pytest.approx(0.4, abs=0.05)


@pytest.fixture(scope="module")
def model() -> MaskedTrajectoryModel:
    torch.manual_seed(0)
    config = ModelConfig(context_length=LENGTH, width=16, encoder_layers=1, decoder_layers=1, num_heads=2)
    model = MaskedTrajectoryModel(5, 2, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def flat_model(**settings: Any) -> MaskedTrajectoryModel:
    torch.manual_seed(0)
    config = ModelConfig(context_length=LENGTH, width=16, network="mlp", **settings)
    return MaskedTrajectoryModel(5, 2, config).eval()


def tokens(seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    return Tokens(
        states=torch.randn(3, LENGTH, 5, generator=generator),
        returns=torch.randn(3, LENGTH, generator=generator),
        actions=torch.rand(3, LENGTH, 2, generator=generator),
        rewards=torch.randn(3, LENGTH, generator=generator),
        valid=torch.ones(3, LENGTH, dtype=torch.bool),
    )


@pytest.mark.parametrize("network", ["transformer", "mlp"])
@pytest.mark.parametrize("name", TASK_MASKS)
@torch.no_grad()
def test_hidden_tokens_are_not_looked_at_and_visible_ones_are(
    name: str, network: str, model: MaskedTrajectoryModel
) -> None:
    model = flat_model() if network == "mlp" else model
    mask = TASK_MASKS[name](LENGTH, 3)
    original, other = tokens(0), tokens(1)

    def mixed(take_visible: bool) -> Tokens:
        """Other values in the visible tokens, or in the hidden ones."""
        swap = {
            modality: torch.from_numpy(mask[modality] == take_visible)
            for modality in (STATES, RETURNS, ACTIONS, REWARDS)
        }
        return Tokens(
            states=torch.where(swap[STATES][:, None], other.states, original.states),
            returns=torch.where(swap[RETURNS], other.returns, original.returns),
            actions=torch.where(swap[ACTIONS][:, None], other.actions, original.actions),
            rewards=torch.where(swap[REWARDS], other.rewards, original.rewards),
            valid=original.valid,
        )

    outputs = model(original, mask)
    assert torch.equal(model(mixed(take_visible=False), mask), outputs)
    assert not torch.allclose(model(mixed(take_visible=True), mask), outputs, atol=1e-3)


@torch.no_grad()
def test_asking_for_some_steps_is_part_of_asking_for_all(model: MaskedTrajectoryModel) -> None:
    mask = forward_dynamics(LENGTH, 2)
    partial = model.reconstruct(tokens(), mask, first_step=2, modalities=(STATES, REWARDS))
    decoded = model(tokens(), mask)
    assert torch.allclose(
        partial.states, model.predict_states(decoded[:, STATES], tokens(), mask, 0)[:, 2:], atol=1e-5
    )
    assert torch.allclose(partial.rewards, model.predict_scalar(decoded[:, REWARDS], REWARDS)[:, 2:], atol=1e-5)
    assert partial.returns.shape == (3, 0)


@torch.no_grad()
def test_predictions_are_in_the_units_of_the_task() -> None:
    """A state is the latest visible one and a change in standard deviations; the others are mean + std · head."""
    torch.manual_seed(0)
    model = MaskedTrajectoryModel(3, 2, ModelConfig(context_length=LENGTH, width=16, num_heads=2))
    decoded = torch.randn(2, LENGTH, 16)
    for modality, head in ((RETURNS, model.return_head), (REWARDS, model.reward_head)):
        assert torch.equal(model.predict_scalar(decoded, modality), head(decoded).squeeze(-1)), (
            "no scale of its own"
        )
    mean, std = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([2.0, 0.5, 4.0])
    model.observation_mean.copy_(mean)
    model.observation_std.copy_(std)
    model.return_scale.copy_(torch.tensor([10.0, 3.0]))
    model.reward_scale.copy_(torch.tensor([-1.0, 0.25]))
    assert torch.allclose(model.predict_scalar(decoded, RETURNS), 10.0 + 3.0 * model.return_head(decoded)[..., 0])
    assert torch.allclose(model.predict_scalar(decoded, REWARDS), 0.25 * model.reward_head(decoded)[..., 0] - 1.0)
    states = torch.randn(2, LENGTH, 3)
    assert torch.allclose(model.standardize_states(states), (states - mean) / std)

    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    valid[1, :3] = False
    scalars = torch.zeros(2, LENGTH)
    tokens = Tokens(states, scalars, torch.zeros(2, LENGTH, 2), scalars, valid)
    mask = np.zeros((4, LENGTH), dtype=bool)
    mask[STATES, [1, 4]] = True
    change = std * model.state_head(decoded)
    latest = [
        [mean, states[0, 1], states[0, 1], states[0, 1], states[0, 4], states[0, 4]],
        [mean, mean, mean, mean, states[1, 4], states[1, 4]],
    ]
    expected = torch.stack([torch.stack(row) for row in latest]) + change
    assert torch.allclose(model.predict_states(decoded, tokens, mask, 0), expected, atol=1e-6)
    assert torch.allclose(model.predict_states(decoded[:, 2:], tokens, mask, 2), expected[:, 2:], atol=1e-6)


@torch.no_grad()
def test_every_token_is_read_in_standard_units() -> None:
    """Other units with the statistics that belong to them are the same window."""
    torch.manual_seed(0)
    model = MaskedTrajectoryModel(3, 2, ModelConfig(context_length=LENGTH, width=16, num_heads=2))
    states, returns, rewards = torch.randn(2, LENGTH, 3), torch.randn(2, LENGTH), torch.randn(2, LENGTH)
    actions, valid = torch.rand(2, LENGTH, 2) * 2 - 1, torch.ones(2, LENGTH, dtype=torch.bool)
    mask = np.ones((4, LENGTH), dtype=bool)
    mask[:, -1] = False
    plain = model(Tokens(states, returns, actions, rewards, valid), mask)
    mean, std = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([2.0, 0.5, 4.0])
    model.observation_mean.copy_(mean)
    model.observation_std.copy_(std)
    model.return_scale.copy_(torch.tensor([10.0, 3.0]))
    model.reward_scale.copy_(torch.tensor([-1.0, 0.25]))
    scaled = Tokens(mean + std * states, 10.0 + 3.0 * returns, actions, 0.25 * rewards - 1.0, valid)
    assert torch.allclose(model(scaled, mask), plain, atol=1e-5)
    unscaled = model(Tokens(states, returns, actions, rewards, valid), mask)
    for changed in (
        Tokens(states + 1.0, returns, actions, rewards, valid),
        Tokens(states, returns + 1.0, actions, rewards, valid),
        Tokens(states, returns, -actions, rewards, valid),
        Tokens(states, returns, actions, rewards + 1.0, valid),
    ):
        assert not torch.allclose(model(changed, mask), unscaled)


@torch.no_grad()
def test_hidden_states_are_expected_on_the_line_between_visible_ones() -> None:
    """Dimension by dimension, where a state is known in part; a head that says nothing leaves the line."""
    config = ModelConfig(
        context_length=LENGTH, width=16, num_heads=2, partial_states=True, hidden_states="on_line"
    )
    model = MaskedTrajectoryModel(2, 2, config)
    model.observation_mean.copy_(torch.tensor([7.0, 8.0]))
    for parameter in model.state_head.parameters():
        parameter.zero_()
    states = torch.randn(2, LENGTH, 2)
    states[:, 1] = torch.tensor([0.0, 0.0])
    states[:, 4] = torch.tensor([3.0, 30.0])
    known = torch.ones(2, LENGTH, 2, dtype=torch.bool)
    known[1, 4, 1] = False
    states[1, 4, 1] = float("nan")
    scalars, valid = torch.zeros(2, LENGTH), torch.ones(2, LENGTH, dtype=torch.bool)
    mask = np.zeros((4, LENGTH), dtype=bool)
    mask[STATES, [1, 4]] = True
    tokens = Tokens(states, scalars, torch.zeros(2, LENGTH, 2), scalars, valid, states_known=known)
    found = model.predict_states(torch.randn(2, LENGTH, 16), tokens, mask, 0)
    ends = [3.0] * (LENGTH - 5)
    assert found[:, :, 0].tolist() == [[0.0, 0.0, 1.0, 2.0, 3.0, *ends]] * 2
    assert found[0, :, 1].tolist() == [0.0, 0.0, 10.0, 20.0, 30.0, *([30.0] * (LENGTH - 5))]
    assert found[1, :, 1].tolist() == [0.0] * LENGTH


@torch.no_grad()
def test_representations_are_of_single_steps(model: MaskedTrajectoryModel) -> None:
    """What the encoder makes of a window's first step of which nothing else is seen."""
    window = tokens()
    mask = np.zeros((4, LENGTH), dtype=bool)
    mask[STATES, 0] = True
    layout = layout_of(mask, window.states.device)
    encoded = model._encode(window, layout, model._valid_tokens(window, layout))
    assert torch.allclose(model.represent(window.states[:, 0]), encoded[:, 0], atol=1e-5)
    mask[ACTIONS, 0] = True
    layout = layout_of(mask, window.states.device)
    both = model._encode(window, layout, model._valid_tokens(window, layout)).flatten(1)
    assert torch.allclose(model.represent(window.states[:, 0], window.actions[:, 0]), both, atol=1e-5)


@pytest.mark.parametrize("network", ["transformer", "mlp"])
@pytest.mark.parametrize("base", ["from_latest", "on_line"])
@torch.no_grad()
def test_unknown_dimensions_of_a_visible_state_are_not_looked_at(base: Any, network: Any) -> None:
    """Whatever stands there, to the last bit; and to be unknown is something else than to be average."""
    config = ModelConfig(
        network, context_length=LENGTH, width=16, num_heads=2, partial_states=True, hidden_states=base
    )
    torch.manual_seed(0)
    partial = MaskedTrajectoryModel(5, 2, config).eval()
    for parameter in partial.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    mask, window = TASK_MASKS["path_inference"](LENGTH, 2), tokens()
    known = torch.ones(3, LENGTH, 5, dtype=torch.bool)
    known[:, -1, [1, 4]] = False
    known[2, 0, 3] = False

    def outputs(hidden: float, states_known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        changed = replace(window, states=window.states.where(known, hidden), states_known=states_known)
        decoded = partial(changed, mask)
        return decoded, partial.predict_states(decoded[:, STATES], changed, mask, 0)

    first = outputs(0.0, known)
    for hidden in (9.0, float("nan"), float("-inf")):
        assert all(torch.equal(*pair) for pair in zip(first, outputs(hidden, known), strict=True))
    everything = torch.ones_like(known)
    assert not torch.allclose(outputs(0.0, everything)[0], first[0], atol=1e-3), "0 is the average"
    assert not torch.allclose(outputs(9.0, everything)[1], outputs(0.0, everything)[1], atol=1e-3)


@torch.no_grad()
def test_a_flat_model_imagines_and_represents_as_it_reconstructs() -> None:
    flat, window = flat_model(), tokens()
    current, horizon = 2, LENGTH - 2
    now = current + 1
    context = Context(window.states[:, :now], window.actions[:, :current], window.valid[:, :now], torch.zeros(3))
    plans = torch.stack([window.actions[:, current:], -window.actions[:, current:]], dim=1)
    found = imagine_plans(flat, context, plans, (RETURNS, REWARDS))
    for index, sign in enumerate((1.0, -1.0)):
        actions = torch.cat([window.actions[:, :current], sign * window.actions[:, current:]], dim=1)
        single = flat.reconstruct(
            replace(window, actions=actions),
            forward_dynamics(LENGTH, current),
            first_step=current,
            modalities=(STATES, RETURNS, REWARDS),
        )
        assert found.rewards is not None and found.returns is not None
        assert torch.allclose(found.states[:, index, 1:], single.states[:, 1:], atol=1e-5)
        assert torch.allclose(found.rewards[:, index], single.rewards, atol=1e-5)
        assert torch.allclose(found.returns[:, index], single.returns, atol=1e-5)
    assert found.states.shape == (3, 2, horizon, 5)
    alone = flat.represent(window.states[:, 0])
    assert alone.shape == flat.represent(window.states[:, 0], window.actions[:, 0]).shape == (3, 128)
    assert not torch.allclose(alone, flat.represent(window.states[:, 0], window.actions[:, 0]))
