"""Geometric Jensen–Shannon divergence: against integration, and what must hold of any disagreement."""

import itertools

import numpy as np
import pytest
import torch

from system.errors import ShapeError
from system.families.imagination.disagreement import geometric_jensen_shannon

Gaussian = tuple[float, float]


def by_integration(first: Gaussian, second: Gaussian) -> float:
    """½ [KL(p ‖ g) + KL(q ‖ g)], g the normalised geometric mean, over a fine grid."""
    grid = np.linspace(-60.0, 60.0, 400_001)
    width = grid[1] - grid[0]

    def log_density(mean: float, variance: float) -> np.ndarray:
        return -0.5 * (grid - mean) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)

    logs = [log_density(*each) for each in (first, second)]
    middle = 0.5 * (logs[0] + logs[1])
    middle = middle - np.log(np.exp(middle).sum() * width)
    return float(sum(0.5 * (np.exp(each) * (each - middle)).sum() * width for each in logs))


def of(*members: Gaussian) -> float:
    means, variances = (torch.tensor(each, dtype=torch.float64)[:, None] for each in zip(*members, strict=True))
    return geometric_jensen_shannon(means, variances).item()


@pytest.mark.parametrize("second", [(0.0, 1.0), (1.5, 1.0), (0.0, 4.0), (-2.0, 0.3)])
def test_two_members_in_one_dimension(second: Gaussian) -> None:
    first = (0.0, 1.0)
    assert of(first, second) == pytest.approx(by_integration(first, second) / 2, abs=1e-6)
    assert of(first, second) == pytest.approx(of(second, first))


def test_three_members_are_their_pairs() -> None:
    members = [(0.0, 1.0), (1.0, 0.5), (-1.0, 2.0)]
    pairs = [by_integration(*pair) for pair in itertools.combinations(members, 2)]
    assert of(*members) == pytest.approx(sum(pairs) / 6, abs=1e-6)
    for order in itertools.permutations(members):
        assert of(*order) == pytest.approx(of(*members))


def test_dimensions_add_up_rows_are_apart_and_units_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    means, variances = (torch.rand(3, 4, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    variances = variances + 0.1
    whole = geometric_jensen_shannon(means, variances)
    assert whole.shape == (4,)
    parts = [geometric_jensen_shannon(means[..., [each]], variances[..., [each]]) for each in range(2)]
    torch.testing.assert_close(whole, parts[0] + parts[1])
    torch.testing.assert_close(whole[2], geometric_jensen_shannon(means[:, 2], variances[:, 2]))
    units = torch.tensor([10.0, 0.01], dtype=torch.float64)
    torch.testing.assert_close(whole, geometric_jensen_shannon(5.0 + units * means, units.square() * variances))


def test_it_is_zero_where_members_agree_alone() -> None:
    mean, variance = torch.randn(1, 5, 3), torch.rand(1, 5, 3) + 0.1
    assert geometric_jensen_shannon(mean.expand(4, -1, -1), variance.expand(4, -1, -1)).abs().max() < 1e-6
    assert of((0.0, 1.0), (0.01, 1.0)) > 0
    with pytest.raises(ShapeError, match="1 member"):
        geometric_jensen_shannon(mean, variance)
