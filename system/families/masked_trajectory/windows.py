"""How a planner's question is laid out as a window of tokens, and what the return-conditioned mask answers."""

import torch

from system.decisions import Context
from system.families.masked_trajectory.masks import ACTIONS, return_conditioned
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.models.distributions import ActionDistribution


def window_tokens(context: Context, horizon: int, actions: torch.Tensor | None = None) -> Tokens:
    """Lays a context and a plan of `horizon` actions out in one window of T' + horizon − 1 steps.

    Args:
        context: T' observations, the current one last.
        horizon: H ≥ 1; the current step stands at position T' − 1 and the plan fills the rest.
        actions: [B, H, *action]; None leaves them zero, for masks that hide them.
    """
    batch, history, _ = context.observations.shape
    future = horizon - 1
    if actions is None:
        actions = context.actions.new_zeros(batch, horizon, *context.actions.shape[2:])
    padding = context.observations.new_zeros(batch, future, context.observations.shape[-1])
    length = history + future
    return Tokens(
        states=torch.cat([context.observations, padding], dim=1),
        returns=context.target_return[:, None].expand(batch, length),
        actions=torch.cat([context.actions, actions], dim=1),
        rewards=context.observations.new_zeros(batch, length),
        valid=torch.cat([context.valid, context.valid.new_ones(batch, future)], dim=1),
    )


def action_distribution(model: MaskedTrajectoryModel, context: Context, horizon: int) -> ActionDistribution:
    """The return-conditioned policy's distribution of a_t … a_{t+H−1}, [B, H]."""
    current = context.observations.shape[1] - 1
    length = model.config.context_length
    tokens = window_tokens(context, horizon)
    mask = return_conditioned(length, current)
    return model.reconstruct(tokens, mask, first_step=current, modalities=(ACTIONS,)).actions


def repeat_context(context: Context, count: int) -> Context:
    """Every environment's context `count` times in a row."""
    return Context(
        context.observations.repeat_interleave(count, dim=0),
        context.actions.repeat_interleave(count, dim=0),
        context.valid.repeat_interleave(count, dim=0),
        context.target_return.repeat_interleave(count, dim=0),
    )
