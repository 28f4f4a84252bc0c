"""Plans of the reference actor, played in the trajectory model."""

from dataclasses import replace

import pytest
import torch

from system.config import CriticConfig, PlannerConfig
from system.decisions import Context
from system.evaluation.policies import follower_name, planner_policy_name
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.guidance import ReturnGuided
from system.families.masked_trajectory.policies import make_policy
from system.families.masked_trajectory.proposals import ActorInModel
from system.planning.history import History
from system.types import TaskSpec
from tests.support.configs import masked_config

TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=20)
WINDOW, HORIZON, COUNT = 6, 3, 5
CONFIG = masked_config(
    model=ModelConfig(context_length=WINDOW, width=16, encoder_layers=1, decoder_layers=1, num_heads=2),
    critic=CriticConfig(hidden_width=16),
)


@pytest.fixture(scope="module")
def agent() -> TrajectoryAgent:
    agent = TrajectoryAgent(TASK, CONFIG).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return agent


def context(batch: int = 2) -> Context:
    generator = torch.Generator().manual_seed(0)
    length = WINDOW - HORIZON + 1
    return Context(
        torch.randn(batch, length, 3, generator=generator),
        torch.rand(batch, length - 1, 2, generator=generator) * 2 - 1,
        torch.ones(batch, length, dtype=torch.bool),
        torch.zeros(batch),
    )


@torch.no_grad()
def propose(agent: TrajectoryAgent, spread: float, count: int = COUNT) -> torch.Tensor:
    proposals = ActorInModel(agent.model, agent.values, spread)
    generator = torch.Generator().manual_seed(7)
    return proposals(context(), horizon=HORIZON, num_candidates=count, generator=generator)


@torch.no_grad()
def test_the_actor_acts_on_what_the_model_says_comes_of_its_plan(agent: TrajectoryAgent) -> None:
    plans = propose(agent, 0.5)
    now = context().observations[:, -1]
    assert torch.allclose(plans[:, 0, 0], agent.values.policy(now).mode())
    # What the model says of a step is read off the plan that goes on with the newest decision.
    for step in range(1, HORIZON):
        held = plans.clone()
        held[:, :, step:] = plans[:, :, step - 1 : step]
        foreseen = ReturnGuided(agent.model, 0.99).imagine(context(), held).observations[:, 0, step]
        assert torch.allclose(plans[:, 0, step], agent.values.policy(foreseen).mode(), atol=1e-5)


def test_candidates_lie_about_the_actors_plan_as_wide_as_is_asked(agent: TrajectoryAgent) -> None:
    narrow, wide = propose(agent, 0.01), propose(agent, 1.0)
    assert torch.equal(narrow[:, 0], wide[:, 0]), "the first one is the actor's own plan"
    spreads = [(torch.atanh(plans[:, 1:, 0]) - torch.atanh(plans[:, :1, 0])).std() for plans in (narrow, wide)]
    assert 50 < spreads[1] / spreads[0] < 200
    log_std = agent.values.actor_log_std
    assert log_std is not None
    many = torch.atanh(propose(agent, 0.5, 4000)[0, 1:, 0])
    assert torch.allclose(many.std(0), 0.5 * log_std.clamp(-5.0, 1.0).exp(), rtol=0.1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"proposals": "actor", "guidance": "return"}, "forward_mpc_am"),
        ({"proposals": "actor", "guidance": "critic"}, "forward_mpc_aq"),
        ({"proposals": "actor", "guidance": "critic", "horizon": 1}, "forward_mpc_aq"),
        ({"proposals": "actor", "guidance": "none"}, "iql"),
        ({"proposals": "actor", "horizon": 0}, "iql"),
        ({"proposals": "model", "guidance": "return"}, "forward_mpc_m"),
    ],
)
def test_the_configured_planner_has_a_name(changes: dict, expected: str) -> None:
    planner = PlannerConfig(**changes)
    assert planner_policy_name(replace(CONFIG, planner=replace(planner, name="forward_mpc"))) == expected


def test_plans_of_the_actor_are_followed_by_the_actor() -> None:
    assert follower_name(CONFIG, "forward_mpc_am") == "iql"
    assert follower_name(CONFIG, "forward_mpc_m") == "rcbc_mode"


@pytest.mark.parametrize("name", ["forward_mpc_am", "forward_mpc_aq"])
def test_a_policy_of_them_plans_with_the_configured_spread(name: str, agent: TrajectoryAgent) -> None:
    history = History.of_task(TASK, 2, WINDOW, context().observations[:, -1].numpy())
    history.reset([0, 1], context().observations[:, -1].numpy())
    plans = []
    for spread in (0.01, 1.0):
        planner = replace(CONFIG.planner, horizon=HORIZON, num_candidates=COUNT, actor_spread=spread)
        policy = make_policy(name, agent, TASK, CONFIG, planner)
        plan = policy.act(history, torch.arange(2).numpy(), torch.Generator().manual_seed(0)).plan
        assert plan is not None
        plans.append(plan.first_actions)
    assert torch.equal(plans[0][:, 0], plans[1][:, 0])
    assert (plans[1] - plans[1][:, :1]).abs().mean() > 10 * (plans[0] - plans[0][:, :1]).abs().mean()
