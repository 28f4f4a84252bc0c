"""The transformer against PyTorch's own layers, and the shortcut for outputs that nobody reads."""

import math

import pytest
import torch
from torch import nn

from system.models.transformer import Transformer, TransformerBlock, attention_mask, sinusoidal_positions

WIDTH, HEADS = 16, 4


def make_block(dropout: float = 0.0) -> TransformerBlock:
    torch.manual_seed(0)
    return TransformerBlock(WIDTH, HEADS, dropout).eval()


def tokens(count: int = 5) -> torch.Tensor:
    return torch.randn(3, count, WIDTH, generator=torch.Generator().manual_seed(1))


def pytorch_twin(block: TransformerBlock) -> nn.TransformerEncoderLayer:
    """PyTorch's pre-norm encoder layer with the same weights."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    layer.norm1, layer.norm2 = block.attention_norm, block.feed_forward_norm
    layer.linear1, layer.linear2 = block.feed_forward[0], block.feed_forward[2]
    layer.self_attn.in_proj_weight = block.query_key_value.weight
    layer.self_attn.in_proj_bias = block.query_key_value.bias
    layer.self_attn.out_proj = block.attention_output
    return layer


@torch.no_grad()
def test_a_block_is_the_usual_pre_norm_layer() -> None:
    block = make_block()
    assert torch.allclose(block(tokens()), pytorch_twin(block)(tokens()), atol=1e-5)


@torch.no_grad()
def test_padding_is_what_pytorch_calls_a_key_padding_mask() -> None:
    block = make_block()
    valid = torch.tensor([[True] * 5, [False, True, True, True, True], [False, False, False, False, True]])
    ours = block(tokens(), attention_mask(valid))
    theirs = pytorch_twin(block)(tokens(), src_key_padding_mask=~valid)
    assert torch.allclose(ours[valid], theirs[valid], atol=1e-5)


@torch.no_grad()
def test_tokens_that_are_not_valid_change_nothing_and_stay_finite() -> None:
    valid = torch.tensor([[False, False, True, True, True]] * 3)
    other = torch.where(valid[..., None], tokens(), 50.0)
    block = make_block()
    first, second = (block(each, attention_mask(valid)) for each in (tokens(), other))
    assert torch.equal(first[valid], second[valid])
    alone = attention_mask(torch.zeros(3, 5, dtype=torch.bool))
    assert torch.isfinite(block(tokens(), alone)).all()


def test_without_padding_there_is_no_mask() -> None:
    assert attention_mask(torch.ones(2, 3, dtype=torch.bool)) is None


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_asking_for_some_outputs_gives_those_outputs(padded: bool) -> None:
    torch.manual_seed(0)
    model = Transformer(WIDTH, 2, HEADS, 0.0).eval()
    valid = torch.ones(3, 5, dtype=torch.bool)
    valid[0, 1] = not padded
    queries = torch.tensor([3, 0])
    mask = attention_mask(valid)
    assert torch.allclose(model(tokens(), mask, queries), model(tokens(), mask)[:, queries], atol=1e-6)


@torch.no_grad()
def test_the_order_of_tokens_is_their_contents_business() -> None:
    block, order = make_block(), torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(block(tokens()[:, order]), block(tokens())[:, order], atol=1e-6)


@torch.no_grad()
def test_dropout_is_for_training_alone() -> None:
    block = make_block(dropout=0.5)
    calm = block(tokens())
    assert torch.equal(calm, block(tokens()))
    assert not torch.equal(calm, block.train()(tokens()))


@torch.no_grad()
def test_the_stack_ends_with_a_norm() -> None:
    torch.manual_seed(0)
    output = Transformer(WIDTH, 2, HEADS, 0.0).eval()(10.0 * tokens())
    assert torch.allclose(output.mean(-1), torch.zeros(3, 5), atol=1e-5)
    assert torch.allclose(output.std(-1, unbiased=False), torch.ones(3, 5), atol=1e-2)


def test_positions_are_halved_sines_then_cosines() -> None:
    positions = sinusoidal_positions(6, 8)
    for step in range(6):
        for index in range(4):
            angle = step / 10_000 ** (index / 4)
            assert positions[step, index].item() == pytest.approx(0.5 * math.sin(angle), abs=1e-6)
            assert positions[step, 4 + index].item() == pytest.approx(0.5 * math.cos(angle), abs=1e-6)
