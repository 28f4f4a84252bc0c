"""The squashed Gaussian: moments, limits and gradients."""

import math

import pytest
import torch

from system.models.distributions import LOG_STD_MAX, LOG_STD_MIN, SquashedNormal, bounded_log_std


def test_the_log_deviation_is_bounded_and_rises_with_its_input() -> None:
    raw = torch.linspace(-50.0, 50.0, 201)
    bounded = bounded_log_std(raw)
    assert bounded[0].item() == LOG_STD_MIN
    assert bounded[-1].item() == LOG_STD_MAX
    assert bounded_log_std(torch.zeros(1)).item() == 0.5 * (LOG_STD_MIN + LOG_STD_MAX)
    assert (bounded.diff() >= 0).all()


def test_samples_have_the_moments_of_the_distribution() -> None:
    distribution = SquashedNormal(torch.tensor([[0.7, -0.2]]), torch.tensor([[-0.5, 0.3]]))
    samples = distribution.sample(40_000, torch.Generator().manual_seed(0))
    assert samples.shape == (40_000, 1, 2)
    assert samples.abs().max() < 1.0
    unsquashed = torch.atanh(samples)
    assert torch.allclose(unsquashed.mean(0), distribution.mean, atol=0.03)
    assert torch.allclose(unsquashed.std(0), distribution.log_std.exp(), atol=0.03)
    assert torch.equal(samples, distribution.sample(40_000, torch.Generator().manual_seed(0)))


def test_the_mode_is_the_squashed_mean_and_not_the_mean_of_the_samples() -> None:
    distribution = SquashedNormal(torch.tensor([[1.0]]), torch.tensor([[0.0]]))
    assert distribution.mode().item() == pytest.approx(math.tanh(1.0))
    mean = distribution.sample(20_000, torch.Generator().manual_seed(0)).mean().item()
    assert mean < math.tanh(1.0) - 0.1


def test_the_density_integrates_to_1() -> None:
    actions = torch.linspace(-0.9985, 0.9985, 20_001, dtype=torch.float64)[:, None]
    for log_std in (-2.0, -0.5):
        distribution = SquashedNormal(torch.full_like(actions, 0.3), torch.full_like(actions, log_std))
        mass = torch.trapezoid(distribution.log_prob(actions).exp(), actions[:, 0])
        assert mass.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("log_std", [-4.0, 0.0])
def test_the_entropy_is_the_integral(log_std: float) -> None:
    """−∫ p log p over the interval, by quadrature; summed over two dimensions."""
    mean = 0.4
    reach = 8 * math.exp(log_std)
    lowest, highest = max(-0.9985, math.tanh(mean - reach)), min(0.9985, math.tanh(mean + reach))
    actions = torch.linspace(lowest, highest, 40_001, dtype=torch.float64)[:, None]
    density = SquashedNormal(torch.full_like(actions, mean), torch.full_like(actions, log_std)).log_prob(actions)
    integral = -torch.trapezoid(density.exp() * density, actions[:, 0]).item()
    both = SquashedNormal(torch.full((20_000, 2), mean), torch.full((20_000, 2), log_std))
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    assert both.entropy(noise).mean().item() == pytest.approx(2 * integral, abs=0.05)


def test_raising_the_entropy_widens_the_distribution() -> None:
    mean, log_std = torch.zeros(200, 1, requires_grad=True), torch.full((200, 1), -2.0, requires_grad=True)
    noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    SquashedNormal(mean, log_std).entropy(noise).mean().backward()
    assert log_std.grad is not None
    assert (log_std.grad > 0).all()


def test_gradients_stay_finite_for_actions_at_the_bounds() -> None:
    mean, log_std = torch.zeros(2, 1, requires_grad=True), torch.full((2, 1), LOG_STD_MIN, requires_grad=True)
    SquashedNormal(mean, log_std).log_prob(torch.tensor([[1.0], [-1.0]])).sum().backward()
    for parameter in (mean, log_std):
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
