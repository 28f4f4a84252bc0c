"""How much the members of an ensemble disagree: geometric Jensen–Shannon divergence of Gaussians, in closed form.

    U(s, a) = 1/(E (E − 1)) Σ_{i<j} ½ [KL(N_i ‖ N_ij) + KL(N_j ‖ N_ij)]        eqs. 8–9
    N_ij    = N(μ_ij, Σ_ij), the normalised geometric mean of N_i and N_j:
              Σ_ij = (½ Σ_i⁻¹ + ½ Σ_j⁻¹)⁻¹,  μ_ij = Σ_ij (½ Σ_i⁻¹ μ_i + ½ Σ_j⁻¹ μ_j)   eqs. 10–11

There are E (E − 1) / 2 pairs, so U is half of their mean, as the paper writes it. It does not depend on the units
of the observations.

Source: Imaginary Planning Distillation, section 3.2; Nielsen 2019.
"""

from itertools import combinations

import torch
from jaxtyping import Float

from system.errors import ShapeError


def geometric_jensen_shannon(
    means: Float[torch.Tensor, "E *batch S"], variances: Float[torch.Tensor, "E *batch S"]
) -> Float[torch.Tensor, "*batch"]:
    """The members' disagreement; 0 where all are equal, and never negative.

    Args:
        means: μ_e.
        variances: diagonals of Σ_e, above 0.

    Raises:
        ShapeError: there are fewer than two members.
    """
    members = len(means)
    if members < 2:
        raise ShapeError(f"{members} member can't disagree; at least two are needed")
    pairs = [
        _of_pair(means[first], variances[first], means[second], variances[second])
        for first, second in combinations(range(members), 2)
    ]
    return torch.stack(pairs).sum(0) / (members * (members - 1))


def _of_pair(
    first_mean: torch.Tensor,
    first_variance: torch.Tensor,
    second_mean: torch.Tensor,
    second_variance: torch.Tensor,
) -> Float[torch.Tensor, "*batch"]:
    """½ [KL(N_i ‖ N_ij) + KL(N_j ‖ N_ij)] of diagonal Gaussians, summed over dimensions.

    With v = Σ_ij: KL(N_i ‖ N_ij) = ½ [Σ_i / v + (μ_i − μ_ij)² / v − 1 − log (Σ_i / v)].
    """
    variance = 2.0 / (1.0 / first_variance + 1.0 / second_variance)
    mean = 0.5 * variance * (first_mean / first_variance + second_mean / second_variance)
    total = torch.zeros_like(mean)
    for own_mean, own_variance in ((first_mean, first_variance), (second_mean, second_variance)):
        ratio = own_variance / variance
        total = total + 0.25 * (ratio + (own_mean - mean).square() / variance - 1.0 - ratio.log())
    return total.sum(-1).clamp_min(0.0)
