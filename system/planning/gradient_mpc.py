"""Gradient MPC: the policy's own parameters follow the gradient of an imagined return before it acts.

    futures     s_{j+1} = f(s_j, π_ψ(s_j), ε_j), M noise sequences that stay the same for one decision
    return      J(ψ) = mean_m [ Σ_{j<H} γʲ r(s_j, π_ψ(s_j)) + γᴴ Q(s_H, π_ψ(s_H)) ]
    ascent      ψ ← ψ + η ∇J(ψ), E times, through the whole chain; f, r and Q stay as they are
    action      π_ψ(s)

Every environment has parameters of its own, which come in and go out in the carry of context and plan; the
module that they are of is never changed.

Deviations from the paper, with the reason:

- the parameters begin anew at every decision unless `planner.ascent.persistent` says otherwise: the paper's never
  do, and its own ablations show collapses with more or larger steps;
- a changed action is taken only where J rises on other noise (`accept_only_better`), and may be kept within a
  trust region about the base policy's; the paper has neither;
- where J, its gradient or the action is not finite the base policy acts, and the plan says so;
- environments share their noise, so that a decision does not depend on which others are made with it;
- J ends with the mean − k·sd of the critics, at k = 1 of two the smaller one.

Trust region: the executed action is kept near the base policy's; in imagination the policy acts as it is.

Source: "Inference Time Policy Optimization for Offline RL with Differentiable World Models", arXiv 2603.22430.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from system.config import PlannerConfig
from system.decisions import Carry, Context, Plan
from system.errors import PlannerError
from system.models.protocols import DifferentiableModel
from system.planning.ascended_plan import carried, choose_ascended, was_taken
from system.planning.imagined_return import (
    Act,
    ImaginedReturn,
    Variables,
    ascend,
    check_ascent,
    draw_noise,
    imagined_return,
)


@torch.no_grad()
def gradient_mpc(
    model: DifferentiableModel,
    context: Context,
    *,
    config: PlannerConfig,
    generator: torch.Generator,
) -> Plan:
    """Decides once for each of B environments.

    Args:
        model: a policy within a world, critics included.
        context: the environments' recent past; its carry holds the parameters to go on from.
        config: horizon H ≥ 1, and `ascent`: E, η, M and the safeguards.
        generator: the only source of randomness.

    Returns:
        A plan of two candidates, the base policy's action and the changed one; its utilities are their J, on other
        noise where they are compared. Its carry holds the parameters, if they are to persist.

    Raises:
        PlannerError: H, η or M is 0, M doesn't go with the members of the model, the policy has no parameters, the
            model has no gradient, or what the base policy does is not finite.
    """
    check_ascent(model, config, "gradient_mpc")
    policy = dict(model.parameters())
    if not policy:
        raise PlannerError("gradient_mpc adapts a policy's parameters, and this policy has none")
    start = model.begin(context)
    unchanged = _begin_with([None] * len(start), policy)
    incoming = _begin_with(context.carry, policy) if any(context.carry) else unchanged

    def judge(parameters: Variables, begin: torch.Tensor, noise: torch.Tensor) -> ImaginedReturn:
        return imagined_return(model, _acting(model, parameters), begin, noise, config.ascent)

    noise = draw_noise(model, config, generator)
    ascent = ascend(lambda parameters: judge(parameters, start, noise).returns, incoming, config.ascent)
    judged = None
    if config.ascent.accept_only_better and config.ascent.steps > 0:
        both = {name: torch.cat([value, ascent.variables[name]]) for name, value in unchanged.items()}
        judged = judge(both, torch.cat([start, start]), draw_noise(model, config, generator))
    here = start[:, None]
    change = _acting(model, ascent.variables)(0, here) - _acting(model, unchanged)(0, here)
    plan = choose_ascended(model.act(policy, start), change[:, 0], ascent, judged, config, generator)
    if not config.ascent.persistent:
        return plan
    return replace(plan, carry=carried(ascent.variables, was_taken(plan)))


def _acting(model: DifferentiableModel, parameters: Variables) -> Act:
    """Each environment's futures with its own parameters; one's products take half the time of a batch's."""
    if len(next(iter(parameters.values()))) == 1:
        own = {name: value[0] for name, value in parameters.items()}
        return lambda step, states: model.act(own, states[0])[None]
    mapped = torch.func.vmap(model.act)
    return lambda step, states: mapped(parameters, states)


def _begin_with(carries: Sequence[Carry], policy: Mapping[str, torch.Tensor]) -> Variables:
    """Parameters of every environment: those that it carries, or the policy's own."""
    return {
        name: torch.stack([value if carry is None else carry[name] for carry in carries])
        for name, value in policy.items()
    }
