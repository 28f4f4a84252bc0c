"""The world-action model: what sees what, and imagining token by token against whole sequences."""

from dataclasses import replace

import pytest
import torch

from system.errors import ShapeError
from system.families.world_action.config import WorldActionConfig
from system.families.world_action.model import WorldActionCache, WorldActionModel, left_aligned
from tests.support.token_by_token import act, extend

VOCABULARY, PER_FRAME, ACTIONS, GAMES = 11, 4, 3, 5
CONFIG = WorldActionConfig(context_length=5, width=16, num_layers=3, num_heads=2, q_width=8)


def make_model(config: WorldActionConfig = CONFIG, clones: bool = False) -> WorldActionModel:
    torch.manual_seed(0)
    model = WorldActionModel(
        vocabulary=VOCABULARY,
        tokens_per_frame=PER_FRAME,
        num_actions=ACTIONS,
        num_games=GAMES,
        config=config,
        clones=clones,
    )
    with torch.no_grad():
        # Larger than training begins with, so that what a token sees shows in its output.
        for parameter in model.parameters():
            parameter.mul_(4.0).add_(0.05 * torch.randn(parameter.shape))
        model.token_head.bias.fill_(-2.0)
    return model.eval()


def draw(rows: int = 3, frames: int = 5, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(VOCABULARY, (rows, frames, PER_FRAME), generator=generator),
        torch.randint(ACTIONS, (rows, frames), generator=generator),
        torch.randint(GAMES, (rows,), generator=generator),
    )


@torch.no_grad()
def test_outputs_depend_on_the_past_and_never_on_the_future() -> None:
    model = make_model()
    tokens, actions, game = draw(rows=1)
    before = model(tokens, actions, game).flatten(1, 2)[0]
    for step in range(5):
        for place in range(PER_FRAME + 1):
            changed_tokens, changed_actions = tokens.clone(), actions.clone()
            if place < PER_FRAME:
                changed_tokens[0, step, place] = (tokens[0, step, place] + 1) % VOCABULARY
            else:
                changed_actions[0, step] = (actions[0, step] + 1) % ACTIONS
            after = model(changed_tokens, changed_actions, game).flatten(1, 2)[0]
            position = step * (PER_FRAME + 1) + place
            assert torch.equal(after[:position], before[:position])
            assert ((after[position:] - before[position:]).abs().amax(-1) > 1e-6).all()


@torch.no_grad()
def test_games_are_told_apart_and_shorter_sequences_are_beginnings() -> None:
    model = make_model()
    tokens, actions, game = draw()
    whole = model(tokens, actions, game)
    assert torch.allclose(model(tokens[:, :2], actions[:, :2], game), whole[:, :2], atol=1e-5)
    other = model(tokens, actions, (game + 1) % GAMES)
    assert ((other - whole).abs().amax(-1) > 1e-4).all()


def test_features_of_frames_alone_are_those_of_the_whole_with_the_same_gradients() -> None:
    model = make_model()
    tokens, actions, game = draw()
    features = model.frame_features(tokens, actions, game)
    whole = model(tokens, actions, game)[:, :, PER_FRAME - 1]
    assert torch.allclose(features, whole, atol=1e-5)
    weight = torch.linspace(-1.0, 1.0, features.numel()).view_as(features)
    parts = list(model.backbone.parameters())
    ours, theirs = (torch.autograd.grad((weight * each).sum(), parts) for each in (features, whole))
    assert all(torch.allclose(a, b, atol=1e-3, rtol=1e-3) for a, b in zip(ours, theirs, strict=True))
    assert max(float(each.abs().max()) for each in ours) > 1.0


def check_against_whole_sequences(
    model: WorldActionModel,
    cache: WorldActionCache,
    sequences: list[tuple[torch.Tensor, torch.Tensor]],
    logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """Every row of a cache, and the logits of the action that led to it, against the full forward."""
    for row, (tokens, actions) in enumerate(sequences):
        padded = torch.cat([actions, torch.zeros(1, dtype=torch.int64)])
        hidden = model(tokens[None], padded[None], cache.game[row : row + 1])[0]
        at_action = hidden[-2, PER_FRAME]
        expected = (
            model.reward_logits(at_action),
            model.end_logits(at_action),
            model.token_head(at_action, tokens[-2, 0]),
        )
        for ours, theirs in zip(logits, expected, strict=True):
            assert torch.allclose(ours[row], theirs, atol=1e-5)
        assert torch.allclose(cache.hidden[row], hidden[-1, PER_FRAME - 1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(3, 1, 2), (2, 2, 2)], ids=["padded", "equal"])
def test_imagination_by_tokens_equals_whole_sequences(lengths: tuple[int, int, int]) -> None:
    model = make_model()
    tokens, actions, game = draw()
    num_steps = torch.tensor(lengths)
    cache = model.prefill(tokens[:, :3], actions[:, :2], num_steps, game)
    sequences = [(tokens[row, :count], actions[row, : count - 1]) for row, count in enumerate(lengths)]
    generator = torch.Generator().manual_seed(2)
    # Branches in any order; then some futures are dropped and one environment has none left.
    for rows, room in (([2, 0, 0, 1, 2, 0], PER_FRAME + 1), ([5, 1, 1, 3], 0)):
        cache = cache.select(torch.tensor(rows), room=room)
        sequences = [sequences[row] for row in rows]
        chosen = torch.randint(ACTIONS, (len(rows),), generator=generator)
        frames = torch.randint(VOCABULARY, (len(rows), PER_FRAME), generator=generator)
        cache, *logits = act(model, cache, chosen)
        for place in range(PER_FRAME):
            cache, hidden = extend(model, cache, frames[:, place])
        assert torch.equal(hidden, cache.hidden)
        sequences = [
            (torch.cat([tokens, frames[row : row + 1]]), torch.cat([actions, chosen[row : row + 1]]))
            for row, (tokens, actions) in enumerate(sequences)
        ]
        check_against_whole_sequences(model, cache, sequences, tuple(logits))


@torch.no_grad()
def test_imagination_in_bfloat16_stays_near() -> None:
    model = make_model()
    tokens, actions, game = draw()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cache = model.prefill(tokens[:, :2], actions[:, :1], torch.tensor([2, 1, 2]), game)
        cache, *_ = act(model, cache.select(torch.tensor([0, 0, 2])), torch.tensor([0, 1, 2]))
        for place in range(PER_FRAME):
            cache, hidden = extend(model, cache, tokens[[0, 0, 2], 2, place])
    assert cache.memory.keys.dtype == torch.bfloat16
    for row, (source, action) in enumerate(((0, 0), (0, 1), (2, 2))):
        acted = torch.tensor([[int(actions[source, 0]), action, 0]])
        whole = model(tokens[source : source + 1, :3], acted, game[source : source + 1])
        assert (hidden[row] - whole[0, 2, PER_FRAME - 1]).abs().mean() < 0.05


@torch.no_grad()
def test_a_prefix_ends_at_the_current_frame_and_ignores_what_stands_behind() -> None:
    model = make_model()
    tokens, actions, game = draw()
    num_steps = torch.tensor([2, 3, 1])
    cache = model.prefill(tokens[:, :3], actions[:, :2], num_steps, game)
    whole = model(tokens, actions, game)
    for row, count in enumerate(num_steps.tolist()):
        assert torch.allclose(cache.hidden[row], whole[row, count - 1, PER_FRAME - 1], atol=1e-5)
        tokens[row, count:] = 0
        actions[row, count - 1 :] = 0
    again = model.prefill(tokens[:, :3], actions[:, :2], num_steps, game)
    assert torch.allclose(again.hidden, cache.hidden, atol=1e-6)


@torch.no_grad()
def test_selecting_leaves_the_old_cache_as_it_was() -> None:
    model = make_model()
    tokens, actions, game = draw()
    cache = model.prefill(tokens[:, :2], actions[:, :1], torch.tensor([2, 2, 1]), game)
    cache, *_ = act(model, cache, torch.zeros(3, dtype=torch.int64))
    rows = torch.arange(3)
    first, hidden = extend(model, cache.select(rows), torch.tensor([1, 2, 3]))
    extend(model, cache.select(rows), torch.tensor([4, 5, 6]))
    again, same = extend(model, cache.select(rows), torch.tensor([1, 2, 3]))
    assert torch.equal(hidden, same)
    later = [extend(model, each, torch.tensor([7, 8, 9]))[1] for each in (first, again)]
    assert torch.equal(*later)


@torch.no_grad()
def test_positions_are_sums_of_a_step_and_a_place_within_it() -> None:
    model = make_model()
    per_step = PER_FRAME + 1
    positions = model.positions_at(torch.arange(3 * per_step)).unflatten(0, (3, per_step))
    for step in range(3):
        for place in range(per_step):
            assert torch.equal(positions[step, place], model.step_table[step] + model.place_table[place])
    assert len(positions.flatten(0, 1).unique(dim=0)) == 3 * per_step
    tokens, actions, game = draw()
    tokens[:], actions[:] = tokens[:1, :1, :1], actions[:1, :1]
    model.step_table.zero_()
    model.place_table.zero_()
    outputs = model(tokens[:1], actions[:1], game[:1])[0, :, :PER_FRAME]
    model.place_table[1] += 1.0
    moved = (model(tokens[:1], actions[:1], game[:1])[0, :, :PER_FRAME] - outputs).abs().amax(dim=2) > 1e-6
    assert moved[0].tolist() == [False, *[True] * (PER_FRAME - 1)]


def test_beyond_its_positions_the_model_refuses() -> None:
    model = make_model(replace(CONFIG, context_length=2))
    tokens, actions, game = draw()
    with pytest.raises(ShapeError, match="3 frames of 4 tokens"):
        model(tokens[:, :3], actions[:, :3], game)
    with pytest.raises(ShapeError, match="2 frames of 3 tokens"):
        model(tokens[:, :2, :3], actions[:, :2], game)
    cache = model.prefill(tokens[:, :2], actions[:, :1], torch.tensor([1, 2, 1]), game)
    with pytest.raises(ShapeError, match="beyond the model's 2 frames"):
        act(model, cache, actions[:, 0])


@torch.no_grad()
def test_dropout_is_for_training_alone() -> None:
    model = make_model(replace(CONFIG, dropout=0.3))
    batch = draw()
    calm = model(*batch)
    assert torch.equal(calm, model(*batch))
    assert not torch.equal(calm, model.train()(*batch))


@torch.no_grad()
def test_only_a_model_that_clones_has_an_output_for_it() -> None:
    hidden = torch.randn(2, 3, CONFIG.width)
    assert make_model(clones=True).clone_logits(hidden).shape == (2, 3, ACTIONS)
    with pytest.raises(ShapeError, match="clone"):
        make_model().clone_logits(hidden)


@torch.no_grad()
def test_an_action_is_considered_if_it_is_likely_enough_beside_the_likeliest_valid_one() -> None:
    model, hidden = make_model(clones=True), torch.randn(40, CONFIG.width)
    assert model.clone_output is not None
    model.clone_output.weight.mul_(0.1)
    valid = (torch.arange(40)[:, None] + torch.arange(ACTIONS)) % 4 != 0
    for threshold in (0.0, 0.3, 0.9, 1.0):
        considered = model.considered_actions(hidden, valid, threshold)
        for row in range(40):
            likely = model.clone_logits(hidden[row]).softmax(-1).tolist()
            best = max(likely[action] for action in range(ACTIONS) if valid[row, action])
            enough = [likely[action] >= threshold * best for action in range(ACTIONS)]
            assert considered[row].tolist() == [a and b for a, b in zip(valid[row].tolist(), enough, strict=True)]
    counts = model.considered_actions(hidden, valid, 0.3).sum(dim=1)
    assert len(set(counts.tolist())) > 1, "the threshold bites in some rows and not in others"
    with pytest.raises(ShapeError, match="clone"):
        make_model().considered_actions(hidden, valid, 0.3)


def test_windows_padded_on_the_left_are_rolled_to_the_left() -> None:
    valid = torch.tensor([[True, True, True], [False, True, True], [False, False, True]])
    steps = torch.tensor([[1, 2, 3], [0, 4, 5], [0, 0, 6]])
    assert left_aligned(steps, valid).tolist() == [[1, 2, 3], [4, 5, 0], [6, 0, 0]]
    vectors = torch.stack([steps, -steps], dim=-1)
    assert left_aligned(vectors, valid)[1].tolist() == [[4, -4], [5, -5], [0, 0]]
    between = torch.tensor([[1, 2], [0, 4], [0, 0]])
    assert left_aligned(between, valid).tolist() == [[1, 2], [4, 0], [0, 0]]
    assert left_aligned(valid, valid).tolist() == [[True, True, True], [True, True, False], [True, False, False]]
