"""The value networks: members on their own, the affine map, pessimism, the target."""

import pytest
import torch
from torch.nn import functional

from system.models.ensemble_layers import EnsembleLinear
from system.values.critics import ValueNetworks


def make_networks(num_critics: int = 3, layer_norm: bool = True) -> ValueNetworks:
    torch.manual_seed(0)
    networks = ValueNetworks(4, 2, hidden_width=8, num_critics=num_critics, layer_norm=layer_norm)
    networks.observation_mean.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    networks.observation_std.copy_(torch.tensor([0.5, 2.0, 1.0, 4.0]))
    networks.return_mean.fill_(100.0)
    networks.return_std.fill_(20.0)
    return networks


def batch(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 4, generator=generator), torch.rand(count, 2, generator=generator) * 2 - 1


@torch.no_grad()
def test_every_member_of_an_ensemble_is_a_linear_layer_of_its_own() -> None:
    torch.manual_seed(0)
    layer, inputs = EnsembleLinear(3, 4, 2), torch.randn(3, 5, 4)
    expected = torch.stack(
        [functional.linear(inputs[each], layer.weight[each].T, layer.bias[each, 0]) for each in range(3)]
    )
    assert torch.allclose(layer(inputs), expected, atol=1e-6)


@torch.no_grad()
def test_members_start_different_and_are_given_the_same_input() -> None:
    networks = make_networks()
    first, second, third = networks.standardized_q(*batch())
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)
    networks.critics[0].weight[2].zero_()
    networks.critics[0].bias[2].zero_()
    again = networks.standardized_q(*batch())
    assert torch.equal(again[0], first)
    assert torch.allclose(again[2], again[2, :1].expand(5)), "a member that sees nothing cannot tell them apart"


@torch.no_grad()
def test_q_is_the_most_pessimistic_member_in_the_tasks_units() -> None:
    networks = make_networks()
    observations, actions = batch()
    expected = 100.0 + 20.0 * networks.standardized_q(observations, actions).min(0).values
    assert torch.allclose(networks.q(observations, actions), expected)
    grid = observations[:4].view(2, 2, 4), actions[:4].view(2, 2, 2)
    assert torch.allclose(networks.q(*grid).flatten(), expected[:4])


@torch.no_grad()
def test_all_networks_see_standardised_observations() -> None:
    networks, (observations, actions) = make_networks(), batch()
    plain = make_networks()
    plain.observation_mean.zero_()
    plain.observation_std.fill_(1.0)
    standardized = (observations - networks.observation_mean) / networks.observation_std
    expected = plain.standardized_q(standardized, actions)
    assert torch.allclose(networks.standardized_q(observations, actions), expected)
    assert torch.allclose(networks.standardized_v(observations), plain.standardized_v(standardized))
    assert torch.allclose(networks.policy(observations).mean, plain.policy(standardized).mean)


def test_the_target_starts_as_a_copy_and_is_not_trained() -> None:
    networks = make_networks()
    with torch.no_grad():
        assert torch.equal(networks.standardized_q(*batch(), target=True), networks.standardized_q(*batch()))
        networks.critics[0].bias.add_(1.0)
        assert not torch.equal(networks.standardized_q(*batch(), target=True), networks.standardized_q(*batch()))
    networks.standardized_q(*batch(), target=True).requires_grad_()
    trained = {name for name, parameter in networks.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("target_critics") for name in trained)
    assert {name.split(".")[0] for name in trained} == {"critics", "value", "actor", "actor_log_std"}


@pytest.mark.parametrize("layer_norm", [False, True])
def test_layer_norm_is_a_choice_for_the_values_and_never_in_the_actor(layer_norm: bool) -> None:
    networks = make_networks(layer_norm=layer_norm)
    kinds = [
        {type(layer).__name__ for layer in part} for part in (networks.critics, networks.value, networks.actor)
    ]
    assert ["LayerNorm" in kind for kind in kinds] == [layer_norm, layer_norm, False]


@torch.no_grad()
def test_the_actors_spread_is_held_in_a_range() -> None:
    networks = make_networks()
    for value, expected in ((-100.0, -5.0), (100.0, 1.0), (-1.0, -1.0)):
        networks.actor_log_std.fill_(value)
        assert networks.policy(batch()[0]).log_std.unique().tolist() == [expected]


def test_the_actor_starts_with_a_moderate_spread_which_is_learnt_and_kept_in_bounds() -> None:
    networks = make_networks()
    assert networks.policy(batch()[0]).log_std.tolist() == [[-1.0, -1.0]] * 5
    assert networks.actor_log_std is not None
    assert networks.actor_log_std.requires_grad
    with torch.no_grad():
        networks.actor_log_std.copy_(torch.tensor([-9.0, 4.0]))
    assert networks.policy(batch()[0]).log_std.tolist() == [[-5.0, 1.0]] * 5
