"""Imagining with the world-action model one token at a time: the plain form of what drafts make faster.

A cache that is gone on with is used up; `select` copies, and is how to branch.
"""

from dataclasses import replace

import torch

from system.errors import ShapeError
from system.families.world_action.model import WorldActionCache, WorldActionModel
from system.models.causal_transformer import AttentionMemory, CausalTransformer


@torch.no_grad()
def act(
    model: WorldActionModel, cache: WorldActionCache, actions: torch.Tensor
) -> tuple[WorldActionCache, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Executes an action [M] at each current frame: the cache, the logits of the reward [M, 3] and of the end
    [M, 2], the log-probabilities of the next frame's first token [M, V]."""
    if cache.frames_left < 1:
        raise ShapeError(f"imagination goes beyond the model's {model.context_length} frames")
    embedded = model.action_table[actions] + model.action_game_table[cache.game]
    cache = _go_on(model, replace(cache, frames_left=cache.frames_left - 1), embedded)
    hidden = cache.hidden
    return cache, model.reward_logits(hidden), model.end_logits(hidden), next_token(model, cache)


@torch.no_grad()
def extend(
    model: WorldActionModel, cache: WorldActionCache, token: torch.Tensor
) -> tuple[WorldActionCache, torch.Tensor]:
    """Adds one token [M] to each frame that is being imagined: the cache and the output at the token [M, D]."""
    frame = cache.frame.clone()
    frame[:, _tokens_read(model, cache)] = token
    embedded = model.token_table[token] + model.frame_game_table[cache.game]
    cache = _go_on(model, replace(cache, frame=frame), embedded)
    return cache, cache.hidden


def next_token(model: WorldActionModel, cache: WorldActionCache) -> torch.Tensor:
    """Log-probabilities [M, V] of what comes next; nothing stood behind a frame's end in the frame before."""
    place = _tokens_read(model, cache)
    at_end = place == model.tokens_per_frame
    return model.token_head(cache.hidden, torch.full_like(cache.game, -1) if at_end else cache.frame[:, place])


def _tokens_read(model: WorldActionModel, cache: WorldActionCache) -> int:
    """Of the latest frame: the memory holds what was added to whole frames, an action first."""
    return (cache.memory.length - 1) % (model.tokens_per_frame + 1)


def _go_on(model: WorldActionModel, cache: WorldActionCache, embedded: torch.Tensor) -> WorldActionCache:
    memory = cache.memory.with_room(model.tokens_per_frame + 1)
    hidden, memory = _read(model.backbone, embedded + model.positions_at(cache.next_position), memory)
    return replace(cache, hidden=hidden, memory=memory, next_position=cache.next_position + 1)


def _read(
    backbone: CausalTransformer, token: torch.Tensor, memory: AttentionMemory
) -> tuple[torch.Tensor, AttentionMemory]:
    """The output at one more token of every row, and the memory that holds it."""
    position = memory.length
    memory = replace(memory, length=position + 1)
    for index, block in enumerate(backbone.causal_blocks()):
        query, key, value = (each[:, :, 0] for each in block.project(token[:, None]))
        memory.keys[index, :, :, position] = key
        memory.values[index, :, :, position] = value
        token = block.finish(token, memory.attend(index, query).flatten(1))
    return backbone.norm(token), memory
