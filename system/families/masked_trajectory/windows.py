"""How a planner's question is laid out as a window of tokens, and what the return-conditioned mask answers."""

import torch
from jaxtyping import Float

from system.decisions import Context
from system.families.masked_trajectory.mask_layout import inference_layout
from system.families.masked_trajectory.masks import ACTIONS, STATES, MaskName
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.models.distributions import ActionDistribution
from system.types import SegmentBatch


def window_tokens(context: Context, horizon: int) -> Tokens:
    """A context, and room for a plan of `horizon` actions, in one window of T' + horizon − 1 steps.

    Args:
        context: T' observations, the current one last.
        horizon: H ≥ 1; the current step stands at position T' − 1 and the plan fills the rest.
    """
    batch, history, _ = context.observations.shape
    future = horizon - 1
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


def action_distribution(
    model: MaskedTrajectoryModel, context: Context, horizon: int, mask: MaskName = "return_conditioned"
) -> ActionDistribution:
    """The distribution of a_t … a_{t+H−1}, [B, H], of the return-conditioned policy or under another mask."""
    current = context.observations.shape[1] - 1
    device = context.observations.device
    layout = inference_layout(mask, model.config.context_length, current, device)
    tokens = window_tokens(context, horizon)
    return model.reconstruct(tokens, layout, first_step=current, modalities=(ACTIONS,)).actions


def expected_states(
    model: MaskedTrajectoryModel, context: Context, horizon: int
) -> Float[torch.Tensor, "B H S"]:
    """The states that the asked return leads to, from the current one on, which stays as it is."""
    current = context.observations.shape[1] - 1
    layout = inference_layout("return_conditioned", model.config.context_length, current, context.valid.device)
    tokens = window_tokens(context, horizon)
    states = model.reconstruct(tokens, layout, first_step=current, modalities=(STATES,)).states
    return torch.cat([context.observations[:, -1:], states[:, 1:]], dim=1)


def segment_tensors(segments: SegmentBatch, *, incomplete: bool) -> dict[str, torch.Tensor]:
    """Recorded windows as the fields of `Tokens`, on the host.

    Args:
        segments: of whole episodes, or of such that lack actions or rewards.
        incomplete: whether some may; what is not recorded is 0 then, and said not to be known.
    """
    tensors = {
        "states": torch.tensor(segments.observations),
        "returns": torch.tensor(segments.returns_to_go),
        "actions": torch.tensor(segments.actions),
        "rewards": torch.tensor(segments.rewards),
        "valid": torch.tensor(segments.valid),
        "returns_known": torch.tensor(segments.returns_valid),
    }
    if not incomplete:
        return tensors
    for name in ("actions", "rewards"):
        finite = torch.isfinite(tensors[name])
        tensors[name] = torch.nan_to_num(tensors[name])
        tensors[f"{name}_known"] = finite.flatten(2).all(-1) if finite.ndim > 2 else finite
    return tensors
