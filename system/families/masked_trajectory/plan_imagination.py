"""What the model expects of many plans from the same past: the forward-dynamics mask, without repeating the past.

Equal to `MaskedTrajectoryModel.reconstruct` of a window for each plan. What is the same for all plans of an
environment, or for all windows, is computed once: what the encoder's first layer reads of the past, and what the
decoder's reads of everything hidden, queries included. Both networks are bidirectional: nothing more is exact.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped

from system.decisions import Context
from system.errors import ShapeError
from system.families.masked_trajectory.mask_layout import inference_layout
from system.families.masked_trajectory.masks import ACTIONS, RETURNS, REWARDS, STATES, forward_dynamics
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens


@dataclass(frozen=True)
class Expectations:
    """Of N plans of H actions in each of B environments, from the current step on, in the task's own units.

    Attributes:
        states: the current one as it is, then the imagined ones.
        returns, rewards: None where they were not asked for.
    """

    states: Float[torch.Tensor, "B N H S"]
    returns: Float[torch.Tensor, "B N H"] | None
    rewards: Float[torch.Tensor, "B N H"] | None


@dataclass(frozen=True)
class _Hidden:
    """Tokens that the forward-dynamics mask hides.

    Attributes:
        modality, step: of each.
        asked: those whose outputs are wanted, the states' first.
    """

    modality: Int64[torch.Tensor, "C"]
    step: Int64[torch.Tensor, "C"]
    asked: Int64[torch.Tensor, "Q"]


def imagine_plans(
    model: MaskedTrajectoryModel,
    context: Context,
    plans: Shaped[torch.Tensor, "B N H *action"],
    modalities: tuple[int, ...],
) -> Expectations:
    """Predicts what follows each plan.

    Args:
        model: whose window the context and a plan fill.
        context: T' observations, the current one last.
        plans: T − T' + 1 actions each, the current step's first.
        modalities: which of RETURNS and REWARDS to predict besides the states.

    Raises:
        ShapeError: the plan does not end with the window.
    """
    batch, count, horizon = plans.shape[:3]
    current, length = context.observations.shape[1] - 1, model.config.context_length
    if current + horizon != length:
        raise ShapeError(f"{current + 1} steps and a plan of {horizon} actions in a window of {length}")
    if model.flat is not None:
        return _of_whole_windows(model, context, plans, modalities)
    hidden = _hidden_tokens(length, current, modalities, plans.device)
    decoded = _decode(model, context, _encode(model, context, plans), hidden)
    lengths = [horizon - 1, *(horizon for _ in modalities)]
    states, *others = decoded.unflatten(0, (batch, count)).split(lengths, dim=2)
    predicted = {
        modality: model.predict_scalar(rows.flatten(0, 1), modality).unflatten(0, (batch, count))
        for modality, rows in zip(modalities, others, strict=True)
    }
    now = context.observations[:, None, -1:].expand(-1, count, -1, -1)
    later = now + model.observation_std * model.state_head(states)
    return Expectations(torch.cat([now, later], dim=2), predicted.get(RETURNS), predicted.get(REWARDS))


def _of_whole_windows(
    model: MaskedTrajectoryModel,
    context: Context,
    plans: Shaped[torch.Tensor, "B N H *action"],
    modalities: tuple[int, ...],
) -> Expectations:
    """The same of a model without tokens that could be shared: a window for each plan."""
    batch, count, horizon = plans.shape[:3]
    current, length = context.observations.shape[1] - 1, model.config.context_length
    known = (context.observations, context.actions, context.valid)
    past = [each.repeat_interleave(count, dim=0) for each in known]
    rows = batch * count
    states = torch.cat([past[0], past[0].new_zeros(rows, horizon - 1, past[0].shape[-1])], dim=1)
    scalars = states.new_zeros(rows, length)
    valid = torch.cat([past[2], past[2].new_ones(rows, horizon - 1)], dim=1)
    tokens = Tokens(states, scalars, torch.cat([past[1], plans.flatten(0, 1)], dim=1), scalars, valid)
    layout = inference_layout("forward_dynamics", length, current, plans.device)
    found = model.reconstruct(tokens, layout, first_step=current, modalities=(STATES, *modalities))
    expected = torch.cat([past[0][:, -1:], found.states[:, 1:]], dim=1).unflatten(0, (batch, count))
    asked = {
        modality: values.unflatten(0, (batch, count))
        for modality, values in ((RETURNS, found.returns), (REWARDS, found.rewards))
        if modality in modalities
    }
    return Expectations(expected, asked.get(RETURNS), asked.get(REWARDS))


def _encode(
    model: MaskedTrajectoryModel, context: Context, plans: Shaped[torch.Tensor, "B N H *action"]
) -> Float[torch.Tensor, "R V D"]:
    """Encoder outputs of B·N windows: states up to the current one, actions before it, then the plan."""
    current = context.observations.shape[1] - 1
    past = [
        model.read(STATES, model.standardize_states(context.observations), slice(current + 1)),
        model.read(ACTIONS, model.actions.encode(context.actions), slice(current)),
    ]
    planned = model.read(ACTIONS, model.actions.encode(plans.flatten(0, 1)), slice(current, None))
    valid = torch.cat([context.valid, context.valid[:, :-1], _ahead(context, plans.shape[2])], dim=1)
    return model.encoder.in_groups(torch.cat(past, dim=1), planned, valid)


def _decode(
    model: MaskedTrajectoryModel, context: Context, encoded: Float[torch.Tensor, "R V D"], hidden: _Hidden
) -> Float[torch.Tensor, "R Q D"]:
    """Decoder outputs of the hidden tokens that are asked for."""
    num_states = context.observations.shape[1]
    holes = model.holes()[hidden.modality, hidden.step]
    seen = [
        model.place(STATES, encoded[:, :num_states].contiguous(), slice(num_states)),
        model.place(ACTIONS, encoded[:, num_states:].contiguous(), slice(None)),
    ]
    valid = torch.cat([context.valid, _ahead(context, model.config.context_length - num_states)], dim=1)
    valid = torch.cat([valid[:, hidden.step], context.valid, valid], dim=1)
    return model.decoder.in_groups(holes[None], torch.cat(seen, dim=1), valid, hidden.asked)


@lru_cache(maxsize=64)
def _hidden_tokens(length: int, current: int, modalities: tuple[int, ...], device: torch.device) -> _Hidden:
    """Made once: nothing that depends on shapes alone is brought to the device at every decision."""
    modality, step = np.nonzero(~forward_dynamics(length, current))
    asked = [
        index
        for wanted in (STATES, *modalities)
        for index in np.flatnonzero((modality == wanted) & (step >= current))
    ]
    return _Hidden(*(torch.tensor(np.asarray(each), device=device) for each in (modality, step, asked)))


def _ahead(context: Context, count: int) -> torch.Tensor:
    return context.valid.new_ones(len(context.valid), count)
