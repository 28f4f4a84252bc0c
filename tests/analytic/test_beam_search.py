"""Beam search against exhaustive search, its greedy limits and the plain form, where transitions are known."""

from dataclasses import replace

import pytest
import torch

from system.config import PlannerConfig
from system.decisions import Plan, TokenContext
from system.planning.beam_search import beam_search
from tests.support.reference_beam_search import reference_utilities
from tests.support.toy_game import ToyGame

CONFIG = PlannerConfig(
    name="beam_search", horizon=3, beam_width=3, td_lambda=1.0, select="argmax", utility_scale="raw"
)
SEEDS = range(12)


def search(model: ToyGame, context: TokenContext, config: PlannerConfig = CONFIG) -> Plan:
    return beam_search(model, context, config=config, generator=torch.Generator().manual_seed(5))


def mixed_context(model: ToyGame) -> tuple[list[int], list[int], TokenContext]:
    states, games = list(range(12)), [index % 2 for index in range(12)]
    return states, games, model.context(states, games)


@pytest.mark.parametrize("horizon", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_beam_as_wide_as_the_tree_is_exhaustive(seed: int, horizon: int) -> None:
    model = ToyGame(seed=seed)
    states, games, context = mixed_context(model)
    plan = search(model, context, replace(CONFIG, horizon=horizon, beam_width=3**horizon))
    for row, (state, game) in enumerate(zip(states, games, strict=True)):
        truth = model.exhaustive(state, game, horizon)
        totals = [total for total, _ in truth]
        assert plan.utilities[row].tolist() == pytest.approx(totals, abs=1e-5)
        action = int(plan.action[row])
        assert totals[action] == pytest.approx(max(totals), abs=1e-5)
        assert plan.imagined_observations is not None
        assert plan.imagined_observations[row, action, :, 0].tolist() == truth[action][1]


@pytest.mark.parametrize("horizon, width", [(0, 4), (0, 1), (1, 1), (3, 1)])
@pytest.mark.parametrize("select", ["argmax", "sample"])
def test_no_horizon_or_one_node_is_greedy(horizon: int, width: int, select: str) -> None:
    model = ToyGame(seed=3)
    _, _, context = mixed_context(model)
    config = replace(CONFIG, horizon=horizon, beam_width=width, select=select, temperature=1e6)
    _, values = model.begin(context)
    assert torch.equal(search(model, context, config).action, values.argmax(-1))


def test_without_a_horizon_the_utility_is_q_and_nothing_is_imagined() -> None:
    model = ToyGame(seed=4)
    _, _, context = mixed_context(model)
    plan = search(model, context, replace(CONFIG, horizon=0))
    assert torch.equal(plan.utilities, model.begin(context)[1])
    assert plan.imagined_observations is None
    assert model.rows_stepped == []


def test_one_node_is_greedy_even_when_it_samples() -> None:
    model = ToyGame(seed=6)
    _, _, context = mixed_context(model)
    plan = search(model, context, replace(CONFIG, beam_width=1, select="sample", temperature=0.0))
    assert torch.equal(plan.action, model.begin(context)[1].argmax(-1))
    assert torch.equal((plan.utilities > -torch.inf).sum(-1), torch.ones(12, dtype=torch.int64))


@pytest.mark.parametrize("horizon, width, td_lambda", [(0, 4, 0.3), (1, 4, 0.0), (3, 2, 0.0), (2, 99, 0.0)])
@pytest.mark.parametrize("seed", SEEDS)
def test_without_lambda_only_what_was_seen_counts(seed: int, horizon: int, width: int, td_lambda: float) -> None:
    model = ToyGame(seed=seed)
    _, _, context = mixed_context(model)
    _, values = model.begin(context)
    plan = search(model, context, replace(CONFIG, horizon=horizon, beam_width=width, td_lambda=td_lambda))
    assert torch.equal(plan.action, values.argmax(-1))
    candidates = plan.utilities > -torch.inf
    assert torch.allclose(plan.utilities[candidates], values[candidates])


def test_lambda_mixes_the_returns_of_every_depth() -> None:
    plan = search(trap(), trap().context([0]), replace(CONFIG, horizon=2, beam_width=2, td_lambda=0.5))
    # Ended: ½·9 + ½·1. Going on, by action 0: ½·8 + ¼·(γ·½) + ¼·(γ·1 + γ²·½).
    assert plan.utilities.tolist() == [[4.5 + 0.5, 4.0 + 0.0625 + 0.15625]]


@pytest.mark.parametrize("horizon, width", [(1, 2), (2, 2), (2, 3), (3, 2), (4, 3), (5, 2), (3, 7)])
@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_the_plain_form(seed: int, horizon: int, width: int) -> None:
    td_lambda = (1.0, 0.7, 0.25)[seed % 3]
    model = ToyGame(num_states=30, num_actions=5, seed=seed, invalid=(0, 3))
    states = torch.randint(30, (8,), generator=torch.Generator().manual_seed(seed)).tolist()
    context = model.context(states, [index % 2 for index in range(8)])
    plan = search(model, context, replace(CONFIG, horizon=horizon, beam_width=width, td_lambda=td_lambda))
    expected = torch.tensor(reference_utilities(model, context, horizon, width, td_lambda))
    assert torch.allclose(plan.utilities, expected, atol=1e-5)
    assert torch.equal(plan.action, expected.argmax(-1))


def test_only_what_can_be_acted_in_is_stepped() -> None:
    model = ToyGame(num_states=20, num_actions=4, seed=1)
    model.ends[:] = False
    search(model, model.context([0, 1]), replace(CONFIG, horizon=3, beam_width=2))
    assert model.rows_stepped == [2 * 2, 2 * 4, 2 * 4]
    model.rows_stepped.clear()
    model.ends[:] = True
    plan = search(model, model.context([0, 1]), replace(CONFIG, horizon=3, beam_width=2))
    assert model.rows_stepped == [2 * 2]
    assert plan.imagined_observations is not None
    assert plan.imagined_observations.shape == (2, 4, 4, 1)


def trap() -> ToyGame:
    """From state 0: action 0 ends the episode with a reward, action 1 goes on to state 1, where all is poor."""
    model = ToyGame(num_states=2, num_actions=2, invalid=())
    model.discount = 0.5
    model.next_state = torch.tensor([[1, 1], [1, 1]])
    model.rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    model.ends = torch.tensor([[True, False], [False, False]])
    model.values = torch.tensor([[9.0, 8.0], [0.5, 0.25]])
    return model


def test_an_ended_episode_is_worth_what_it_has_received() -> None:
    plan = search(trap(), trap().context([0]), replace(CONFIG, horizon=3, beam_width=2))
    # Ended: 1. Going on: 0 + γ·1 + γ²·1 + γ³·½.
    assert plan.utilities.tolist() == [[1.0, 0.5 + 0.25 + 0.0625]]
    assert plan.action.tolist() == [0]
    assert plan.imagined_observations is not None
    assert plan.imagined_observations[0, 0, :, 0].tolist() == [0, 1, 1, 1]


def test_an_end_is_not_bootstrapped_when_more_is_to_be_had() -> None:
    model = trap()
    model.values[1] = 40.0
    plan = search(model, model.context([0]), replace(CONFIG, horizon=1, beam_width=2))
    assert plan.utilities.tolist() == [[1.0, 20.0]]
    assert plan.action.tolist() == [1]


def test_an_action_that_fell_out_of_the_beam_is_no_candidate() -> None:
    """Scores of different depths are not compared: only leaves at the horizon count, and ended ones."""
    model = ToyGame(num_states=5, num_actions=2, invalid=())
    model.discount = 1.0
    model.next_state = torch.tensor([[1, 2], [3, 3], [4, 4], [3, 3], [4, 4]])
    model.rewards = torch.zeros(5, 2)
    model.ends = torch.zeros(5, 2, dtype=torch.bool)
    model.values = torch.tensor([[5.0, 4.0], [5.0, 5.0], [4.0, 4.0], [1.0, 1.0], [9.0, 9.0]])
    model.rewards[1] = 7.0
    plan = search(model, model.context([0]), replace(CONFIG, horizon=3, beam_width=2))
    # After two levels: 7 + 1 twice by action 0, and 0 + 9 twice by action 1, which push action 0 out.
    assert plan.utilities.tolist() == [[-torch.inf, 9.0]]
    assert plan.probabilities.tolist() == [[0.0, 1.0]]
    assert plan.imagined_observations is not None
    assert plan.imagined_observations[0, :, :, 0].tolist() == [[0, 0, 0, 0], [0, 2, 4, 4]]


def test_of_equals_the_lowest_action_is_taken() -> None:
    model = ToyGame(num_states=4, num_actions=4, invalid=())
    model.rewards[:], model.ends[:], model.values[:] = 0.0, False, 1.0
    for horizon, width in ((0, 4), (1, 1), (2, 2), (2, 4), (2, 16)):
        plan = search(model, model.context([0, 1]), replace(CONFIG, horizon=horizon, beam_width=width))
        assert plan.action.tolist() == [0, 0], (horizon, width)


def test_first_actions_are_drawn_in_proportion_to_their_utility() -> None:
    model = ToyGame(num_states=20, num_actions=3, seed=2, invalid=())
    model.ends[:] = False
    model.values *= 0.2
    context = model.context([7] * 4000)
    config = replace(CONFIG, horizon=2, beam_width=9, select="sample", temperature=1.5)
    plan = search(model, context, config)
    weights = torch.softmax(1.5 * torch.tensor([total for total, _ in model.exhaustive(7, 0, 2)]), 0)
    assert torch.allclose(plan.probabilities[0], weights, atol=1e-5)
    assert torch.allclose(torch.bincount(plan.action, minlength=3) / 4000, weights, atol=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_tells_what_leads_to_its_utility(seed: int) -> None:
    """Every candidate's actions, walked through the tables, give its rewards, its end and its utility."""
    model, horizon = ToyGame(seed=seed), 3
    states, _, context = mixed_context(model)
    plan = search(model, context, replace(CONFIG, horizon=horizon, beam_width=2))
    assert plan.imagined_actions is not None and plan.imagined_rewards is not None
    assert plan.imagined_terminated is not None and plan.imagined_observations is not None
    for row, action in [(row, action) for row in range(12) for action in range(3)]:
        taken = [each for each in plan.imagined_actions[row, action].tolist() if each >= 0]
        ended = bool(plan.imagined_terminated[row, action])
        if plan.utilities[row, action] == -torch.inf:
            assert (taken, ended, plan.imagined_rewards[row, action].any().item()) == ([], False, False)
            continue
        assert taken[0] == action
        assert len(taken) == horizon or ended
        state, utility = states[row], 0.0
        for step, each in enumerate(taken):
            reward = model.rewards[state, each]
            assert plan.imagined_rewards[row, action, step] == reward
            assert bool(model.ends[state, each]) == (ended and step == len(taken) - 1)
            utility += model.discount**step * reward.item()
            state = int(model.next_state[state, each])
            assert plan.imagined_observations[row, action, step + 1, 0] == state
        assert not plan.imagined_rewards[row, action, len(taken) :].any()
        if not ended:
            values = model.values[state].masked_fill(~context.valid_actions[row], -torch.inf)
            utility += model.discount**horizon * values.max().item()
        assert utility == pytest.approx(plan.utilities[row, action].item(), abs=1e-4)


def test_nothing_is_imagined_where_there_is_nothing_to_decide() -> None:
    """Every second environment plays a game with one button; it changes nothing for the others."""
    model = ToyGame(seed=2, invalid=(0, 2))
    _, _, context = mixed_context(model)
    _, values = model.begin(context)
    everywhere = search(model, context, replace(CONFIG, imagine_without_choice=True))
    rows_everywhere, model.rows_stepped = sum(model.rows_stepped), []
    plan = search(model, context)
    assert sum(model.rows_stepped) < rows_everywhere
    assert torch.equal(plan.action, everywhere.action)
    assert torch.equal(plan.utilities[::2], everywhere.utilities[::2])
    assert torch.equal(plan.utilities[1::2], values[1::2])
    assert torch.equal(plan.probabilities[1::2], context.valid_actions[1::2].float())
    for name, nothing in (("observations", 0), ("actions", -1), ("rewards", 0), ("terminated", 0)):
        imagined, fully = (getattr(each, f"imagined_{name}") for each in (plan, everywhere))
        assert (imagined[1::2] == nothing).all() and torch.equal(imagined[::2], fully[::2])
        assert not torch.equal(imagined[1::2], fully[1::2])


def test_where_nothing_is_to_be_decided_anywhere_the_world_model_rests() -> None:
    model = ToyGame(seed=2, invalid=(0, 2))
    plan = search(model, model.context([3, 4, 5], [1, 1, 1]))
    assert model.rows_stepped == []
    assert plan.action.tolist() == [1, 1, 1]
