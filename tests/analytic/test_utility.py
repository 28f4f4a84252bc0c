"""The formulas of planning against closed forms and literal sums."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from system.errors import PlannerError, ShapeError
from system.planning.utility import (
    draw_candidate,
    effective_sample_size,
    proposal_probabilities,
    standardize_utilities,
    td_lambda_utility,
)

NUMBERS = st.floats(-100.0, 100.0)


def literal_utility(rewards: list[float], values: list[float], discount: float, lam: float) -> float:
    """Eq. 3, term by term."""
    horizon = len(rewards)

    def estimate(n: int) -> float:
        return sum(discount**k * rewards[k] for k in range(n)) + discount**n * values[n]

    mixed = sum(lam**n * estimate(n) for n in range(horizon))
    return (1.0 - lam) * mixed + lam**horizon * estimate(horizon)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 6), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_it_is_the_literal_sum(data: st.DataObject, horizon: int, discount: float, lam: float) -> None:
    rewards = data.draw(st.lists(NUMBERS, min_size=horizon, max_size=horizon))
    values = data.draw(st.lists(NUMBERS, min_size=horizon + 1, max_size=horizon + 1))
    result = td_lambda_utility(
        torch.tensor(rewards, dtype=torch.float64), torch.tensor(values, dtype=torch.float64), discount, lam
    )
    assert result.item() == pytest.approx(literal_utility(rewards, values, discount, lam), rel=1e-9, abs=1e-9)


def test_lambda_0_trusts_the_first_value_and_lambda_1_the_longest_estimate() -> None:
    rewards, values = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])
    assert td_lambda_utility(rewards, values, 0.5, 0.0).item() == 10.0
    assert td_lambda_utility(rewards, values, 0.5, 1.0).item() == 1.0 + 0.5 * 2.0 + 0.25 * 30.0


def test_without_rewards_it_is_the_value() -> None:
    values = torch.randn(3, 5, 1)
    assert torch.equal(td_lambda_utility(torch.zeros(3, 5, 0), values, 0.9, 0.7), values[..., 0])


def test_consistent_values_give_the_same_utility_for_every_lambda() -> None:
    rewards = torch.tensor([3.0, -1.0, 4.0, 1.0], dtype=torch.float64)
    values = [torch.tensor(5.0, dtype=torch.float64)]
    for reward in reversed(rewards):
        values.insert(0, reward + 0.9 * values[0])
    for lam in (0.0, 0.3, 0.8, 1.0):
        assert td_lambda_utility(rewards, torch.stack(values), 0.9, lam).item() == pytest.approx(values[0].item())


def test_a_wrong_number_of_values_is_refused() -> None:
    with pytest.raises(ShapeError, match="3 entries for 2 rewards"):
        td_lambda_utility(torch.zeros(2), torch.zeros(2), 0.9, 0.5)


def test_temperature_multiplies() -> None:
    probabilities = proposal_probabilities(torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64), 2.0)
    expected = [math.exp(2.0 * utility) for utility in (0.0, 1.0, 3.0)]
    assert probabilities.tolist() == pytest.approx([each / sum(expected) for each in expected])


def test_its_extremes_are_uniform_and_greedy() -> None:
    utilities = torch.tensor([[1.0, 2.0, 1.5]])
    assert torch.allclose(proposal_probabilities(utilities, 0.0), torch.full((1, 3), 1 / 3))
    assert torch.equal(proposal_probabilities(utilities, 1e6), torch.tensor([[0.0, 1.0, 0.0]]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_it_is_right_for_large_products(scale: float) -> None:
    utilities = torch.tensor([-1.0, 0.0, 1.0]) * scale
    probabilities = proposal_probabilities(utilities, 1.0 / scale)
    assert torch.allclose(probabilities, torch.softmax(torch.tensor([-1.0, 0.0, 1.0]), 0), atol=1e-6)
    huge = proposal_probabilities(utilities, 1e6)
    assert torch.isfinite(huge).all()
    assert huge.sum().item() == pytest.approx(1.0)


def test_a_shift_of_all_utilities_changes_nothing() -> None:
    utilities = torch.randn(4, 7, dtype=torch.float64)
    assert torch.allclose(proposal_probabilities(utilities, 3.0), proposal_probabilities(utilities + 1e4, 3.0))


def test_minus_infinity_excludes_a_candidate() -> None:
    probabilities = proposal_probabilities(torch.tensor([1.0, -math.inf, 1.0]), 0.0)
    assert probabilities.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_must_not_be_acted_on_is_refused(bad: float) -> None:
    with pytest.raises(PlannerError):
        proposal_probabilities(torch.tensor([0.0, bad]), 1.0)
    with pytest.raises(PlannerError):
        proposal_probabilities(torch.full((2, 2), -math.inf), 1.0)


def test_candidates_are_drawn_in_proportion_to_their_probability() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.7]]).expand(20_000, 3)
    drawn = draw_candidate(probabilities, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    # Four standard deviations of a share of 20,000 draws.
    assert (shares - probabilities[0]).abs().max() < 4 * 0.5 / math.sqrt(len(drawn))


def test_the_effective_sample_size_counts_candidates() -> None:
    assert effective_sample_size(torch.full((8,), 1 / 8)).item() == pytest.approx(8.0)
    assert effective_sample_size(torch.tensor([1.0, 0.0])).item() == 1.0


def test_standardized_utilities_set_the_strength_of_guidance() -> None:
    """With normal utilities ξ leaves about N·exp(−ξ²) candidates, whatever their scale."""
    generator = torch.Generator().manual_seed(0)
    utilities = 1e3 * torch.randn(4000, 512, generator=generator, dtype=torch.float64)
    for temperature, tolerance in ((0.3, 0.02), (0.5, 0.03), (1.0, 0.15)):
        probabilities = proposal_probabilities(standardize_utilities(utilities), temperature)
        share = (effective_sample_size(probabilities) / 512).mean().item()
        assert share == pytest.approx(math.exp(-(temperature**2)), rel=tolerance)
