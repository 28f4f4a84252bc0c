"""How good a candidate plan is, and how often to choose it."""

import torch
from jaxtyping import Bool, Float, Int, Shaped

from system.errors import PlannerError, ShapeError
from system.models.distributions import ACTION_LIMIT


def td_lambda_utility(
    rewards: Float[torch.Tensor, "*batch H"],
    values: Float[torch.Tensor, "*batch H1"],
    discount: float,
    lam: float,
) -> Float[torch.Tensor, "*batch"]:
    """U = (1−λ) Σ_{n=0}^{H−1} λⁿ G_n + λ^H G_H with G_n = Σ_{k<n} γᵏ r_{t+k} + γⁿ g_{t+n}.

    Args:
        rewards: r_t … r_{T−1}; H = T − t ≥ 0. Computed in float32 or wider, whatever the type.
        values: g_t … g_T, one more than rewards; g_n counts rewards from r_{t+n} on; −inf excludes.
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
    dtype = torch.promote_types(torch.promote_types(rewards.dtype, values.dtype), torch.float32)
    rewards, values = rewards.to(dtype), values.to(dtype)
    steps = torch.arange(horizon + 1, device=values.device, dtype=dtype)
    discounts = torch.pow(discount, steps)
    # Not by `cumsum`, which a GPU has not in a deterministic form.
    received = [torch.zeros_like(values[..., 0])]
    for reward in (discounts[:horizon] * rewards).unbind(dim=-1):
        received.append(received[-1] + reward)
    estimates = torch.stack(received, dim=-1) + discounts * values
    powers = torch.pow(lam, steps)
    weights = torch.cat([(1.0 - lam) * powers[:horizon], powers[horizon:]])
    # An estimate of −inf excludes its candidate where it counts, and is no NaN where it does not.
    estimates = estimates.masked_fill(torch.isneginf(estimates) & (weights == 0), 0.0)
    return (weights * estimates).sum(-1)


def proposal_probabilities(
    utilities: Float[torch.Tensor, "*batch N"], temperature: float
) -> Float[torch.Tensor, "*batch N"]:
    """P[i] = exp(ξ Uⁱ) / Σ_j exp(ξ Uʲ) over the last axis.

    Args:
        utilities: U; −inf excludes a candidate.
        temperature: ξ ≥ 0, an inverse temperature: it multiplies. Infinity is the limit, argmax.

    Raises:
        PlannerError: a utility is NaN or +inf, every candidate of a row is excluded, or ξ is negative or NaN.

    Source: M³PC eq. 4.
    """
    check_utilities(utilities)
    return weigh_utilities(utilities, temperature)[0]


def check_utilities(utilities: Float[torch.Tensor, "*batch N"]) -> None:
    """Whether there is a choice to be made.

    Raises:
        PlannerError: a utility is NaN or +inf, or every candidate of a row is excluded.
    """
    # NaN and +inf show in the maximum, so that one look, one wait for an accelerator, covers every case.
    best = utilities.amax(dim=-1)
    if not bool(torch.isfinite(best).all()):
        unusable = bool((torch.isnan(best) | torch.isposinf(best)).any())
        reason = "utilities contain NaN or +inf" if unusable else "every candidate has utility -inf"
        raise PlannerError(reason)


def weigh_utilities(
    utilities: Float[torch.Tensor, "*batch N"], temperature: float
) -> tuple[Float[torch.Tensor, "*batch N"], Bool[torch.Tensor, "*batch"]]:
    """`proposal_probabilities`, and whether those of each row mean anything, without waiting to know.

    Raises:
        PlannerError: ξ is negative or NaN.
    """
    if not temperature >= 0.0:
        raise PlannerError(f"temperature must be >= 0, got {temperature}")
    utilities = utilities.to(torch.promote_types(utilities.dtype, torch.float32))
    best = utilities.amax(dim=-1, keepdim=True)
    # Differences are taken before multiplying, so that large |ξU| cannot overflow, and are kept finite, so
    # that neither 0 · inf nor inf · 0 turns up.
    gap = (utilities - best).clamp_min(torch.finfo(best.dtype).min)
    scaled = torch.where(gap < 0, temperature * gap, torch.zeros_like(gap))
    probabilities = torch.softmax(scaled.masked_fill(torch.isneginf(utilities), -torch.inf), dim=-1)
    return probabilities, torch.isfinite(best).squeeze(-1)


def standardize_utilities(utilities: Float[torch.Tensor, "*batch N"]) -> Float[torch.Tensor, "*batch N"]:
    """Utilities divided by their standard deviation over the candidates of each row.

    With roughly normal utilities, softmax(ξ·U/σ) has an effective sample size of N·exp(−ξ²), so ξ sets
    the strength of guidance in the same way in every state and for every source of values. Candidates of
    utility −inf stay so and do not count.
    """
    utilities = utilities.to(torch.promote_types(utilities.dtype, torch.float32))
    counted = ~torch.isneginf(utilities)
    number = counted.sum(dim=-1, keepdim=True).clamp_min(1)
    mean = utilities.where(counted, 0.0).sum(dim=-1, keepdim=True) / number
    squares = (utilities - mean).square().where(counted, 0.0)
    deviation = (squares.sum(dim=-1, keepdim=True) / number).sqrt()
    return utilities / deviation.clamp_min(1e-6)


def effective_sample_size(probabilities: Float[torch.Tensor, "*batch N"]) -> Float[torch.Tensor, "*batch"]:
    """1 / Σ P², between 1 (one candidate decides) and N (no guidance)."""
    return 1.0 / probabilities.square().sum(-1)


def draw_candidate(
    probabilities: Float[torch.Tensor, "B N"], generator: torch.Generator
) -> Int[torch.Tensor, "B"]:
    """One candidate per row, candidate i with probability P[i]."""
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)


def action_probabilities(
    first_actions: Int[torch.Tensor, "B N"], probabilities: Float[torch.Tensor, "B N"]
) -> Float[torch.Tensor, "B A"]:
    """P of every discrete action, Σ P[i] over the candidates that begin with it; A ends at the largest of them.

    With many candidates, each scored by the value of its first action alone, this is π(a) exp(ξ Q(a)), normalised.
    """
    num_actions = int(first_actions.max()) + 1
    votes = probabilities.new_zeros(len(probabilities), num_actions)
    return votes.scatter_add(1, first_actions, probabilities)


def choose_action(
    first_actions: Shaped[torch.Tensor, "B N *action"],
    probabilities: Float[torch.Tensor, "B N"],
    utilities: Float[torch.Tensor, "B N"],
    select: str,
) -> Shaped[torch.Tensor, "B *action"]:
    """What a plan executes without a draw.

    Args:
        first_actions, probabilities, utilities: of the candidates, as in `Plan`.
        select: `expectation`: the P-weighted mean of the first actions, and as discrete ones have none, the
            action whose candidates have the most P together; `unsquashed_expectation`: tanh of the mean of what
            was squashed by it, which without guidance is the proposals' mode; `argmax`: the first action of the
            candidate with the highest utility, the earliest of equal ones.
    """
    if select == "unsquashed_expectation" and first_actions.is_floating_point():
        unsquashed = torch.atanh(first_actions.clamp(-ACTION_LIMIT, ACTION_LIMIT))
        return (probabilities[..., None] * unsquashed).sum(1).tanh()
    if select == "expectation" and first_actions.is_floating_point():
        return (probabilities[..., None] * first_actions).sum(1)
    if select in ("expectation", "unsquashed_expectation"):
        return action_probabilities(first_actions, probabilities).argmax(dim=-1)
    return first_actions[torch.arange(len(utilities), device=utilities.device), utilities.argmax(dim=-1)]
