"""How good a candidate plan is, and how often to choose it."""

import torch
from jaxtyping import Float, Int

from system.errors import PlannerError, ShapeError


def td_lambda_utility(
    rewards: Float[torch.Tensor, "*batch H"],
    values: Float[torch.Tensor, "*batch H1"],
    discount: float,
    lam: float,
) -> Float[torch.Tensor, "*batch"]:
    """U = (1−λ) Σ_{n=0}^{H−1} λⁿ G_n + λ^H G_H with G_n = Σ_{k<n} γᵏ r_{t+k} + γⁿ g_{t+n}.

    Args:
        rewards: r_t … r_{T−1}; H = T − t ≥ 0.
        values: g_t … g_T, one more than rewards; g_n counts rewards from r_{t+n} on.
        discount: γ in [0, 1].
        lam: λ in [0, 1]; 0 trusts g_t alone, 1 the longest estimate alone.

    Returns:
        The utility of each candidate. With H = 0 this is the value itself.

    Raises:
        ShapeError: values do not have exactly one entry more than rewards.

    Source: M³PC eq. 3.
    """
    horizon = rewards.shape[-1]
    if values.shape[-1] != horizon + 1:
        raise ShapeError(f"values must have {horizon + 1} entries for {horizon} rewards, got {values.shape[-1]}")
    steps = torch.arange(horizon + 1, device=values.device, dtype=values.dtype)
    discounts = torch.as_tensor(discount, dtype=values.dtype, device=values.device) ** steps
    received = torch.cumsum(discounts[:horizon] * rewards, dim=-1)
    received = torch.cat([torch.zeros_like(values[..., :1]), received], dim=-1)
    estimates = received + discounts * values
    powers = torch.as_tensor(lam, dtype=values.dtype, device=values.device) ** steps
    weights = torch.cat([(1.0 - lam) * powers[:horizon], powers[horizon:]])
    return (weights * estimates).sum(-1)


def proposal_probabilities(
    utilities: Float[torch.Tensor, "*batch N"], temperature: float
) -> Float[torch.Tensor, "*batch N"]:
    """P[i] = exp(ξ Uⁱ) / Σ_j exp(ξ Uʲ) over the last axis.

    Args:
        utilities: U; −inf excludes a candidate.
        temperature: ξ ≥ 0, an inverse temperature: it multiplies.

    Raises:
        PlannerError: a utility is NaN or +inf, or every candidate of a row is excluded.

    Source: M³PC eq. 4.
    """
    if bool(torch.isnan(utilities).any()) or bool(torch.isposinf(utilities).any()):
        raise PlannerError("utilities contain NaN or +inf")
    best = utilities.amax(dim=-1, keepdim=True)
    if bool(torch.isneginf(best).any()):
        raise PlannerError("every candidate has utility -inf")
    # Differences are taken before multiplying, so that large |ξU| cannot overflow.
    excluded = torch.isneginf(utilities)
    scaled = torch.where(excluded, utilities, temperature * (utilities - best))
    return torch.softmax(scaled, dim=-1)


def standardize_utilities(utilities: Float[torch.Tensor, "*batch N"]) -> Float[torch.Tensor, "*batch N"]:
    """Utilities divided by their standard deviation over the candidates of each row.

    With roughly normal utilities, softmax(ξ·U/σ) has an effective sample size of N·exp(−ξ²), so ξ sets
    the strength of guidance in the same way in every state and for every source of values.
    """
    deviation = utilities.std(dim=-1, keepdim=True, unbiased=False)
    return utilities / deviation.clamp_min(1e-6)


def effective_sample_size(probabilities: Float[torch.Tensor, "*batch N"]) -> Float[torch.Tensor, "*batch"]:
    """1 / Σ P², between 1 (one candidate decides) and N (no guidance)."""
    return 1.0 / probabilities.square().sum(-1)


def draw_candidate(
    probabilities: Float[torch.Tensor, "B N"], generator: torch.Generator
) -> Int[torch.Tensor, "B"]:
    """One candidate per row, candidate i with probability P[i]."""
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
