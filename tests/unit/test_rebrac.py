"""One update of ReBRAC by hand: targets, both losses, what moves when, and what is refused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from system.config import ReBRACConfig
from system.errors import DataError
from system.models.optimizer_state import keep_gradients
from system.types import TransitionBatch
from system.values.rebrac import ReBRAC, ReBRACNetworks

DISCOUNT = 0.9
CONFIG = ReBRACConfig(
    hidden_width=8,
    hidden_layers=2,
    learning_rate=1e-2,
    target_update_rate=0.25,
    actor_penalty=0.3,
    critic_penalty=0.7,
    target_noise=1.0,
    target_noise_clip=0.5,
)
NOISE = torch.linspace(-1.5, 1.5, 12).view(6, 2)


def make_networks() -> ReBRACNetworks:
    torch.manual_seed(0)
    networks = ReBRACNetworks(3, 2, CONFIG)
    networks.return_mean.fill_(5.0)
    networks.return_std.fill_(2.0)
    networks.observation_mean.copy_(torch.tensor([0.5, -1.0, 0.0]))
    networks.observation_std.copy_(torch.tensor([2.0, 0.5, 1.0]))
    with torch.no_grad():  # targets that differ from what they follow
        for parameter in [*networks.target_critics.parameters(), *networks.target_policy.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return networks


def make_batch() -> TransitionBatch:
    """The fifth step is the last of an episode that was cut."""
    generator = np.random.default_rng(1)
    observations, following = generator.normal(size=(2, 6, 3)).astype(np.float32)
    actions, next_actions = generator.uniform(-0.9, 0.9, size=(2, 6, 2)).astype(np.float32)
    return TransitionBatch(
        observations=observations,
        actions=actions,
        rewards=generator.normal(size=6).astype(np.float32),
        next_observations=following,
        terminated=np.array([False, True, False, False, False, False]),
        next_actions=next_actions,
        next_known=np.array([True, False, True, True, False, True]),
    )


def target_by_hand(before: ReBRACNetworks, batch: TransitionBatch, row: int) -> float:
    assert batch.next_actions is not None and batch.next_known is not None
    there = torch.from_numpy(batch.next_observations[row : row + 1])
    noise = NOISE[row].clamp(-0.5, 0.5)
    action = (before.target_policy(before.normalize(there))[0] + noise).clamp(-1.0, 1.0)
    value = min(before.q(there, action[None], target=True)[:, 0].tolist())
    if batch.next_known[row]:
        value -= 0.7 * float((action - torch.from_numpy(batch.next_actions[row])).square().sum())
    return float(batch.rewards[row]) + (0.0 if batch.terminated[row] else DISCOUNT * value)


def test_an_update_by_hand() -> None:
    networks, batch = make_networks(), make_batch()
    before = copy.deepcopy(networks)
    metrics = {
        name: value.item()
        for name, value in ReBRAC(networks, CONFIG, DISCOUNT, keep_gradients).update(batch, NOISE, 0).items()
    }
    observations, actions = torch.from_numpy(batch.observations), torch.from_numpy(batch.actions)
    with torch.no_grad():
        targets = torch.tensor([target_by_hand(before, batch, row) for row in range(6)])
        q = before.q(observations, actions)
        q_loss = ((q - targets) / 2.0).square().mean(1).sum().item()
        assert metrics["critic/q_loss"] == pytest.approx(q_loss, rel=1e-4)
        assert metrics["critic/q_mean"] == pytest.approx(q.mean().item(), rel=1e-4)
        chosen = before.act(observations)
        distance = (chosen - actions).square().sum(1).mean().item()
        assert metrics["policy/distance"] == pytest.approx(distance, rel=1e-4)
        # The policy's step comes after the critics'.
        judged = networks.q(observations, chosen)[0]
        expected = 0.3 * distance - (judged.mean() / judged.abs().mean()).item()
        assert metrics["policy/loss"] == pytest.approx(expected, rel=1e-4)


def test_targets_follow_policy_and_critics_by_their_share() -> None:
    networks = make_networks()
    before = copy.deepcopy(networks)
    ReBRAC(networks, CONFIG, DISCOUNT, keep_gradients).update(make_batch(), NOISE, 0)
    for name in ("critics", "policy"):
        old, new, online = (
            nn.utils.parameters_to_vector(getattr(each, which).parameters())
            for each, which in ((before, f"target_{name}"), (networks, f"target_{name}"), (networks, name))
        )
        assert torch.allclose(new, old + 0.25 * (online - old), atol=1e-6)


def test_the_policy_and_all_targets_wait_for_their_turn() -> None:
    networks = make_networks()
    learner = ReBRAC(networks, replace(CONFIG, actor_period=3), DISCOUNT, keep_gradients)
    moved = []
    for index in range(4):
        before = copy.deepcopy(networks.state_dict())
        learner.update(make_batch(), NOISE, index)
        after = networks.state_dict().items()
        moved.append({name.split(".")[0] for name, value in after if (value != before[name]).any()})
    everything = {"critics", "policy", "target_critics", "target_policy"}
    assert moved == [everything, {"critics"}, {"critics"}, everything]


def test_the_policys_step_leaves_critics_without_gradients_of_it() -> None:
    networks = make_networks()
    learner = ReBRAC(networks, CONFIG, DISCOUNT, keep_gradients)
    learner.update(make_batch(), NOISE, 0)
    kept = [parameter.grad.clone() for parameter in networks.critics.parameters() if parameter.grad is not None]
    again = make_networks()
    alone = ReBRAC(again, replace(CONFIG, actor_period=2), DISCOUNT, keep_gradients)
    alone.update(make_batch(), NOISE, 1)
    own = [parameter.grad for parameter in again.critics.parameters() if parameter.grad is not None]
    assert all(map(torch.equal, kept, own))


def test_transitions_that_do_not_say_what_followed_are_refused() -> None:
    batch = replace(make_batch(), next_actions=None, next_known=None)
    with pytest.raises(DataError, match="actions that followed"):
        ReBRAC(make_networks(), CONFIG, DISCOUNT, keep_gradients).update(batch, NOISE, 0)


def test_a_policy_acts_with_other_parameters_and_keeps_its_own() -> None:
    networks = make_networks()
    observations = torch.randn(4, 3)
    own = dict(networks.policy.named_parameters())
    halved = {name: 0.5 * value.detach() for name, value in own.items()}
    assert torch.equal(networks.act(observations, own), networks.act(observations))
    other = networks.act(observations, halved)
    assert not torch.equal(other, networks.act(observations))
    networks.policy.load_state_dict(halved)
    assert torch.equal(other, networks.act(observations))
