"""The world-action model stepped through imagined futures, against whole passes over written-out sequences."""

import pytest
import torch

from system.decisions import TokenContext
from system.errors import ShapeError
from system.families.world_action import drafted_frames
from system.families.world_action import imagination as world_action_imagination
from system.families.world_action.imagination import WorldActionImagination
from system.families.world_action.model import WorldActionModel
from tests.support.tiny_world import CONFIG, TOKENS, VALID_ACTIONS, make_token_context, make_world


@pytest.fixture(scope="module")
def model() -> WorldActionModel:
    return make_world()


def history(context: TokenContext, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One environment's frames [n, K] and the actions [n − 1] between them, padding left out."""
    valid = context.valid[row]
    return context.tokens[row, valid], context.actions[row, valid[:-1]]


@torch.no_grad()
def outputs(model: WorldActionModel, frames: torch.Tensor, actions: torch.Tensor, game: int) -> torch.Tensor:
    """Of the last step, at its K tokens and at its action: a whole pass."""
    return model(frames[None], actions[None], torch.tensor([game]))[0, -1]


@torch.no_grad()
def written_out(
    model: WorldActionModel, frames: torch.Tensor, actions: torch.Tensor, game: int
) -> tuple[torch.Tensor, float, bool, torch.Tensor]:
    """Next frame, reward, end and Q after the last action, by one whole pass for each token."""
    at_action = outputs(model, frames, actions, game)[-1]
    before, none = frames[-1], torch.tensor(-1)
    logits = model.token_head(at_action, before[0])
    tokens = torch.zeros(TOKENS, dtype=torch.int64)
    padded = torch.cat([actions, torch.zeros(1, dtype=torch.int64)])
    for index in range(TOKENS):
        tokens[index] = logits.argmax()
        read = outputs(model, torch.cat([frames, tokens[None]]), padded, game)
        logits = model.token_head(read[index], before[index + 1] if index + 1 < TOKENS else none)
    reward, end = model.reward_logits(at_action).argmax().item() - 1, bool(model.end_logits(at_action).argmax())
    return tokens, reward, end, model.q_values(read[TOKENS - 1])


@torch.no_grad()
def test_the_present_is_valued_as_by_a_whole_pass(model: WorldActionModel) -> None:
    context = make_token_context(3)
    _, values = WorldActionImagination(model, 0.9).begin(context)
    assert torch.equal(torch.isneginf(values), ~context.valid_actions)
    for row, game in enumerate(context.game.tolist()):
        frames, actions = history(context, row)
        padded = torch.cat([actions, torch.zeros(1, dtype=torch.int64)])
        expected = model.q_values(outputs(model, frames, padded, game)[TOKENS - 1])
        valid = context.valid_actions[row]
        assert torch.allclose(values[row, valid], expected[valid], atol=1e-4)


@torch.no_grad()
def test_unlikely_actions_are_as_good_as_invalid_now_and_later(model: WorldActionModel) -> None:
    context, parents = make_token_context(3), torch.tensor([0, 1, 2, 3])
    every, likely = WorldActionImagination(model, 0.9), WorldActionImagination(model, 0.9, support_threshold=0.5)
    before, values = every.begin(context)
    carry, considered = likely.begin(context)
    actions = considered.argmax(dim=-1)
    for _ in range(2):
        expected = model.considered_actions(before.cache.hidden, before.valid_actions, 0.5)
        assert torch.equal(considered, values.masked_fill(~expected, -torch.inf))
        assert (expected != before.valid_actions).any() and expected.any(dim=-1).all()
        before, _, _, values = every.step(before, parents, actions)
        carry, _, _, considered = likely.step(carry, parents, actions)


@pytest.mark.parametrize("free_tokens", [0, 14, 64])
def test_futures_are_those_of_whole_passes(
    model: WorldActionModel, free_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branches, drops and reorders rows twice; the second step goes on from what the first imagined. However long
    drafts are, nothing else comes out."""
    monkeypatch.setattr(drafted_frames, "FREE_TOKENS", free_tokens)
    context = make_token_context(3)
    imagination = WorldActionImagination(model, 0.9)
    carry, _ = imagination.begin(context)
    futures = [history(context, row) for row in range(4)]
    games, seen_rewards, seen_ends = context.game.tolist(), set(), set()
    for parents, taken in ((torch.tensor([3, 0, 2, 0, 1, 2, 3]), 1), (torch.tensor([6, 1, 0, 1, 4, 3]), 2)):
        chosen = (torch.arange(len(parents)) * 2 + taken) % 6
        carry, rewards, ends, values = imagination.step(carry, parents, chosen)
        games = [games[parent] for parent in parents.tolist()]
        following = []
        for row, parent in enumerate(parents.tolist()):
            frames, actions = futures[parent]
            actions = torch.cat([actions, chosen[row : row + 1]])
            tokens, reward, end, expected = written_out(model, frames, actions, games[row])
            assert imagination.observations(carry)[row].tolist() == tokens.tolist()
            assert (rewards[row].item(), bool(ends[row])) == (reward, end)
            valid = ~torch.isneginf(values[row])
            assert torch.equal(valid, VALID_ACTIONS[games[row]])
            assert torch.allclose(values[row, valid], expected[valid], atol=1e-4)
            following.append((torch.cat([frames, tokens[None]]), actions))
            seen_rewards.add(reward)
            seen_ends.add(end)
        futures = following
    assert len(seen_rewards) > 1 and len(seen_ends) > 1, "the example tells too little"


def test_a_carry_can_be_gone_on_with_again(model: WorldActionModel) -> None:
    imagination = WorldActionImagination(model, 0.9)
    carry, _ = imagination.begin(make_token_context(2))
    carry = imagination.step(carry, torch.arange(4), torch.ones(4, dtype=torch.int64))[0]
    parents, actions = torch.tensor([1, 3]), torch.tensor([1, 4])
    first = imagination.step(carry, parents, actions)
    imagination.step(carry, torch.tensor([0, 0, 2]), torch.tensor([0, 5, 2]))
    second = imagination.step(carry, parents, actions)
    assert torch.equal(first[0].cache.frame, second[0].cache.frame)
    assert torch.equal(first[3], second[3])


def test_the_frame_before_is_the_draft(model: WorldActionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = []

    def watched(*arguments: torch.Tensor, **named: torch.Tensor) -> drafted_frames.ImaginedStep:
        drafts.append(named["drafts"])
        return drafted_frames.imagine_step(*arguments, **named)

    monkeypatch.setattr(world_action_imagination, "imagine_step", watched)
    context, imagination = make_token_context(2), WorldActionImagination(model, 0.9)
    parents, actions = torch.tensor([1, 3, 1]), torch.tensor([1, 4, 2])
    first = imagination.step(imagination.begin(context)[0], parents, actions)[0]
    imagination.step(first, torch.tensor([2]), torch.tensor([1]))
    assert torch.equal(drafts[0], context.tokens[parents, -1])
    assert torch.equal(drafts[1], first.cache.frame[2:])


def test_imagination_ends_with_the_models_positions(model: WorldActionModel) -> None:
    imagination = WorldActionImagination(model, 0.9)
    carry, _ = imagination.begin(make_token_context(CONFIG.context_length - 1))
    rows, actions = torch.arange(4), torch.ones(4, dtype=torch.int64)
    carry = imagination.step(carry, rows, actions)[0]
    with pytest.raises(ShapeError, match="beyond"):
        imagination.step(carry, rows, actions)
