"""A plan out of an ascent: whether what it arrived at is executed, or what it began with."""

import torch
from jaxtyping import Bool, Float

from system.config import PlannerConfig
from system.decisions import Carry, Plan
from system.errors import PlannerError
from system.planning.imagined_return import Ascent, ImaginedReturn, Variables


def choose_ascended(
    base: Float[torch.Tensor, "B A"],
    change: Float[torch.Tensor, "B A"],
    ascent: Ascent,
    judged: ImaginedReturn | None,
    config: PlannerConfig,
    generator: torch.Generator,
) -> Plan:
    """The changed action where it can be used, and is better if that is asked for; else the base policy's.

    Args:
        base: what the base policy does.
        change: that the ascent makes to it.
        ascent: that was made.
        judged: both on other noise, [base of all environments, changed of all]; None: they are not compared.
        config: trust region, acceptance, and whether to explore.
        generator: of exploration's noise.

    Returns:
        A plan of two candidates, the base first; it hands nothing on.

    Raises:
        PlannerError: the base policy's action is not finite. Where a recording is made nothing can be looked
            at, and `check_action` is for whoever replays it.
    """
    if not (base.is_cuda and torch.cuda.is_current_stream_capturing()):
        check_action(base)
    limit = config.ascent.trust_region
    changed = (base + change.clamp(-limit, limit)).clamp(-1.0, 1.0)
    sound = ascent.is_finite & torch.isfinite(changed).all(-1)
    before, after = (ascent.returns, ascent.expected) if judged is None else judged.returns.chunk(2)
    sound = sound & torch.isfinite(after) & torch.isfinite(before)
    taken = sound & (after > before) if config.ascent.accept_only_better else sound
    action = torch.where(taken[:, None], changed, base)
    selected = taken.long()
    if config.select == "sample" and config.ascent.exploration_noise > 0.0:
        noise = torch.randn(action.shape, generator=generator, device=generator.device)
        action = (action + config.ascent.exploration_noise * noise).clamp(-1.0, 1.0)
        selected = torch.full_like(selected, -1)
    return Plan(
        action=action,
        first_actions=torch.stack([base, torch.where(sound[:, None], changed, base)], 1),
        probabilities=torch.nn.functional.one_hot(taken.long(), 2).to(action),
        utilities=torch.stack([before.where(torch.isfinite(before), 0.0), after.where(sound, -torch.inf)], 1),
        selected=selected,
        imagined_observations=None if judged is None else _by_candidate(judged.observations),
        imagined_rewards=None if judged is None else _by_candidate(judged.rewards),
        fell_back=~sound,
    )


def check_action(action: Float[torch.Tensor, "B A"]) -> None:
    """Whether it can be executed.

    Raises:
        PlannerError: it is not finite.
    """
    if not bool(torch.isfinite(action).all()):
        raise PlannerError("the policy's actions are not finite")


def carried(variables: Variables, taken: Bool[torch.Tensor, "B"]) -> tuple[Carry, ...]:
    """What each environment goes on from: its variables where they were taken, else nothing."""
    return tuple(
        {name: value[row] for name, value in variables.items()} if is_taken else None
        for row, is_taken in enumerate(taken.tolist())
    )


def was_taken(plan: Plan) -> Bool[torch.Tensor, "B"]:
    """Where a plan of `choose_ascended` changed anything."""
    return plan.probabilities[:, 1] > 0.0


def _by_candidate(values: torch.Tensor) -> torch.Tensor:
    return torch.stack(values.chunk(2), 1)
