"""The world model as a planning model: eq. 25 by the house's utility, and what the reliable set leaves out."""

import pytest
import torch

from system.decisions import Context
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.reliable_world import ReliableWorld
from system.planning.forward_mpc import forward_mpc
from system.planning.utility import td_lambda_utility
from tests.support.tiny_imagination import in_known_world, tiny_agent, tiny_config, tiny_store

CONFIG = tiny_config()
DISCOUNT = CONFIG.discount


@pytest.fixture
def agent() -> ImaginationAgent:
    return tiny_agent(CONFIG, tiny_store(8, 9))


def context(*first: float) -> Context:
    observations = torch.zeros(len(first), 1, 3)
    observations[:, 0, 0] = torch.tensor(first)
    count = len(first)
    return Context(
        observations, torch.zeros(count, 0, 2), torch.ones(count, 1, dtype=torch.bool), torch.zeros(count)
    )


def utilities(agent: ImaginationAgent, where: Context, actions: torch.Tensor, lam: float = 1.0) -> torch.Tensor:
    imagined = ReliableWorld(agent, DISCOUNT, 1.0).imagine(where, actions)
    return td_lambda_utility(imagined.rewards[..., :-1], imagined.values, DISCOUNT, lam)


def test_with_lambda_one_the_utility_is_equation_25(agent: ImaginationAgent) -> None:
    """Step by step with the agent's own networks, ends included."""
    agent.reliable_disagreement.fill_(torch.inf)
    generator = torch.Generator().manual_seed(0)
    where = context(0.3, -0.5)
    actions = 2.0 * torch.rand(2, 3, 4, 2, generator=generator) - 1.0
    with torch.no_grad():
        found = utilities(agent, where, actions)
        for row in range(2):
            for candidate in range(3):
                state, total, lasting = where.observations[row, -1][None], 0.0, 1.0
                for step in range(4):
                    foresight = agent.world(state, actions[row, candidate, step][None])
                    total += DISCOUNT**step * lasting * foresight.rewards.item()
                    lasting *= 1.0 - foresight.ends.item()
                    state = foresight.mean
                total += DISCOUNT**4 * lasting * agent.value(state).item()
                assert found[row, candidate].item() == pytest.approx(total, rel=1e-4)


def test_an_expected_end_is_paid_no_more(agent: ImaginationAgent) -> None:
    world = in_known_world(agent, value=10.0)
    world.ends_above = 0.5
    found = utilities(agent, context(0.0), torch.zeros(1, 1, 3, 2))
    assert found.item() == pytest.approx(1.0 + DISCOUNT), "the second step ends it"


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_what_leaves_the_reliable_set_is_excluded_where_something_stays(
    agent: ImaginationAgent, lam: float
) -> None:
    world = in_known_world(agent)
    world.unsure = 1.5
    moves = torch.zeros(1, 2, 3, 2)

    def step(observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return observations + actions[..., :1]

    world.next_mean = step  # type: ignore[method-assign]
    moves[0, 1, :, 0] = 1.0  # its third step begins at 2, which the model is unsure about
    found = utilities(agent, context(0.0), moves, lam)
    assert torch.isfinite(found[0, 0])
    assert torch.isneginf(found[0, 1])
    everywhere = utilities(agent, context(5.0), moves, lam)
    assert torch.isfinite(everywhere).all(), "a decision is needed all the same"


def test_what_is_not_finite_is_never_chosen_nor_an_error(agent: ImaginationAgent) -> None:
    world = in_known_world(agent)
    world.breaks_above = 0.5
    moves = torch.zeros(2, 2, 3, 2)
    found = utilities(agent, context(-5.0, 1.0), moves)
    assert torch.isfinite(found).all()
    assert found[1].tolist() == [0.0, 0.0]
    plan = forward_mpc(
        ReliableWorld(agent, DISCOUNT, 1.0),
        context(-5.0, 1.0),
        config=CONFIG.planner,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.isfinite(plan.action).all()


def test_candidates_are_rollouts_of_the_policy_the_first_without_noise(agent: ImaginationAgent) -> None:
    world = in_known_world(agent)
    model = ReliableWorld(agent, DISCOUNT, 0.5)

    def propose(where: Context) -> torch.Tensor:
        with torch.no_grad():
            return model.propose(
                where, horizon=3, num_candidates=4, generator=torch.Generator().manual_seed(3)
            )

    where = context(0.2, -0.4)
    proposed = propose(where)
    assert proposed.shape == (2, 4, 3, 2)
    state = where.observations[:, -1]
    for step in range(3):
        torch.testing.assert_close(proposed[:, 0, step], agent.values.policy(state).mode())
        state = state + world.step
    assert proposed[:, 1:].std(1).min() > 0
    assert torch.equal(proposed, propose(where))
