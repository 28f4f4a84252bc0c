"""Forward MPC: propose, imagine, score, choose.

    candidates  a^i_{t:T} ~ π(· | history, target return)      return-conditioned mask
    futures     s^i, r^i = model(history, a^i)                  forward-dynamics mask
    utility     U^i = TD(λ) over r^i and g^i                    eq. 3
    choice      P[i] = softmax(ξ U^i)                           eq. 4

Exploring draws candidate i with probability P[i]; evaluating executes Σ P[i] a^i_t or the best candidate. Discrete
actions have no mean: the one whose candidates have the largest Σ P[i] is executed in its place.

Deviation: `planner.select: unsquashed_expectation` executes tanh Σ P[i] tanh⁻¹ a^i_t. Without guidance the paper's
mean is the mean of squashed draws, which on some data falls over where their mode walks.

Source: M³PC section IV, "Forward M³PC for Reward Maximization".
"""

import torch

from system.config import PlannerConfig
from system.decisions import Context, Plan
from system.errors import PlannerError
from system.models.protocols import PlanningModel
from system.planning.utility import (
    check_utilities,
    choose_action,
    draw_candidate,
    standardize_utilities,
    td_lambda_utility,
    weigh_utilities,
)


@torch.no_grad()
def forward_mpc(
    model: PlanningModel,
    context: Context,
    *,
    config: PlannerConfig,
    generator: torch.Generator,
) -> Plan:
    """Plans one decision for each of B environments.

    Args:
        model: proposes and imagines; values included.
        context: the environments' recent past, T' = model window − h + 1 observations.
        config: horizon h ≥ 1 (h = 1 scores actions by their value alone), λ, ξ, candidates, selection.
        generator: the only source of randomness.

    Raises:
        PlannerError: horizon 0 (there is nothing to plan), or the model returned NaN or +inf: an action that
            is not finite is never handed on.
    """
    if config.horizon < 1:
        raise PlannerError("forward_mpc needs planner.horizon >= 1; 0 means acting without a plan")
    candidates = model.propose(
        context, horizon=config.horizon, num_candidates=config.num_candidates, generator=generator
    )
    imagination = model.imagine(context, candidates)
    utilities = td_lambda_utility(
        imagination.rewards[..., :-1], imagination.values, model.discount, config.td_lambda
    )
    scaled = standardize_utilities(utilities) if config.utility_scale == "standardized" else utilities
    first_actions = candidates[:, :, 0]
    probabilities, usable = weigh_utilities(scaled, config.temperature)
    # The one look at what was computed before the choice: an accelerator is waited for once.
    if not bool(usable.all() & torch.isfinite(first_actions).all()):
        check_utilities(scaled)
        raise PlannerError("the model proposed actions that are not finite")
    if config.select == "sample":
        selected = draw_candidate(probabilities, generator)
        action = first_actions[torch.arange(len(selected), device=selected.device), selected]
    else:
        action = choose_action(first_actions, probabilities, utilities, config.select)
        best = utilities.argmax(dim=-1)
        selected = torch.full_like(best, -1) if config.expects else best
    return Plan(
        action=action.clamp(-1.0, 1.0) if action.is_floating_point() else action,
        first_actions=first_actions,
        probabilities=probabilities,
        utilities=utilities,
        selected=selected,
        imagined_observations=imagination.observations,
        imagined_rewards=imagination.rewards,
    )
