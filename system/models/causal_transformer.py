"""The project's transformer block, reading the past only: whole sequences, or what goes on from a memory.

Whole sequences serve training. A memory serves planning, where many imagined futures share one past: the
past's keys and values are kept once per environment and never copied, and only what each future added is
gathered when futures are dropped or branch.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from system.models.transformer import TransformerBlock


@dataclass(frozen=True)
class AttentionMemory:
    """Keys and values of everything that M rows have read; B of them, at most, began differently.

    Adding a token writes into the buffers of `keys` and `values`, so a memory that a token was added to must
    not get another one: branch with `select`, which copies.

    Attributes:
        prefix_keys, prefix_values: of the B beginnings, one per layer, padded behind their ends.
        prefix_bias: 0 at the tokens of each beginning, −inf at padding; None if there is no padding.
        owner: which beginning each row continues.
        place: where each row stands among B·group_size places, `group_size` for each beginning in turn;
            None where row i simply stands at place i.
        group_size: the largest number of rows with the same beginning.
        keys, values: what each row added, with room for more.
        length: number of added tokens, the same for all rows.
    """

    prefix_keys: Float[torch.Tensor, "layers B heads P size"]
    prefix_values: Float[torch.Tensor, "layers B heads P size"]
    prefix_bias: Float[torch.Tensor, "B 1 1 P"] | None
    owner: Int[torch.Tensor, "M"]
    place: Int[torch.Tensor, "M"] | None
    group_size: int
    keys: Float[torch.Tensor, "layers M heads room size"]
    values: Float[torch.Tensor, "layers M heads room size"]
    length: int

    @classmethod
    def of_prefix(
        cls,
        keys: Float[torch.Tensor, "layers B heads P size"],
        values: Float[torch.Tensor, "layers B heads P size"],
        num_tokens: Int[torch.Tensor, "B"],
    ) -> "AttentionMemory":
        """A memory of B rows that have just read their beginnings.

        Args:
            keys, values: of every layer, padded behind each beginning's end.
            num_tokens: length of each beginning.
        """
        layers, rows, heads, length, size = keys.shape
        inside = torch.arange(length, device=keys.device) < num_tokens[:, None]
        bias = None
        if not bool(inside.all()):
            bias = torch.where(inside, 0.0, float("-inf")).to(keys.dtype)[:, None, None]
        empty = keys.new_empty(layers, rows, heads, 0, size)
        owner = torch.arange(rows, device=keys.device)
        return cls(keys, values, bias, owner, None, 1, empty, empty, 0)

    def select(self, rows: Int[torch.Tensor, "M2"], room: int) -> "AttentionMemory":
        """Row i of the result continues row `rows[i]`, with room for `room` more tokens; this one stays as is."""
        owner = self.owner[rows]
        place, group_size = _places(owner, self.prefix_keys.shape[1])
        keys, values = (self._gathered(buffer, rows, room) for buffer in (self.keys, self.values))
        return replace(self, owner=owner, place=place, group_size=group_size, keys=keys, values=values)

    def with_room(self, room: int) -> "AttentionMemory":
        """This memory, or where its buffers are full a copy with room for `room` more tokens."""
        if self.length < self.keys.shape[3]:
            return self
        return self.select(torch.arange(len(self.owner), device=self.owner.device), room)

    def attend(
        self, layer: int, query: Float[torch.Tensor, "M heads size"]
    ) -> Float[torch.Tensor, "M heads size"]:
        """What one query of each row reads: its beginning's tokens and its own."""
        query = query * query.shape[-1] ** -0.5
        scores = self._grouped(query) @ self.prefix_keys[layer].transpose(-1, -2)
        if self.prefix_bias is not None:
            scores = scores + self.prefix_bias
        own_scores = self.keys[layer, :, :, : self.length] @ query[..., None]
        weights = torch.cat([self._ungrouped(scores), own_scores[..., 0]], dim=-1).softmax(dim=-1)
        split = scores.shape[-1]
        read = self._grouped(weights[..., :split]) @ self.prefix_values[layer]
        own_read = weights[:, :, None, split:] @ self.values[layer, :, :, : self.length]
        return self._ungrouped(read) + own_read[:, :, 0]

    def _gathered(
        self, buffer: Float[torch.Tensor, "layers M heads room size"], rows: Int[torch.Tensor, "M2"], room: int
    ) -> Float[torch.Tensor, "layers M2 heads room2 size"]:
        layers, _, heads, _, size = buffer.shape
        larger = buffer.new_empty(layers, len(rows), heads, self.length + room, size)
        larger[:, :, :, : self.length] = buffer[:, :, :, : self.length].index_select(1, rows)
        return larger

    def _grouped(self, rows: Float[torch.Tensor, "M heads width"]) -> Float[torch.Tensor, "B heads G width"]:
        """Rows of the same beginning side by side, so that they read it in one matrix product."""
        num_places = self.prefix_keys.shape[1] * self.group_size
        if self.place is not None:
            rows = rows.new_zeros(num_places, *rows.shape[1:]).index_copy_(0, self.place, rows)
        return rows.unflatten(0, (-1, self.group_size)).transpose(1, 2)

    def _ungrouped(self, grouped: Float[torch.Tensor, "B heads G width"]) -> Float[torch.Tensor, "M heads width"]:
        rows = grouped.transpose(1, 2).flatten(0, 1)
        return rows if self.place is None else rows[self.place]


def _places(owner: Int[torch.Tensor, "M"], num_owners: int) -> tuple[Int[torch.Tensor, "M"] | None, int]:
    """A place for each row among those of its owner, and how many places each owner needs."""
    counts = torch.bincount(owner, minlength=num_owners)
    group_size = max(1, int(counts.max()))
    order = owner.argsort(stable=True)
    first = counts.cumsum(0) - counts
    within = torch.empty_like(owner)
    within[order] = torch.arange(len(owner), device=owner.device) - first[owner[order]]
    place = owner * group_size + within
    is_in_order = len(owner) == num_owners * group_size and bool((place[1:] > place[:-1]).all())
    return (None if is_in_order else place), group_size


class CausalBlock(TransformerBlock):
    """A transformer block with the two ways of reading only the past."""

    def over_sequence(
        self, tokens: Float[torch.Tensor, "B n D"]
    ) -> tuple[
        Float[torch.Tensor, "B n D"], Float[torch.Tensor, "B heads n size"], Float[torch.Tensor, "B heads n size"]
    ]:
        """Transforms whole sequences; also returns their keys and values."""
        query, key, value = self.project(tokens)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.finish(tokens, attended.transpose(1, 2).flatten(2)), key, value

    def at_positions(
        self, tokens: Float[torch.Tensor, "B n D"], positions: Int[torch.Tensor, "Q"]
    ) -> Float[torch.Tensor, "B Q D"]:
        """Transforms some tokens of whole sequences (equal to taking them from the full result)."""
        normed, width = self.attention_norm(tokens), tokens.shape[-1]
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        query = self._split(functional.linear(normed[:, positions], weight[:width], bias[:width]))
        read = functional.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        key, value = (self._split(each) for each in read)
        past = torch.arange(tokens.shape[1], device=positions.device) <= positions[:, None]
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=past)
        return self.finish(tokens[:, positions], attended.transpose(1, 2).flatten(2))

    def project(self, tokens: Float[torch.Tensor, "B n D"]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, each [B, heads, n, size]."""
        query, key, value = self.query_key_value(self.attention_norm(tokens)).chunk(3, dim=-1)
        return self._split(query), self._split(key), self._split(value)

    def finish(
        self, tokens: Float[torch.Tensor, "*B D"], attended: Float[torch.Tensor, "*B D"]
    ) -> Float[torch.Tensor, "*B D"]:
        """What comes after attention: both residual branches."""
        tokens = tokens + self.dropout(self.attention_output(attended))
        return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))


class CausalTransformer(nn.Module):
    """A stack of causal blocks with a final LayerNorm.

    Args:
        width: D, divisible by `num_heads`.
        num_layers, num_heads: of the stack, of each block.
        dropout: on residual branches, in training only.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CausalBlock(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Float[torch.Tensor, "B n D"], positions: Int[torch.Tensor, "Q"] | None = None
    ) -> Float[torch.Tensor, "B Q D"]:
        """Transforms whole sequences; position i sees 0 … i. Returns all outputs or those at `positions`."""
        *first, last_block = self.causal_blocks()
        for block in first:
            tokens = block.over_sequence(tokens)[0]
        if positions is None:
            return self.norm(last_block.over_sequence(tokens)[0])
        return self.norm(last_block.at_positions(tokens, positions))

    @torch.no_grad()
    def read(
        self, tokens: Float[torch.Tensor, "B n D"], num_tokens: Int[torch.Tensor, "B"]
    ) -> tuple[Float[torch.Tensor, "B D"], AttentionMemory]:
        """Reads beginnings into a memory.

        Args:
            tokens: B beginnings, padded behind their ends with anything finite.
            num_tokens: length of each, 1 … n.

        Returns:
            The output at each beginning's last token, and the memory to go on from.
        """
        keys, values = [], []
        *first, last_block = self.causal_blocks()
        for block in first:
            tokens, key, value = block.over_sequence(tokens)
            keys.append(key)
            values.append(value)
        # Of the last block only one output per row is read, and that one is a query to the memory itself.
        query, key, value = last_block.project(tokens)
        memory = AttentionMemory.of_prefix(torch.stack([*keys, key]), torch.stack([*values, value]), num_tokens)
        rows, last = torch.arange(len(tokens), device=tokens.device), num_tokens - 1
        attended = memory.attend(len(first), query[rows, :, last])
        return self.norm(last_block.finish(tokens[rows, last], attended.flatten(1))), memory

    def causal_blocks(self) -> list[CausalBlock]:
        """The layers, in order."""
        return cast(list[CausalBlock], list(self.blocks))
