"""The return of imagined futures as a function of what decides their actions, and the ascent of its gradient.

    J = mean_m [ Σ_{j<H} γʲ c_j r_j + γᴴ c_H Q(s_H, a_H) ],   c_j = Π_{i<j} P(going on after i)

over M noise sequences, which stay the same while J is ascended. With several members or critics a mean is
replaced by mean − k · standard deviation, which of two is the smaller one at k = 1.

Source: the algorithm of inference-time policy optimisation with differentiable world models (arXiv 2603.22430).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch.utils.checkpoint import checkpoint

from system.config import AscentConfig, PlannerConfig
from system.errors import PlannerError
from system.models.protocols import DifferentiableModel, Outcome

Act = Callable[[int, torch.Tensor], torch.Tensor]
"""(step, states [B, M, D]) → actions [B, M, A]."""

Variables = Mapping[str, torch.Tensor]
"""What is ascended with: of each of B environments, by name."""


@dataclass(frozen=True)
class ImaginedReturn:
    """What M futures of each environment come to.

    Attributes:
        returns: J.
        observations: o_t … o_{t+H−1}, the mean over the futures.
        rewards: r_t … r_{t+H−1}, likewise.
    """

    returns: Float[torch.Tensor, "B"]
    observations: Float[torch.Tensor, "B H S"]
    rewards: Float[torch.Tensor, "B H"]


@dataclass(frozen=True)
class Ascent:
    """Where an ascent arrived.

    Attributes:
        variables: changed where the gradient was finite.
        returns: J of what it began with.
        expected: what J would be by its gradient at the last step.
        is_finite: J and its gradient were, at every step.
    """

    variables: Variables
    returns: Float[torch.Tensor, "B"]
    expected: Float[torch.Tensor, "B"]
    is_finite: Bool[torch.Tensor, "B"]


def check_ascent(model: DifferentiableModel, config: PlannerConfig, name: str) -> None:
    """What no single key can tell.

    Raises:
        PlannerError: naming the key.
    """
    ascent = config.ascent
    if config.horizon < 1:
        raise PlannerError(f"{name} needs planner.horizon >= 1; 0 means acting without a plan")
    if ascent.num_noise < 1:
        raise PlannerError(f"{name} needs planner.ascent.num_noise >= 1")
    if not ascent.rate > 0.0:
        raise PlannerError(f"{name} needs planner.ascent.rate > 0; planner.ascent.steps: 0 changes nothing")
    if ascent.num_noise % model.num_members:
        raise PlannerError(
            f"planner.ascent.num_noise: {ascent.num_noise} is not divisible by the {model.num_members} members "
            "of the model"
        )
    for key in ("model_pessimism", "uncertainty_penalty"):
        if getattr(ascent, key) > 0.0 and model.num_members < 2:
            raise PlannerError(f"planner.ascent.{key}: asks for an ensemble of models, and there is one model")


def draw_noise(
    model: DifferentiableModel, config: PlannerConfig, generator: torch.Generator
) -> Float[torch.Tensor, "H M noise"]:
    """ε of M futures, the same ones in every environment."""
    shape = config.horizon, config.ascent.num_noise, model.noise_dim
    return torch.randn(shape, generator=generator, device=generator.device)


def imagined_return(
    model: DifferentiableModel,
    act: Act,
    start: Float[torch.Tensor, "B D"],
    noise: Float[torch.Tensor, "H M noise"],
    ascent: AscentConfig,
) -> ImaginedReturn:
    """J of what `act` does, with its gradient.

    Args:
        model: imagines.
        act: decides in every state of every future, and at the end of them for Q.
        start: the environments' states.
        noise: of the futures.
        ascent: pessimism and penalty.

    Raises:
        PlannerError: a gradient is asked for, and the states imagined have none in the actions.
    """
    states = start[:, None].expand(-1, noise.shape[1], -1)
    total, alive = states.new_zeros(states.shape[:2]), states.new_ones(states.shape[:2])
    observations, rewards, discount = [], [], 1.0
    for step, epsilon in enumerate(noise):
        actions = act(step, states)
        outcome = _step(model, states, actions, epsilon, recompute=ascent.recompute)
        if actions.requires_grad and not outcome.states.requires_grad:
            raise PlannerError("the model's next states have no gradient in the actions: it can't be ascended")
        observations.append(model.observations(states).mean(1).detach())
        rewards.append(outcome.rewards.mean(1).detach())
        received = outcome.rewards
        if ascent.uncertainty_penalty > 0.0:
            received = received - ascent.uncertainty_penalty * (outcome.disagreement - 1.0).relu()
        total = total + discount * alive * received
        alive, discount, states = alive * outcome.continues, discount * model.discount, outcome.states
    ends = pessimistic_mean(model.values(states, act(len(noise), states)), ascent.critic_pessimism, 0)
    returns = total + discount * alive * ends
    by_member = returns.unflatten(1, (-1, model.num_members)).mean(1)
    return ImaginedReturn(
        pessimistic_mean(by_member, ascent.model_pessimism, 1),
        torch.stack(observations, 1),
        torch.stack(rewards, 1),
    )


def pessimistic_mean(values: torch.Tensor, pessimism: float, dim: int) -> torch.Tensor:
    """mean − k · standard deviation (of these values, not of a population that they were drawn from)."""
    mean = values.mean(dim)
    if pessimism == 0.0 or values.shape[dim] == 1:
        return mean
    variance = (values - mean.unsqueeze(dim)).square().mean(dim)
    # The square root has no gradient at 0, where members agree exactly.
    return mean - pessimism * torch.where(variance > 0.0, variance, 1.0).sqrt() * (variance > 0.0)


def ascend(
    objective: Callable[[Variables], Float[torch.Tensor, "B"]], variables: Variables, ascent: AscentConfig
) -> Ascent:
    """`ascent.steps` steps of plain gradient ascent, x ← x + η ∇J, of each environment by itself.

    Args:
        objective: J; that of an environment depends on its own variables alone.
        variables: where to begin.
        ascent: steps, rate and the largest norm of a gradient.

    Raises:
        PlannerError: J has no gradient in any of the variables.
    """
    count = len(next(iter(variables.values())))
    first = expected = next(iter(variables.values())).new_zeros(count)
    is_finite = torch.ones(count, dtype=torch.bool, device=first.device)
    for step in range(ascent.steps):
        returns, gradients = _gradients(objective, variables)
        norm = torch.stack([each.flatten(1).square().sum(1) for each in gradients.values()]).sum(0).sqrt()
        is_finite = is_finite & torch.isfinite(norm) & torch.isfinite(returns)
        rate = torch.full_like(norm, ascent.rate)
        if ascent.gradient_clip > 0.0:
            rate = rate * (ascent.gradient_clip / norm.clamp_min(1e-12)).clamp(max=1.0)
        moves = torch.where(is_finite, rate, 0.0)
        variables = {
            name: value + _of_rows(moves, value) * gradients[name].where(_of_rows(is_finite, value), 0.0)
            for name, value in variables.items()
        }
        first, expected = (returns if step == 0 else first), returns + rate * norm.square()
    return Ascent(variables, first, expected, is_finite)


def _gradients(
    objective: Callable[[Variables], torch.Tensor], variables: Variables
) -> tuple[torch.Tensor, Variables]:
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in variables.items()}
        returns = objective(leaves)
        if not returns.requires_grad:
            raise PlannerError("the imagined return has no gradient in what is to be ascended")
        gradients = torch.autograd.grad(returns.sum(), list(leaves.values()), allow_unused=True)
    found = zip(leaves.items(), gradients, strict=True)
    return returns.detach(), {
        name: torch.zeros_like(value) if gradient is None else gradient for (name, value), gradient in found
    }


def _step(
    model: DifferentiableModel,
    states: torch.Tensor,
    actions: torch.Tensor,
    noise: torch.Tensor,
    *,
    recompute: bool,
) -> Outcome:
    if not (recompute and torch.is_grad_enabled()):
        return model.step(states, actions, noise)

    def parts(states: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(vars(model.step(states, actions, noise)).values())

    return Outcome(*checkpoint(parts, states, actions, use_reentrant=False, preserve_rng_state=False))


def _of_rows(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[B] with as many axes as another tensor has."""
    return values.view(-1, *[1] * (like.ndim - 1))
