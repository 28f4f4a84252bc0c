"""Pre-norm transformer blocks that can skip the outputs nobody reads."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import nn
from torch.nn import functional


def sinusoidal_positions(length: int, width: int) -> Float[torch.Tensor, "T D"]:
    """Fixed position vectors, sines in the first half and cosines in the second, scaled by 0.5."""
    frequencies = torch.exp(torch.arange(width // 2) * (-torch.log(torch.tensor(10_000.0)) / (width // 2)))
    angles = torch.arange(length)[:, None] * frequencies[None]
    return 0.5 * torch.cat([angles.sin(), angles.cos()], dim=-1)


def attention_mask(valid: Bool[torch.Tensor, "B K"]) -> Bool[torch.Tensor, "B 1 K K"] | None:
    """Who may attend to whom: everybody to the valid tokens, and each token to itself.

    Returns:
        None on a CPU when every token is valid, which lets attention take its fast path. Compiled and exported
        programs, which cannot look at values, and an accelerator, which would be waited for, take no notice.
    """
    if valid.device.type == "cpu" and not torch.compiler.is_compiling() and bool(valid.all()):
        return None
    itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    return (valid[:, None, :] | itself)[:, None]


class TransformerBlock(nn.Module):
    """Bidirectional self-attention and a feed-forward layer, each after a LayerNorm.

    Args:
        width: D, divisible by `num_heads`.
        num_heads: attention heads.
        dropout: on both residual branches, in training only.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[torch.Tensor, "B K D"],
        mask: Bool[torch.Tensor, "B 1 K K"] | None = None,
        queries: Int[torch.Tensor, "Q"] | None = None,
    ) -> Float[torch.Tensor, "B Q D"]:
        """Transforms all tokens, or only those at `queries` (equal to taking them from the full result)."""
        normed = self.attention_norm(tokens)
        if queries is None:
            query, key, value = self.query_key_value(normed).chunk(3, dim=-1)
        else:
            width = tokens.shape[-1]
            weight, bias = self.query_key_value.weight, self.query_key_value.bias
            query = functional.linear(normed[:, queries], weight[:width], bias[:width])
            key, value = functional.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
            tokens = tokens[:, queries]
            mask = None if mask is None else mask[:, :, queries]
        return self._finish(tokens, query, key, value, mask)

    def in_groups(
        self,
        common: Float[torch.Tensor, "G C D"],
        own: Float[torch.Tensor, "R K D"],
        mask: Bool[torch.Tensor, "B 1 L L"] | None = None,
        queries: Int[torch.Tensor, "Q"] | None = None,
    ) -> Float[torch.Tensor, "R Q D"]:
        """As of `Transformer.in_groups`."""
        width, count = own.shape[-1], len(own) // len(common)
        shared = self.query_key_value(self.attention_norm(common))
        if queries is None:
            read = self.query_key_value(self.attention_norm(own))
            query, key, value = torch.cat([_repeated(shared, count), read], dim=1).chunk(3, dim=-1)
            return self._finish(torch.cat([_repeated(common, count), own], dim=1), query, key, value, mask)
        weight, bias = self.query_key_value.weight[width:], self.query_key_value.bias[width:]
        read = functional.linear(self.attention_norm(own), weight, bias)
        key, value = torch.cat([_repeated(shared[..., width:], count), read], dim=1).chunk(2, dim=-1)
        query = _repeated(shared[:, queries, :width], count)
        mask = None if mask is None else mask[:, :, queries]
        return self._finish(_repeated(common[:, queries], count), query, key, value, mask)

    def _finish(
        self,
        tokens: Float[torch.Tensor, "B Q D"],
        query: Float[torch.Tensor, "B Q D"],
        key: Float[torch.Tensor, "B K D"],
        value: Float[torch.Tensor, "B K D"],
        mask: Bool[torch.Tensor, "B 1 Q K"] | None,
    ) -> Float[torch.Tensor, "B Q D"]:
        """Attention, and both residual branches."""
        attended = functional.scaled_dot_product_attention(
            self._split(query), self._split(key), self._split(value), attn_mask=mask
        )
        attended = attended.transpose(1, 2).flatten(2)
        tokens = tokens + self.dropout(self.attention_output(attended))
        return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))

    def _split(self, tokens: Float[torch.Tensor, "B K D"]) -> Float[torch.Tensor, "B heads K head"]:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class Transformer(nn.Module):
    """A stack of blocks with a final LayerNorm."""

    def __init__(self, width: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        tokens: Float[torch.Tensor, "B K D"],
        mask: Bool[torch.Tensor, "B 1 K K"] | None = None,
        queries: Int[torch.Tensor, "Q"] | None = None,
    ) -> Float[torch.Tensor, "B Q D"]:
        """Transforms the tokens; with `queries`, the last block computes only those rows."""
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, mask, queries if index == last else None)
        return self.norm(tokens)

    def in_groups(
        self,
        common: Float[torch.Tensor, "G C D"],
        own: Float[torch.Tensor, "R K D"],
        valid: Bool[torch.Tensor, "B L"],
        queries: Int[torch.Tensor, "Q"] | None = None,
    ) -> Float[torch.Tensor, "R Q D"]:
        """Transforms R rows of C + K tokens, of which the first C are the same within groups of consecutive rows.

        Equal to transforming whole rows; the first block reads what is the same once.

        Args:
            common: of each of G groups of R / G rows.
            own: of each row.
            valid: which of the C + K tokens may be attended to, of each of B groups of R / B rows.
            queries: which of the common tokens' outputs are wanted; None for all tokens'.
        """
        mask = attention_mask(valid)
        if mask is not None:
            mask = _repeated(mask, len(own) // len(valid))
        first, *others = cast(list[TransformerBlock], list(self.blocks))
        tokens = first.in_groups(common, own, mask, None if others else queries)
        for index, block in enumerate(others, 1):
            tokens = block(tokens, mask, queries if index == len(others) else None)
        return self.norm(tokens)


def _repeated(rows: Shaped[torch.Tensor, "G *rest"], count: int) -> Shaped[torch.Tensor, "R *rest"]:
    """Every row `count` times in a row."""
    return rows[:, None].expand(-1, count, *rows.shape[1:]).flatten(0, 1)
