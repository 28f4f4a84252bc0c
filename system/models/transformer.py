"""Pre-norm transformer blocks that can skip the outputs nobody reads."""

import torch
from jaxtyping import Bool, Float, Int
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
