"""Beam search as it is often written: the named baseline of the planner's speed.

One environment at a time; every child gets a copy of its parent's whole cache, the shared past included; the
copies are put together for the passes and taken apart after them; every head is evaluated at every token; every
imagined frame is decoded to an image. Same weights and the same choices as `system.planning.beam_search`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch

from system.config import PlannerConfig
from system.decisions import TokenContext
from system.families.world_action.model import WorldActionCache, WorldActionModel
from system.models.causal_transformer import AttentionMemory
from tests.support.reference_beam_search import one
from tests.support.token_by_token import act, extend, next_token

Decode = Callable[[torch.Tensor], torch.Tensor]
BATCHED = {"prefix_keys": 1, "prefix_values": 1, "prefix_bias": 0, "owner": 0, "keys": 1, "values": 1}


@dataclass
class Node:
    """A node, its own cache and the image that was decoded for it."""

    cache: WorldActionCache
    q: list[float]
    received: float
    score: float
    terminated: bool = False
    first_action: int = -1
    image: torch.Tensor | None = None


@torch.no_grad()
def naive_actions(
    model: WorldActionModel, decode: Decode, context: TokenContext, config: PlannerConfig, discount: float
) -> list[int]:
    """The best first action of every environment."""
    return [_search(model, decode, one(context, row), config, discount) for row in range(len(context.tokens))]


def _search(
    model: WorldActionModel, decode: Decode, context: TokenContext, config: PlannerConfig, discount: float
) -> int:
    valid, kept = context.valid_actions[0], context.valid[0]
    tokens, actions = context.tokens[:, kept], context.actions[:, kept[:-1]]
    cache = model.prefill(tokens, actions, kept.sum()[None], context.game)
    q = _masked_q(model, cache, valid)
    nodes = [Node(cache, q[0].tolist(), 0.0, q.max().item())]
    for depth in range(1, config.horizon + 1):
        nodes = sorted(nodes, key=lambda node: -node.score)[: config.beam_width]
        ended = [node for node in nodes if node.terminated]
        parents = [
            (node, action) for node in nodes if not node.terminated for action in _best(node.q, config.beam_width)
        ]
        nodes = (_children(model, decode, valid, parents, depth, discount) if parents else []) + ended
    return max(nodes, key=lambda node: (node.score, -node.first_action)).first_action


def _best(q: list[float], width: int) -> list[int]:
    known = [action for action, value in enumerate(q) if value > -torch.inf]
    return sorted(known, key=lambda action: -q[action])[:width]


def _children(
    model: WorldActionModel,
    decode: Decode,
    valid: torch.Tensor,
    parents: list[tuple[Node, int]],
    depth: int,
    discount: float,
) -> list[Node]:
    cache = _joined([_copied(node.cache) for node, _ in parents])
    cache, reward, end, logits = act(model, cache, torch.tensor([action for _, action in parents]))
    model.q_values(cache.hidden)
    tokens = []
    for _ in range(model.tokens_per_frame):
        tokens.append(logits.argmax(dim=-1))
        cache, hidden = extend(model, cache, tokens[-1])
        logits = next_token(model, cache)
        model.reward_logits(hidden), model.end_logits(hidden)
        q = _masked_q(model, cache, valid)
    images = decode(torch.stack(tokens, dim=1))
    children = []
    for row, (node, action) in enumerate(parents):
        received = node.received + discount ** (depth - 1) * (reward[row].argmax().item() - 1)
        terminated = bool(end[row].argmax())
        score = received + (0.0 if terminated else discount**depth * q[row].max().item())
        first = action if node.first_action < 0 else node.first_action
        own = _row(cache, row)
        children.append(Node(own, q[row].tolist(), received, score, terminated, first, images[row]))
    return children


def _masked_q(model: WorldActionModel, cache: WorldActionCache, valid: torch.Tensor) -> torch.Tensor:
    return model.q_values(cache.hidden).masked_fill(~valid, -torch.inf)


def _copied(cache: WorldActionCache) -> WorldActionCache:
    memory = cache.memory.with_room(0)
    copies = {name: getattr(memory, name) for name in BATCHED}
    memory = replace(memory, **{name: value if value is None else value.clone() for name, value in copies.items()})
    return replace(cache, memory=memory)


def _joined(caches: list[WorldActionCache]) -> WorldActionCache:
    """Caches of one row each as one of as many rows, each with a past of its own."""
    memories = [cache.memory for cache in caches]
    joined = {
        name: None if memories[0].prefix_bias is None and name == "prefix_bias" else torch.cat(parts, dim=dim)
        for name, dim in BATCHED.items()
        for parts in [[getattr(memory, name) for memory in memories]]
    }
    memory = replace(memories[0], **{**joined, "owner": torch.arange(len(caches))})
    rows = {
        field.name: torch.cat([getattr(cache, field.name) for cache in caches])
        for field in fields(WorldActionCache)
        if field.name not in ("memory", "frames_left")
    }
    return replace(caches[0], memory=memory, **rows)


def _row(cache: WorldActionCache, row: int) -> WorldActionCache:
    rows = slice(row, row + 1)
    memory: AttentionMemory = cache.memory
    parts = {
        name: value if value is None else value.narrow(dim, row, 1)
        for name, dim in BATCHED.items()
        for value in [getattr(memory, name)]
    }
    return WorldActionCache(
        hidden=cache.hidden[rows],
        memory=replace(memory, **{**parts, "owner": torch.zeros(1, dtype=torch.int64), "place": None}),
        next_position=cache.next_position[rows],
        game=cache.game[rows],
        frames_left=cache.frames_left,
        frame=cache.frame[rows],
    )
