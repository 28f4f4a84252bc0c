"""Distributions over returns against closed forms and a loop over atoms."""

import math

import pytest
import torch

from system.families.world_action.categorical_value import (
    CategoricalValueHead,
    expected_value,
    mixture,
    project_distribution,
)
from system.families.world_action.config import WorldActionConfig

SUPPORT = torch.linspace(-2.0, 6.0, 17)


def project_by_loop(probabilities: torch.Tensor, shift: float, scale: float) -> torch.Tensor:
    """C51's algorithm 1, an atom at a time, in double precision."""
    low, high, spacing = -2.0, 6.0, 0.5
    result = torch.zeros(len(SUPPORT), dtype=torch.float64)
    for atom, probability in zip(SUPPORT.tolist(), probabilities.tolist(), strict=True):
        place = (min(max(shift + scale * atom, low), high) - low) / spacing
        below, above = math.floor(place), math.ceil(place)
        if below == above:
            result[below] += probability
        else:
            result[below] += probability * (above - place)
            result[above] += probability * (place - below)
    return result


def draw(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, len(SUPPORT), generator=torch.Generator().manual_seed(seed)).mul(2.0).softmax(-1)


def test_projection_is_c51s_algorithm() -> None:
    probabilities = draw(6)
    shift = torch.tensor([0.0, 1.0, -1.0, 0.3, 9.0, -9.0])
    scale = torch.tensor([1.0, 0.99, 0.99, 0.5, 0.9, 0.0])
    ours = project_distribution(probabilities, shift, scale, SUPPORT)
    theirs = [project_by_loop(*row) for row in zip(probabilities, shift.tolist(), scale.tolist(), strict=True)]
    assert torch.allclose(ours.double(), torch.stack(theirs), atol=1e-6)


def test_projection_keeps_mass_always_and_the_mean_within_the_support() -> None:
    probabilities = draw(32)
    shift, scale = torch.linspace(-20.0, 20.0, 32), torch.linspace(0.0, 1.0, 32)
    moved = project_distribution(probabilities, shift, scale, SUPPORT)
    assert torch.allclose(moved.sum(-1), torch.ones(32), atol=1e-5)
    gentle = project_distribution(probabilities, torch.full((32,), 0.7), torch.full((32,), 0.6), SUPPORT)
    assert torch.allclose(gentle @ SUPPORT, 0.7 + 0.6 * (probabilities @ SUPPORT), atol=1e-5)


def test_behind_a_terminal_state_all_mass_is_at_the_reward() -> None:
    target = project_distribution(draw(2), torch.tensor([1.0, 0.75]), torch.zeros(2), SUPPORT)
    assert target[0].tolist() == pytest.approx([float(atom == 1.0) for atom in SUPPORT.tolist()], abs=1e-6)
    assert target[1, 5:7].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    assert torch.allclose(target @ SUPPORT, torch.tensor([1.0, 0.75]))


def test_an_unmoved_distribution_stays_what_it_is() -> None:
    probabilities = draw(3).unflatten(0, (3, 1))
    same = project_distribution(probabilities, torch.zeros(3, 1), torch.ones(3, 1), SUPPORT)
    assert torch.allclose(same, probabilities, atol=1e-6)


def test_the_papers_support_does_not_lose_mass_to_rounding() -> None:
    support = torch.linspace(-10.0, 30.0, 51)
    certain = torch.eye(51)
    moved = project_distribution(certain, torch.full((51,), 1.0), torch.full((51,), 0.99), support)
    assert torch.allclose(moved.sum(-1), torch.ones(51), atol=1e-4)
    assert torch.allclose(moved @ support, (1.0 + 0.99 * support).clamp(-10.0, 30.0), atol=1e-3)


def test_the_ensemble_is_the_mean_of_probabilities() -> None:
    members = draw(4).unflatten(0, (2, 2))
    averaged = mixture(members.log())
    assert torch.allclose(averaged.exp(), members.mean(0), atol=1e-6)
    assert torch.allclose(expected_value(averaged, SUPPORT), (members @ SUPPORT).mean(0), atol=1e-5)


def make_head(members: int = 2, dropout: float = 0.0) -> CategoricalValueHead:
    torch.manual_seed(0)
    config = WorldActionConfig(q_width=8, num_q_heads=members, num_atoms=21, q_dropout=dropout)
    return CategoricalValueHead(6, 3, config)


def perturbed(head: CategoricalValueHead) -> CategoricalValueHead:
    with torch.no_grad():
        head.output.weight.normal_(std=0.5)
    return head


@torch.no_grad()
def test_the_head_begins_at_a_return_of_zero_and_in_the_support() -> None:
    head = CategoricalValueHead(6, 3, WorldActionConfig(q_width=8))
    assert head.support[0].item() == -10.0 and head.support[-1].item() == 30.0 and len(head.support) == 51
    assert head.expected(torch.randn(5, 6)).abs().max().item() < 0.2


@torch.no_grad()
def test_members_of_the_head_are_averaged_and_independent() -> None:
    both = perturbed(make_head())
    features = torch.randn(4, 5, 6)
    log_probabilities = both(features)
    assert log_probabilities.shape == (4, 5, 3, 21)
    assert torch.allclose(log_probabilities.exp().sum(-1), torch.ones(4, 5, 3), atol=1e-5)
    assert torch.allclose(both(features[1])[2], log_probabilities[1, 2], atol=1e-5)
    singles = []
    for member in range(2):
        single = make_head(members=1)
        single.load_state_dict(
            {
                name: value[member : member + 1] if value.ndim == 3 else value
                for name, value in both.state_dict().items()
            }
        )
        singles.append(single(features).exp())
    assert not torch.allclose(singles[0], singles[1], atol=1e-3)
    assert torch.allclose(torch.stack(singles).mean(0), log_probabilities.exp(), atol=1e-5)


@torch.no_grad()
def test_dropout_of_the_head_is_for_training_alone() -> None:
    head = perturbed(make_head(dropout=0.5)).eval()
    features = torch.randn(3, 6)
    assert torch.equal(head(features), head(features))
    assert not torch.equal(head.train()(features), head(features))


@torch.no_grad()
def test_mixed_precision_leaves_values_and_targets_in_single_precision() -> None:
    probabilities = torch.rand(5, 9, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    support, shift, scale = torch.linspace(-10.0, 30.0, 9), torch.linspace(-3.0, 3.0, 5), torch.full((5,), 0.97)
    exact_mean = expected_value(probabilities.log(), support)
    exact = project_distribution(probabilities, shift, scale, support)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean = expected_value(probabilities.log(), support)
        projected = project_distribution(probabilities, shift, scale, support)
    assert torch.equal(mean, exact_mean)
    assert torch.equal(projected, exact)
