"""One update of IQL by hand: each loss, what is reported of it, and what moves."""

import copy

import numpy as np
import pytest
import torch

from system.config import CriticConfig
from system.models.distributions import SquashedNormal
from system.models.optimizer_state import keep_gradients
from system.types import TransitionBatch
from system.values.critics import ValueNetworks
from system.values.iql import IQL, actor_loss

DISCOUNT = 0.9
CONFIG = CriticConfig(
    expectile=0.8, advantage_temperature=2.0, target_update_rate=0.25, learning_rate=1e-2, num_critics=3
)


def make_networks() -> ValueNetworks:
    torch.manual_seed(0)
    networks = ValueNetworks(3, 2, hidden_width=8, num_critics=3, layer_norm=True)
    networks.return_mean.fill_(5.0)
    networks.return_std.fill_(2.0)
    networks.observation_mean.copy_(torch.tensor([0.5, -1.0, 0.0]))
    networks.observation_std.copy_(torch.tensor([2.0, 0.5, 1.0]))
    with torch.no_grad():  # targets that differ from what they follow
        for parameter in networks.target_critics.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return networks


def make_batch() -> TransitionBatch:
    generator = np.random.default_rng(1)
    observations, following = generator.normal(size=(2, 6, 3)).astype(np.float32)
    return TransitionBatch(
        observations=observations,
        actions=generator.uniform(-0.9, 0.9, size=(6, 2)).astype(np.float32),
        rewards=generator.normal(size=6).astype(np.float32),
        next_observations=following,
        terminated=np.array([False, True, False, False, True, False]),
    )


def test_an_update_by_hand() -> None:
    networks, batch = make_networks(), make_batch()
    before = copy.deepcopy(networks)
    metrics = {
        name: value.item() for name, value in IQL(networks, CONFIG, DISCOUNT, keep_gradients).update(batch).items()
    }

    value_loss = q_loss = policy_loss = q_sum = 0.0
    advantages = []
    with torch.no_grad():
        for row in range(6):
            here, there = (
                torch.from_numpy(each[row : row + 1]) for each in (batch.observations, batch.next_observations)
            )
            action = torch.from_numpy(batch.actions[row : row + 1])
            value = before.standardized_v(here).item()
            target_q = min(before.standardized_q(here, action, target=True)[:, 0].tolist())
            advantage = target_q - value
            advantages.append(advantage)
            value_loss += (0.8 if advantage > 0 else 0.2) * advantage**2 / 6
            later = 0.0 if batch.terminated[row] else DISCOUNT * (5.0 + 2.0 * before.standardized_v(there).item())
            bootstrapped = (float(batch.rewards[row]) + later - 5.0) / 2.0
            for predicted in before.standardized_q(here, action)[:, 0].tolist():
                q_loss += (predicted - bootstrapped) ** 2 / 18
                q_sum += predicted / 18
            weight = min(np.exp(2.0 * advantage), 100.0)
            policy_loss -= weight * before.policy(here).log_prob(action).item() / 6
    assert metrics["critic/value_loss"] == pytest.approx(value_loss, rel=1e-4)
    assert metrics["critic/q_loss"] == pytest.approx(q_loss, rel=1e-4)
    assert metrics["critic/actor_loss"] == pytest.approx(policy_loss, rel=1e-4)
    assert metrics["critic/q_mean"] == pytest.approx(5.0 + 2.0 * q_sum, rel=1e-4)
    assert metrics["critic/advantage_std"] == pytest.approx(np.std(advantages), rel=1e-4)


def test_the_gradient_is_that_of_the_sum_and_the_target_follows() -> None:
    networks, shown = make_networks(), []
    before = copy.deepcopy(networks)
    learner = IQL(
        networks, CONFIG, DISCOUNT, lambda parameters: shown.extend(each.grad.clone() for each in parameters)
    )
    metrics = learner.update(make_batch())
    norm = sum(each.square().sum().item() for each in shown) ** 0.5
    assert metrics["critic/gradient_norm"].item() == pytest.approx(norm, rel=1e-5)
    for name, now in networks.critics.state_dict().items():
        old = before.target_critics.state_dict()[name]
        assert torch.allclose(networks.target_critics.state_dict()[name], 0.75 * old + 0.25 * now, atol=1e-6)
        assert not torch.equal(now, before.critics.state_dict()[name])


def test_no_action_is_imitated_more_than_a_hundredfold() -> None:
    policy = SquashedNormal(torch.zeros(1, 1), torch.zeros(1, 1))
    actions = torch.tensor([[0.5]])
    loss = actor_loss(policy, actions, torch.tensor([1e6]), 3.0)
    assert loss.item() == pytest.approx(-100.0 * policy.log_prob(actions).item(), rel=1e-6)
