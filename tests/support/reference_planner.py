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
    """(expected action [B, A] or most voted action [B], utilities [B, N]).

    Values are return tokens where there is no critic. What is random is drawn at once for all, as the fast planner
    draws it; everything else is a loop.
    """
    batch, count = len(context.observations), config.num_candidates
    outputs = [_proposal(model, _one(context, index), config.horizon) for index in range(batch)]
    drawn = (_gaussian if context.actions.is_floating_point() else _categorical)(outputs, count, generator)
    actions, utilities = [], []
    for index, candidates in enumerate(drawn):
        scores = [_utility(model, critic, _one(context, index), each, config, discount) for each in candidates]
        scaled = torch.stack(scores)
        if config.utility_scale == "standardized":
            scaled = scaled / scaled.std(unbiased=False)
        weights = torch.exp(config.temperature * (scaled - scaled.max()))
        weights = weights / weights.sum()
        actions.append(_chosen(weights, [each[0] for each in candidates], config.select))
        utilities.append(torch.stack(scores))
    return torch.stack(actions), torch.stack(utilities)


def _gaussian(
    outputs: list[torch.Tensor], count: int, generator: torch.Generator
) -> list[list[torch.Tensor]]:
    """N candidates [h, A] of every environment."""
    means, log_stds = zip(*(each.chunk(2, dim=-1) for each in outputs), strict=True)
    noise = torch.randn(count, len(outputs), *means[0].shape, generator=generator)
    stds = [torch.exp(-5.0 + 3.5 * (torch.tanh(each) + 1.0)) for each in log_stds]
    return [
        [torch.tanh(mean + std * noise[number, index]) for number in range(count)]
        for index, (mean, std) in enumerate(zip(means, stds, strict=True))
    ]


def _categorical(
    outputs: list[torch.Tensor], count: int, generator: torch.Generator
) -> list[list[torch.Tensor]]:
    """N candidates [h] of every environment."""
    odds = torch.cat(outputs).exp()
    drawn = torch.multinomial(odds / odds.sum(-1, keepdim=True), count, replacement=True, generator=generator)
    return [list(each.T) for each in drawn.split(len(outputs[0]))]


def _chosen(weights: torch.Tensor, first: list[torch.Tensor], select: str) -> torch.Tensor:
    """The weighted mean, of the actions or of what was squashed, or the number with the largest sum of weights."""
    if first[0].is_floating_point() and select == "unsquashed_expectation":
        before = [0.5 * torch.log((1.0 + each) / (1.0 - each)) for each in first]
        return torch.stack([weight * each for weight, each in zip(weights, before, strict=True)]).sum(0).tanh()
    if first[0].is_floating_point():
        return torch.stack([weight * each for weight, each in zip(weights, first, strict=True)]).sum(0)
    votes: dict[int, float] = {}
    for weight, each in zip(weights, first, strict=True):
        votes[int(each)] = votes.get(int(each), 0.0) + float(weight)
    return torch.tensor(max(votes, key=lambda action: votes[action]))


def _one(context: Context, index: int) -> Context:
    rows = slice(index, index + 1)
    return Context(
        context.observations[rows], context.actions[rows], context.valid[rows], context.target_return[rows]
    )


def _window(model: MaskedTrajectoryModel, context: Context, plan: torch.Tensor | None) -> tuple[Tokens, int]:
    """The whole window of one environment, with a plan [h, *action] or none."""
    length, current = model.config.context_length, context.observations.shape[1] - 1
    states = torch.zeros(1, length, context.observations.shape[-1])
    states[:, : current + 1] = context.observations
    actions = context.actions.new_zeros(1, length, *context.actions.shape[2:])
    actions[:, :current] = context.actions
    if plan is not None:
        actions[0, current:] = plan
    valid = torch.ones(1, length, dtype=torch.bool)
    valid[:, : current + 1] = context.valid
    returns = context.target_return[:, None].expand(1, length)
    return Tokens(states, returns, actions, torch.zeros(1, length), valid), current


def _proposal(model: MaskedTrajectoryModel, context: Context, horizon: int) -> torch.Tensor:
    """What the action head says of the h steps to come."""
    tokens, current = _window(model, context, None)
    decoded = model(tokens, return_conditioned(model.config.context_length, current))
    return model.action_head(decoded[0, ACTIONS, current : current + horizon])


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
