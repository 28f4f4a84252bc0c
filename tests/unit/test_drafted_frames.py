"""Frames imagined by drafting against the same frames token by token."""

import pytest
import torch

from system.families.world_action.drafted_frames import ImaginedStep, imagine_step
from system.families.world_action.model import WorldActionCache, WorldActionModel, left_aligned
from tests.support.tiny_world import TOKENS, VOCABULARY, make_token_context, make_world
from tests.support.token_by_token import act, extend, next_token

ROWS = torch.tensor([3, 0, 2, 0, 1, 2, 3])
ACTIONS = torch.tensor([5, 0, 1, 4, 2, 3, 1])


@pytest.fixture(scope="module")
def model() -> WorldActionModel:
    return make_world()


def branched(model: WorldActionModel, num_frames: int = 3) -> WorldActionCache:
    """Seven futures of four environments, whose histories differ in length."""
    context = make_token_context(num_frames)
    cache = model.prefill(
        left_aligned(context.tokens, context.valid),
        left_aligned(context.actions, context.valid),
        context.valid.sum(dim=1),
        context.game,
    )
    return cache.select(ROWS)


@torch.no_grad()
def token_by_token(model: WorldActionModel, cache: WorldActionCache, actions: torch.Tensor) -> ImaginedStep:
    cache, reward, end, logits = act(model, cache, actions)
    tokens = []
    for _ in range(TOKENS):
        tokens.append(logits.argmax(dim=-1))
        cache, _ = extend(model, cache, tokens[-1])
        logits = next_token(model, cache)
    return ImaginedStep(cache, torch.stack(tokens, dim=1), reward, end)


def drafts_of(kind: str, right: torch.Tensor) -> torch.Tensor:
    if kind == "random":
        return torch.randint(VOCABULARY, right.shape, generator=torch.Generator().manual_seed(1))
    drafts = right.clone()
    if kind == "wrong":
        drafts = (drafts + 1) % VOCABULARY
    if kind == "some":
        drafts[::2, 1] = (drafts[::2, 1] + 3) % VOCABULARY
        drafts[1, 3] = (drafts[1, 3] + 5) % VOCABULARY
    return drafts


@pytest.mark.parametrize("kind", ["right", "some", "wrong", "random"])
def test_drafts_do_not_change_what_is_imagined(kind: str, model: WorldActionModel) -> None:
    """Two steps, so that what the first leaves in the memory is read by the second."""
    plain, drafted = branched(model), branched(model)
    for actions in (ACTIONS, ACTIONS.flip(0)):
        expected = token_by_token(model, plain, actions)
        drafts = drafts_of(kind, expected.tokens)
        given = drafts.clone()
        imagined = imagine_step(model, drafted, actions, drafts)
        assert torch.equal(drafts, given)
        assert torch.equal(imagined.tokens, expected.tokens)
        assert torch.allclose(imagined.reward_logits, expected.reward_logits, atol=1e-4)
        assert torch.allclose(imagined.end_logits, expected.end_logits, atol=1e-4)
        assert torch.allclose(imagined.cache.hidden, expected.cache.hidden, atol=1e-4)
        assert imagined.cache.frames_left == expected.cache.frames_left
        plain, drafted = expected.cache.select(ROWS), imagined.cache.select(ROWS)


def num_passes(model: WorldActionModel, drafts: torch.Tensor) -> int:
    passes = []
    hook = model.backbone.norm.register_forward_hook(lambda *_: passes.append(1))
    imagine_step(model, branched(model), ACTIONS, drafts)
    hook.remove()
    return len(passes) - 1  # one of them reads the histories


def test_good_drafts_save_passes(model: WorldActionModel) -> None:
    right = token_by_token(model, branched(model), ACTIONS).tokens
    assert num_passes(model, right) == 1
    last_wrong = right.clone()
    last_wrong[2, -1] = (last_wrong[2, -1] + 1) % VOCABULARY
    assert num_passes(model, last_wrong) == 2
    for kind in ("wrong", "random"):
        assert 2 <= num_passes(model, drafts_of(kind, right)) <= TOKENS + 1


def test_what_is_settled_is_not_read_again(model: WorldActionModel) -> None:
    right = token_by_token(model, branched(model), ACTIONS).tokens
    drafts, blocks_read = right.clone(), []
    drafts[4, 1] = (drafts[4, 1] + 1) % VOCABULARY
    cache = branched(model)
    hook = model.backbone.norm.register_forward_hook(lambda _, inputs, __: blocks_read.append(inputs[0].shape[:2]))
    imagine_step(model, cache, ACTIONS, drafts)
    hook.remove()
    assert blocks_read[0] == (len(ROWS), TOKENS + 1)
    # The action and the first token of row 4 are settled, and all of the other rows.
    assert blocks_read[1] == (1, TOKENS - 1)
    assert {rows for rows, _ in blocks_read[2:]} <= {1}
