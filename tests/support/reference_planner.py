"""Forward MPC written out, one environment and one candidate at a time: the oracle of the fast one."""

import torch

from system.config import PlannerConfig
from system.decisions import Context
from system.families.masked_trajectory.masks import (
    ACTIONS,
    RETURNS,
    REWARDS,
    STATES,
    forward_dynamics,
    return_conditioned,
)
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.values.critics import ValueNetworks


def reference_action(
    model: MaskedTrajectoryModel,
    critic: ValueNetworks | None,
    context: Context,
    config: PlannerConfig,
    discount: float,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(expected action [B, A], utilities [B, N]); values are return tokens where there is no critic.

    The noise is drawn at once for all, as the fast planner draws it; everything else is a loop.
    """
    batch, horizon, count = len(context.observations), config.horizon, config.num_candidates
    distributions = [_proposal(model, _one(context, index), horizon) for index in range(batch)]
    noise = torch.randn(count, batch, horizon, distributions[0][0].shape[-1], generator=generator)
    actions, utilities = [], []
    for index, (mean, std) in enumerate(distributions):
        candidates = [torch.tanh(mean + std * noise[number, index]) for number in range(count)]
        scores = [_utility(model, critic, _one(context, index), each, config, discount) for each in candidates]
        scaled = torch.stack(scores)
        if config.utility_scale == "standardized":
            scaled = scaled / scaled.std(unbiased=False)
        weights = torch.exp(config.temperature * (scaled - scaled.max()))
        weights = weights / weights.sum()
        actions.append(sum(weight * each[0] for weight, each in zip(weights, candidates, strict=True)))
        utilities.append(torch.stack(scores))
    return torch.stack(actions), torch.stack(utilities)


def _one(context: Context, index: int) -> Context:
    rows = slice(index, index + 1)
    return Context(
        context.observations[rows], context.actions[rows], context.valid[rows], context.target_return[rows]
    )


def _window(model: MaskedTrajectoryModel, context: Context, plan: torch.Tensor | None) -> tuple[Tokens, int]:
    """The whole window of one environment, with a plan [h, A] or none."""
    length, current = model.config.context_length, context.observations.shape[1] - 1
    states = torch.zeros(1, length, context.observations.shape[-1])
    states[:, : current + 1] = context.observations
    actions = torch.zeros(1, length, context.actions.shape[-1])
    actions[:, :current] = context.actions
    if plan is not None:
        actions[0, current:] = plan
    valid = torch.ones(1, length, dtype=torch.bool)
    valid[:, : current + 1] = context.valid
    returns = context.target_return[:, None].expand(1, length)
    return Tokens(states, returns, actions, torch.zeros(1, length), valid), current


def _proposal(model: MaskedTrajectoryModel, context: Context, horizon: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, current = _window(model, context, None)
    decoded = model(tokens, return_conditioned(model.config.context_length, current))
    policy = model.predict_actions(decoded[:, ACTIONS])
    return policy.mean[0, current : current + horizon], policy.log_std.exp()[0, current : current + horizon]


def _utility(
    model: MaskedTrajectoryModel,
    critic: ValueNetworks | None,
    context: Context,
    plan: torch.Tensor,
    config: PlannerConfig,
    discount: float,
) -> torch.Tensor:
    tokens, current = _window(model, context, plan)
    mask = forward_dynamics(model.config.context_length, current)
    decoded = model(tokens, mask)
    states = model.predict_states(decoded[:, STATES], tokens, mask, 0)[0, current:]
    states[0] = context.observations[0, -1]
    rewards = model.predict_scalar(decoded[:, REWARDS], REWARDS)[0, current:]
    if critic is None:
        values = model.predict_scalar(decoded[:, RETURNS], RETURNS)[0, current:]
    else:
        values = torch.stack(
            [critic.q(state[None], action[None])[0] for state, action in zip(states, plan, strict=True)]
        )
    last = config.horizon - 1

    def estimate(n: int) -> torch.Tensor:
        received = sum((discount**k * rewards[k] for k in range(n)), torch.zeros(()))
        return received + discount**n * values[n]

    mixed = sum((config.td_lambda**n * estimate(n) for n in range(last)), torch.zeros(()))
    return (1.0 - config.td_lambda) * mixed + config.td_lambda**last * estimate(last)
