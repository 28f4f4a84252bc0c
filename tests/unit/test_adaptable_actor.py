"""The reference actor within the trajectory model: what is imagined step by step, and its gradient."""

import numpy as np
import pytest
import torch
from configs import masked_config

from system.config import AscentConfig, CriticConfig, PlannerConfig
from system.decisions import Context
from system.errors import ConfigError
from system.evaluation.policies import make_policy
from system.families.masked_trajectory.adaptable_actor import ActorInWindow
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.masks import REWARDS
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.planning.history import History
from system.types import TaskSpec

TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=20)
WINDOW = 5
CONFIG = masked_config(
    model=ModelConfig(context_length=WINDOW, width=16, encoder_layers=1, decoder_layers=1, num_heads=2),
    critic=CriticConfig(hidden_width=16),
)


def make_agent(task: TaskSpec = TASK) -> TrajectoryAgent:
    agent = TrajectoryAgent(task, CONFIG).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return agent


def make_context(length: int, count: int = 2) -> Context:
    generator = torch.Generator().manual_seed(1)
    valid = torch.ones(count, length, dtype=torch.bool)
    valid[0, : length - 2] = False
    return Context(
        torch.randn(count, length, 3, generator=generator) * valid[..., None],
        torch.rand(count, length - 1, 2, generator=generator) * 2 - 1,
        valid,
        torch.zeros(count),
    )


@torch.no_grad()
def test_a_step_moves_the_window_on_by_what_the_model_expects() -> None:
    agent = make_agent()
    model, context = ActorInWindow(agent, 0.9), make_context(WINDOW - 1)
    states = model.begin(context)[:, None]
    assert torch.equal(model.observations(states)[:, 0], context.observations[:, -1])
    actions = torch.tensor([[[0.3, -0.2]], [[0.9, 0.1]]])
    outcome = model.step(states, actions, torch.zeros(1, 1))
    expected = imagine_plans(agent.model, context, actions[:, :, None].expand(-1, 1, 2, -1), (REWARDS,))
    assert torch.allclose(model.observations(outcome.states), expected.states[:, :, 1], atol=1e-6)
    assert torch.allclose(outcome.rewards, expected.rewards[:, :, 0], atol=1e-6)
    moved = Context(
        torch.cat([context.observations[:, 1:], expected.states[:, 0, 1:]], 1),
        torch.cat([context.actions, actions], 1)[:, 1:],
        torch.cat([context.valid[:, 1:], torch.ones(2, 1, dtype=torch.bool)], 1),
        torch.zeros(2),
    )
    assert torch.allclose(model.begin(moved), outcome.states[:, 0], atol=1e-6)


@torch.no_grad()
def test_it_acts_and_values_as_the_reference_actor_and_critics_do() -> None:
    agent = make_agent()
    model, context = ActorInWindow(agent, 0.9), make_context(WINDOW - 1)
    observations, states = context.observations[:, -1], model.begin(context)
    actions = model.act(model.parameters(), states)
    assert torch.allclose(actions, agent.values.policy(observations).mode(), atol=1e-6)
    smallest = model.values(states[:, None], actions[:, None]).amin(0)[:, 0]
    assert torch.allclose(smallest, agent.values.q(observations, actions), atol=1e-5)


def test_its_gradient_is_finite_differences() -> None:
    agent = make_agent().double()
    model, context = ActorInWindow(agent, 0.9), make_context(WINDOW - 1)
    context = Context(context.observations.double(), context.actions.double(), context.valid, torch.zeros(2))
    start = model.begin(context)[:, None]

    def two_rewards(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        before = model.step(start, first, torch.zeros(1, 1))
        return before.rewards + model.step(before.states, second, torch.zeros(1, 1)).rewards

    actions = [torch.rand(2, 1, 2, dtype=torch.float64).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(two_rewards, actions, atol=1e-5)


@pytest.mark.parametrize(("name", "rate"), [("gradient_mpc", 1e-4), ("action_ascent", 1e-2)])
def test_the_policy_adapts_where_actions_are_vectors(name: str, rate: float) -> None:
    planner = PlannerConfig(horizon=3, ascent=AscentConfig(rate=rate))
    agent, context = make_agent(), make_context(WINDOW)
    history = History.of_task(TASK, 2, WINDOW, context.observations[:, 0].numpy())
    history.observations[:], history.actions[:] = context.observations.numpy(), context.actions.numpy()
    history.valid[:] = context.valid.numpy()
    actor = make_policy("iql", agent, TASK, CONFIG, planner).act(history, np.arange(2), torch.Generator())
    policy = make_policy(f"{name}_aq", agent, TASK, CONFIG, planner)
    plan = policy.act(history, np.arange(2), torch.Generator().manual_seed(0)).plan
    assert np.allclose(plan.first_actions[:, 0], actor.action, atol=1e-6)
    assert plan.selected.all(), "a short step up a smooth return"
    numbers = TaskSpec("Toy-v1", 3, action_dim=3, max_episode_steps=20, valid_actions=(0, 1, 2))
    with pytest.raises(ConfigError, match=f"{name}_aq follows gradients"):
        make_policy(f"{name}_aq", make_agent(numbers), numbers, CONFIG, planner)
