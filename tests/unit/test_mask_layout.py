"""Masks as tensors of few shapes: the model says the same as when the encoder is given visible tokens alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.learner import trajectory_losses
from system.families.masked_trajectory.mask_layout import inference_layout, lay_out, layout_of
from system.families.masked_trajectory.masks import (
    ACTIONS,
    RETURNS,
    STATES,
    TASK_MASKS,
    empty_mask,
    forward_dynamics,
    random_autoregressive,
)
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens

LENGTH, BATCH = 6, 3
CPU = torch.device("cpu")
MASKS = {name: make(LENGTH, 3) for name, make in TASK_MASKS.items()} | {
    "random": random_autoregressive(LENGTH, np.random.default_rng(3)),
    "everything": ~empty_mask(LENGTH),
    "nothing": empty_mask(LENGTH),
}


@pytest.fixture(scope="module")
def model() -> MaskedTrajectoryModel:
    torch.manual_seed(0)
    config = ModelConfig(context_length=LENGTH, width=16, encoder_layers=2, decoder_layers=1, num_heads=2)
    model = MaskedTrajectoryModel(5, 2, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def window() -> Tokens:
    """The second row begins at step 2; of the third the returns are not known."""
    generator = torch.Generator().manual_seed(0)
    valid = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    valid[1, :2] = False
    known = valid.clone()
    known[2] = False
    return Tokens(
        states=torch.randn(BATCH, LENGTH, 5, generator=generator),
        returns=torch.randn(BATCH, LENGTH, generator=generator),
        actions=torch.rand(BATCH, LENGTH, 2, generator=generator),
        rewards=torch.randn(BATCH, LENGTH, generator=generator),
        valid=valid,
        returns_known=known,
    )


def by_hand(model: MaskedTrajectoryModel, tokens: Tokens, mask: np.ndarray) -> torch.Tensor:
    """Decoder outputs, token by token: the encoder is given the visible ones and no others."""
    contents = [tokens.states, tokens.returns[..., None], tokens.actions, tokens.rewards[..., None]]
    visible = [(modality, step) for modality in range(4) for step in range(LENGTH) if mask[modality, step]]

    def is_valid(row: int, modality: int, step: int) -> bool:
        unknown = modality == RETURNS and mask[RETURNS, step] and not tokens.returns_known[row, step]
        return bool(tokens.valid[row, step]) and not unknown

    def attention(row: int, places: list[tuple[int, int]]) -> torch.Tensor:
        keys = torch.tensor([is_valid(row, *place) for place in places])
        return (keys | torch.eye(len(places), dtype=torch.bool))[None, None]

    rows = []
    everywhere = [(modality, step) for modality in range(4) for step in range(LENGTH)]
    for row in range(BATCH):
        filled = {
            place: model.decoder_embeddings[place[0]](model.mask_tokens[place[0], 0]) for place in everywhere
        }
        if visible:
            read = [
                model.embeddings[modality](contents[modality][row, step])
                + model.encoder_modality[modality, 0]
                + model.positions[step]
                for modality, step in visible
            ]
            encoded = model.encoder(torch.stack(read)[None], attention(row, visible))[0]
            for place, output in zip(visible, encoded, strict=True):
                filled[place] = model.decoder_embeddings[place[0]](output)
        sequence = [
            filled[place] + model.decoder_modality[place[0], 0] + model.positions[place[1]] for place in everywhere
        ]
        rows.append(model.decoder(torch.stack(sequence)[None], attention(row, everywhere))[0])
    return torch.stack(rows).unflatten(1, (4, LENGTH))


@pytest.mark.parametrize("multiple", [1, LENGTH, 5, 4 * LENGTH])
@pytest.mark.parametrize("name", MASKS)
@torch.no_grad()
def test_filled_up_layouts_change_nothing(name: str, multiple: int, model: MaskedTrajectoryModel) -> None:
    layout = lay_out(MASKS[name], multiple=multiple)
    assert len(layout.visible) % multiple == 0
    assert torch.allclose(model(window(), layout), by_hand(model, window(), MASKS[name]), atol=1e-5)


@torch.no_grad()
def test_the_steps_that_are_asked_for_are_the_same_too(model: MaskedTrajectoryModel) -> None:
    mask, asked = forward_dynamics(LENGTH, 2), {"first_step": 2, "modalities": (STATES, ACTIONS)}
    plain, filled = (
        model.reconstruct(window(), each, **asked) for each in (mask, lay_out(mask, multiple=LENGTH))
    )
    assert torch.allclose(plain.states, filled.states, atol=1e-5)
    assert torch.allclose(plain.actions.mean, filled.actions.mean, atol=1e-5)


@pytest.mark.parametrize("name", ["return_conditioned", "random"])
def test_losses_and_gradients_are_the_same_too(name: str, model: MaskedTrajectoryModel) -> None:
    tokens, noise = window(), torch.zeros(BATCH, LENGTH, 2)
    found = []
    for mask in (MASKS[name], lay_out(MASKS[name], multiple=2 * LENGTH)):
        model.zero_grad()
        losses = trajectory_losses(model, tokens, tokens.valid.float(), mask, noise, -1.0)
        torch.stack(list(losses.values())).sum().backward()
        gradients = [each.grad.clone() for each in model.parameters() if each.grad is not None]
        found.append([*(value.detach() for value in losses.values()), *gradients])
    plain, filled = found
    assert len(plain) > 40
    for one, other in zip(plain, filled, strict=True):
        assert (one - other).abs().max() <= 1e-5 * (1.0 + one.abs().max())


def test_random_masks_have_few_lengths() -> None:
    generator = np.random.default_rng(0)
    masks = [random_autoregressive(LENGTH, generator) for _ in range(500)]
    lengths = {len(lay_out(mask, multiple=LENGTH).visible) for mask in masks}
    assert lengths == {LENGTH, 2 * LENGTH, 3 * LENGTH, 4 * LENGTH}
    assert len({len(lay_out(mask).visible) for mask in masks}) > 15


def test_a_layout_counts_modality_by_modality() -> None:
    mask = empty_mask(3)
    mask[STATES, 1] = mask[ACTIONS, 2] = True
    layout = lay_out(mask, multiple=5)
    assert layout.visible.tolist() == [STATES * 3 + 1, ACTIONS * 3 + 2, 12, 12, 12]
    assert layout_of(layout, CPU).visible.tolist() == layout.visible.tolist()
    assert np.array_equal(layout.seen.numpy(), mask)


def test_layouts_of_planning_are_made_once() -> None:
    first, again = (inference_layout("return_conditioned", LENGTH, 3, CPU) for _ in range(2))
    assert first is again
    assert torch.equal(first.visible, lay_out(MASKS["return_conditioned"]).visible)
    assert inference_layout("return_conditioned", LENGTH, 3, torch.device("meta")).visible.device.type == "meta"


COMPILED = """
import numpy as np, torch
from torch._dynamo.testing import CompileCounter
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.mask_layout import lay_out
from system.families.masked_trajectory.masks import random_autoregressive
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens

model = MaskedTrajectoryModel(5, 2, ModelConfig(context_length=8, width=16, num_heads=2))
counter, generator = CompileCounter(), np.random.default_rng(0)
compiled = torch.compile(model, backend=counter, fullgraph=True)
zeros = torch.zeros(3, 8)
tokens = Tokens(torch.zeros(3, 8, 5), zeros, torch.zeros(3, 8, 2), zeros, zeros == 0.0, zeros == 0.0)
lengths = set()
for _ in range(60):
    layout = lay_out(random_autoregressive(8, generator), multiple=8)
    torch._dynamo.maybe_mark_dynamic(layout.visible, 0)
    compiled(tokens, layout).sum().backward()
    lengths.add(len(layout.visible))
print(len(lengths), counter.frame_count)
"""


def test_one_compilation_serves_every_mask() -> None:
    """In a process of its own: the annotation checks of these tests cannot be compiled."""
    ended = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert ended.stdout.split() == ["4", "1"], ended.stderr
