"""Huber-expectile regression against its formula, and the threshold that follows a quantile."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from system.models.optimizer_state import keep_gradients
from system.values.huber_expectile import HuberExpectileIQL, huber_expectile_loss
from system.values.iql import IQL, expectile_loss
from tests.unit.test_iql import CONFIG, DISCOUNT, make_batch, make_networks


@pytest.mark.parametrize("delta", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_the_loss_is_the_formula(expectile: float, delta: float) -> None:
    difference = torch.linspace(-3.0, 3.0, 41, dtype=torch.float64)
    expected = 0.0
    for u in difference.tolist():
        huber = 0.5 * u * u if abs(u) <= delta else delta * (abs(u) - 0.5 * delta)
        expected += abs(expectile - (1.0 if u < 0 else 0.0)) * huber / 41
    assert huber_expectile_loss(difference, expectile, delta).item() == pytest.approx(expected)
    if expectile == 0.5:
        theirs = 0.5 * functional.huber_loss(difference, torch.zeros_like(difference), delta=delta)
        assert huber_expectile_loss(difference, 0.5, delta).item() == pytest.approx(theirs.item())


def test_without_a_threshold_it_is_half_of_the_expectile_loss_gradient_included() -> None:
    ours, theirs = (torch.tensor([-2.0, -0.1, 0.0, 0.4, 3.0], requires_grad=True) for _ in range(2))
    loss = huber_expectile_loss(ours, 0.8, math.inf)
    reference = 0.5 * expectile_loss(theirs, 0.8)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_an_outlier_moves_the_minimum_less() -> None:
    targets = torch.cat([torch.linspace(-1.0, 1.0, 21), torch.tensor([100.0])])

    def minimum(delta: float) -> float:
        candidates = torch.linspace(-2.0, 20.0, 2201)
        losses = [huber_expectile_loss(targets - value, 0.7, delta).item() for value in candidates]
        return float(candidates[int(np.argmin(losses))])

    assert minimum(math.inf) > 5.0
    assert minimum(1.0) < 1.0


def test_the_threshold_finds_the_quantile_of_errors() -> None:
    learner = HuberExpectileIQL(make_networks(), CONFIG, DISCOUNT, keep_gradients, quantile=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3000):
        learner._value_loss(3.0 * torch.randn(64, generator=generator))
        learner._after_step(torch.tensor(True))
    assert learner.log_threshold.exp().item() == pytest.approx(3.0 * 1.645, rel=0.1)
    before = learner.log_threshold.item()
    learner._after_step(torch.tensor(False))
    assert learner.log_threshold.item() == before, "a step that is left out changes nothing"


def test_it_learns_as_iql_does_but_for_the_loss_of_v() -> None:
    networks = make_networks()
    other, batch = copy.deepcopy(networks), make_batch()
    learner = HuberExpectileIQL(networks, CONFIG, DISCOUNT, keep_gradients, quantile=0.5)
    ours, theirs = learner.update(batch), IQL(other, CONFIG, DISCOUNT, keep_gradients).update(batch)
    for name in ("critic/q_loss", "critic/actor_loss"):
        assert torch.equal(ours[name], theirs[name])
    assert ours["critic/value_loss"] < 0.5 * theirs["critic/value_loss"]
    for name, value in networks.state_dict().items():
        if not name.startswith("value."):
            assert torch.equal(value, other.state_dict()[name]), name


def test_a_restored_one_goes_on_with_its_threshold() -> None:
    config = replace(CONFIG, learning_rate=1e-3)
    first = HuberExpectileIQL(make_networks(), config, DISCOUNT, keep_gradients, quantile=0.5)
    for _ in range(3):
        first.update(make_batch())
    second = HuberExpectileIQL(copy.deepcopy(first.networks), config, DISCOUNT, keep_gradients, quantile=0.5)
    second.load_state(first.state())
    assert first.log_threshold.item() != 0.0
    for _ in range(3):
        assert first.update(make_batch())["critic/value_loss"] == second.update(make_batch())["critic/value_loss"]
    assert torch.equal(first.log_threshold, second.log_threshold)
