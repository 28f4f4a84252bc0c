"""Action ascent: the planned actions themselves follow the gradient of an imagined return, open loop.

    begin       a_j = mean_m π(s_jᵐ) along the policy's own futures
    return      J(a) = mean_m [ Σ_{j<H} γʲ r(s_jᵐ, a_j) + γᴴ Q(s_Hᵐ, π(s_Hᵐ)) ]
    ascent      a ← a + η ∇J(a), E times; then a is cut to [−1, 1]

The same model, noise and safeguards as `system.planning.gradient_mpc`, which adapts a policy that still reacts to
what happens; a sequence of actions does not. With `planner.ascent.persistent` the next decision begins with the
sequence, moved on by one step.

Source: the open-loop variant that arXiv 2603.22430 compares with.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float

from system.config import PlannerConfig
from system.decisions import Context, Plan
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
def action_ascent(
    model: DifferentiableModel,
    context: Context,
    *,
    config: PlannerConfig,
    generator: torch.Generator,
) -> Plan:
    """Decides once for each of B environments.

    Args, Returns, Raises: as of `gradient_mpc`, but for parameters, of which the policy may have none.
    """
    check_ascent(model, config, "action_ascent")
    start, policy = model.begin(context), model.parameters()

    def own(states: torch.Tensor) -> torch.Tensor:
        return model.act(policy, states.flatten(0, -2)).unflatten(0, states.shape[:-1])

    def act_of(plans: Variables) -> Act:
        sequence = plans["actions"].clamp(-1.0, 1.0)
        length = sequence.shape[1]
        return lambda step, states: (
            sequence[:, step, None].expand(-1, states.shape[1], -1) if step < length else own(states)
        )

    def judge(plans: Variables, begin: torch.Tensor, noise: torch.Tensor) -> ImaginedReturn:
        return imagined_return(model, act_of(plans), begin, noise, config.ascent)

    noise = draw_noise(model, config, generator)
    unchanged = {"actions": _follow(model, own, start, noise)}
    incoming = {
        "actions": torch.stack(
            [
                unchanged["actions"][row] if carry is None else carry["actions"]
                for row, carry in enumerate(context.carry or [None] * len(start))
            ]
        )
    }
    ascent = ascend(lambda plans: judge(plans, start, noise).returns, incoming, config.ascent)
    judged = None
    if config.ascent.accept_only_better and config.ascent.steps > 0:
        both = {"actions": torch.cat([unchanged["actions"], ascent.variables["actions"]])}
        judged = judge(both, torch.cat([start, start]), draw_noise(model, config, generator))
    change = (ascent.variables["actions"].clamp(-1.0, 1.0) - unchanged["actions"])[:, 0]
    plan = choose_ascended(own(start), change, ascent, judged, config, generator)
    if not config.ascent.persistent:
        return plan
    following = ascent.variables["actions"].clamp(-1.0, 1.0)
    shifted = {"actions": torch.cat([following[:, 1:], following[:, -1:]], 1)}
    return replace(plan, carry=carried(shifted, was_taken(plan)))


def _follow(
    model: DifferentiableModel,
    own: Callable[[torch.Tensor], torch.Tensor],
    start: Float[torch.Tensor, "B D"],
    noise: Float[torch.Tensor, "H M noise"],
) -> Float[torch.Tensor, "B H A"]:
    """The mean of what the policy does at each step of its own futures."""
    states, planned = start[:, None].expand(-1, noise.shape[1], -1), []
    for epsilon in noise:
        actions = own(states)
        planned.append(actions.mean(1))
        states = model.step(states, actions, epsilon).states
    return torch.stack(planned, 1)
