"""Windows with an imagined end: every reward, frame and end stands where the model expects it."""

from dataclasses import replace

import pytest
import torch
from configs import with_method

from system.config import PlannerConfig
from system.decisions import TokenContext
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.imagination import WorldActionImagination
from system.families.world_action.imagined_windows import rows_to_imagine, with_imagined_ends
from system.families.world_action.losses import ImaginedEnds, TokenWindows, backups
from system.planning.beam_search import beam_search
from tests.support.jowa_windows import BREAKOUT, CONFIG, DISCOUNT, PER_FRAME, PONG, make_agent

T, H, ROWS = 5, 2, 24
LONG = with_method(CONFIG, model=replace(CONFIG.method.model, context_length=T))
PLANNER = PlannerConfig(name="beam_search", horizon=1, beam_width=2, select="argmax")


def draw_windows(seed: int = 0) -> TokenWindows:
    """Windows of 1 … T steps, each number several times, of two games."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.arange(T) < (torch.arange(ROWS) % T + 1)[:, None]
    return TokenWindows(
        tokens=torch.randint(9, (ROWS, T, PER_FRAME), generator=generator) * valid[..., None],
        actions=torch.randint(2, (ROWS, T), generator=generator) * valid,
        reward_signs=torch.randint(-1, 2, (ROWS, T), generator=generator) * valid.float(),
        terminated=valid
        & (valid.sum(1, keepdim=True) == torch.arange(1, T + 1))
        & (torch.arange(ROWS)[:, None] > 9),
        valid=valid,
        game=torch.where(torch.arange(ROWS) % 2 == 0, PONG, BREAKOUT),
        returns=torch.randn(ROWS, T, generator=generator) * valid,
        returns_valid=valid,
    )


def make_dreamer(end_bias: float = 0.0, dropout: float = 0.0, reward_bias: float = 0.0) -> WorldActionAgent:
    """An agent whose model expects all rewards, and ends as often as `end_bias` makes them; plans look for
    rewards, of which `reward_bias` makes positive ones rarer or likelier."""
    agent = make_agent(with_method(LONG, model=replace(LONG.method.model, dropout=dropout)))
    windows = draw_windows(seed=9)
    with torch.no_grad():
        at_actions = agent.model.eval()(windows.tokens, windows.actions, windows.game)[:, :, PER_FRAME]
        for head in (agent.model.reward_head, agent.model.end_head):
            head[-1].bias -= head(at_actions).mean(dim=(0, 1))
        agent.model.end_head[-1].bias[1] += end_bias
        agent.model.reward_head[-1].bias[2] += reward_bias
    return agent.train()


def imagine(
    agent: WorldActionAgent, windows: TokenWindows, share: float = 0.5, num_steps: int = H
) -> tuple[TokenWindows, ImaginedEnds]:
    return with_imagined_ends(
        agent,
        windows,
        rows_to_imagine(windows.game, share),
        num_steps=num_steps,
        planner=PLANNER,
        discount=DISCOUNT,
    )


def context_of(agent: WorldActionAgent, windows: TokenWindows, row: int, num_frames: int) -> TokenContext:
    """The first frames of one window, nothing padded."""
    game = windows.game[row : row + 1]
    return TokenContext(
        tokens=windows.tokens[row : row + 1, :num_frames],
        actions=windows.actions[row : row + 1, : num_frames - 1],
        valid=torch.ones(1, num_frames, dtype=torch.bool),
        game=game,
        valid_actions=agent.valid_actions[game],
    )


def follow(agent: WorldActionAgent, windows: TokenWindows, row: int) -> tuple[list[float], bool]:
    """Compares one window with the answers of the model, step by step; what was received, and whether it ended."""
    mixed, ends = imagine(agent.train(), windows)
    agent.eval()
    model, num_real = WorldActionImagination(agent.model, DISCOUNT), min(int(windows.valid[row].sum()), T - 1 - H)
    for column in ("tokens", "actions", "reward_signs"):
        past = slice(num_real if column == "tokens" else num_real - 1)
        assert torch.equal(getattr(mixed, column)[row, past], getattr(windows, column)[row, past])
    context, step = context_of(agent, windows, row, num_real), num_real - 1
    plan = beam_search(model, context, config=replace(PLANNER, horizon=H), generator=torch.Generator())
    assert int(mixed.actions[row, step]) == int(plan.action)
    carry, rewards, ended = model.begin(context)[0], [], False
    while not ended and len(rewards) < H:
        assert ends.planned[row, step] and mixed.valid[row, step]
        taken = mixed.actions[row, step]
        assert bool(context.valid_actions[0, taken])
        carry, reward, end, _ = model.step(carry, torch.tensor([0]), taken[None])
        ended = bool(end)
        assert (mixed.reward_signs[row, step].item(), bool(mixed.terminated[row, step])) == (reward.item(), ended)
        step += 1
        rewards.append(reward.item())
        if not ended:
            assert torch.equal(mixed.tokens[row, step], model.observations(carry)[0])
    assert int(mixed.valid[row].sum()) == (step if ended else step + 1)
    assert int(ends.planned[row].sum()) == len(rewards)
    return rewards, ended


def test_every_step_is_what_the_model_expects_of_the_planned_action_before_it() -> None:
    windows, seen_rewards, seen_ends = draw_windows(), set(), set()
    for agent in (make_dreamer(), make_dreamer(end_bias=-0.11, reward_bias=-0.3)):
        for row in rows_to_imagine(windows.game, 0.5).nonzero()[:, 0].tolist():
            rewards, ended = follow(agent, windows, row)
            seen_rewards.update(rewards)
            seen_ends.add((ended, len(rewards)))
    assert len(seen_rewards) == 3, "the example tells too little"
    assert seen_ends == {(True, 1), (True, 2), (False, 2)}, "the example tells too little"


@pytest.mark.parametrize("always", [True, False])
def test_an_end_is_the_last_thing_in_a_window(always: bool) -> None:
    agent, windows = make_dreamer(1000.0 if always else -1000.0), draw_windows()
    mixed, ends = imagine(agent, windows)
    num_real = windows.valid.sum(1).clamp_max(T - 1 - H)[ends.windows]
    imagined = mixed.select(ends.windows)
    assert imagined.valid.sum(1).tolist() == (num_real if always else num_real + H).tolist()
    assert imagined.terminated.sum(1).tolist() == [int(always)] * len(num_real)
    expected = ends.planned[ends.windows]
    assert not imagined.returns[expected].any() and not imagined.returns_valid[expected].any()
    for column in (imagined.tokens, imagined.actions, imagined.reward_signs, imagined.terminated):
        assert not column[~imagined.valid].any()
    plan = backups(imagined, DISCOUNT, 1)
    planned = ends.planned[ends.windows]
    assert bool(plan.known[planned].all())
    assert bool((plan.discounts[planned] == 0.0).all()) == always
    if not always:
        # The last planned step bootstraps from the last imagined frame, at a position where values are learnt.
        last = planned.long().cumsum(1).argmax(1)
        assert plan.states.gather(1, last[:, None])[:, 0].tolist() == (num_real + H - 1).tolist()
        assert int(plan.states[planned].max()) < T - 1


def test_recorded_windows_stay_as_they_are() -> None:
    windows = draw_windows()
    before = draw_windows()
    mixed, ends = imagine(make_dreamer(), windows, share=0.25)
    chosen = rows_to_imagine(windows.game, 0.25)
    assert torch.equal(ends.windows, chosen)
    for name, values in vars(mixed).items():
        assert torch.equal(getattr(windows, name), getattr(before, name)), "the batch itself was changed"
        assert torch.equal(values[~chosen], getattr(windows, name)[~chosen])


def test_imagining_teaches_nothing_and_has_no_dropout() -> None:
    agent, windows = make_dreamer(dropout=0.5), draw_windows()
    state = torch.random.get_rng_state()
    first, second = imagine(agent, windows)[0], imagine(agent, windows)[0]
    assert all(torch.equal(value, getattr(second, name)) for name, value in vars(first).items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert agent.model.training
    assert not any(value.requires_grad for value in vars(first).values())
    assert all(parameter.grad is None for parameter in agent.parameters())


def test_rows_are_those_of_the_whole_batch_whatever_share_of_it_a_learner_has() -> None:
    game = torch.full((16,), PONG)
    whole = rows_to_imagine(game, 0.25)
    assert whole.nonzero()[:, 0].tolist() == [3, 7, 11, 15]
    assert torch.equal(torch.cat([rows_to_imagine(game[:8], 0.25)] * 2), whole)
    assert rows_to_imagine(game[:6], 1 / 3).tolist() == [False, False, True] * 2


@pytest.mark.parametrize("num_games", [2, 4])
def test_every_game_has_its_share_of_imagined_rows(num_games: int) -> None:
    game = torch.arange(16) % num_games
    chosen = rows_to_imagine(game, 0.25)
    assert torch.bincount(game[chosen], minlength=num_games).tolist() == [4 // num_games] * num_games
