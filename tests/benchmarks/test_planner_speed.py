"""Forward MPC against plain forms, in the same run and interleaved: one candidate at a time, a window a plan."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from configs import masked_config

from system.config import PlannerConfig, RunConfig
from system.decisions import Context
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.guidance import CriticGuided
from system.families.masked_trajectory.masks import REWARDS, STATES, forward_dynamics
from system.families.masked_trajectory.model import Tokens
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.models.optimizer_state import mixed_precision
from system.planning.forward_mpc import forward_mpc
from system.types import TaskSpec
from tests.support.reference_planner import reference_action

TASK = TaskSpec("Toy-v0", observation_dim=11, action_dim=3, max_episode_steps=1000)
ROUNDS = 5


def seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


@pytest.mark.benchmark
@torch.no_grad()
def test_forward_mpc_against_the_plain_form(capsys: pytest.CaptureFixture[str]) -> None:
    config = RunConfig(planner=PlannerConfig(num_candidates=32))
    agent = TrajectoryAgent(TASK, config).eval()
    length = config.method.model.context_length - config.planner.horizon + 1
    context = Context(
        observations=torch.randn(1, length, 11),
        actions=torch.rand(1, length - 1, 3),
        valid=torch.ones(1, length, dtype=torch.bool),
        target_return=torch.zeros(1),
    )
    model = CriticGuided(agent.model, agent.values, config.discount)

    def fast() -> None:
        forward_mpc(model, context, config=config.planner, generator=torch.Generator().manual_seed(0))

    def plain() -> None:
        generator = torch.Generator().manual_seed(0)
        reference_action(agent.model, agent.values, context, config.planner, config.discount, generator)

    fast(), plain()
    pairs = [(seconds(fast), seconds(plain)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    with capsys.disabled():
        print(f"\n32 candidates: {1e3 * ours:.1f} ms; plain form {1e3 * theirs:.1f} ms; {theirs / ours:.1f} x")


@pytest.mark.benchmark
@torch.no_grad()
def test_plans_at_the_size_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    """What imagining takes, against a window for each plan; all else of a decision takes milliseconds."""
    config = masked_config(model=ModelConfig(width=512))
    model, count, horizon = TrajectoryAgent(TASK, config).eval().model, 625, config.planner.horizon
    length = model.config.context_length - horizon + 1
    context = Context(
        observations=torch.randn(1, length, 11),
        actions=torch.rand(1, length - 1, 3),
        valid=torch.ones(1, length, dtype=torch.bool),
        target_return=torch.zeros(1),
    )
    plans = torch.rand(1, count, horizon, 3)

    def ours(precision: str) -> torch.Tensor:
        with mixed_precision(precision, torch.device("cpu")):
            return imagine_plans(model, context, plans, (REWARDS,)).states[0, :, 1:]

    def windows() -> torch.Tensor:
        past = context.observations.expand(count, -1, -1)
        tokens = Tokens(
            states=torch.cat([past, torch.zeros(count, horizon - 1, 11)], dim=1),
            returns=torch.zeros(count, length + horizon - 1),
            actions=torch.cat([context.actions.expand(count, -1, -1), plans[0]], dim=1),
            rewards=torch.zeros(count, length + horizon - 1),
            valid=torch.ones(count, length + horizon - 1, dtype=torch.bool),
        )
        mask = forward_dynamics(model.config.context_length, length - 1)
        return model.reconstruct(tokens, mask, first_step=length - 1, modalities=(STATES, REWARDS)).states[:, 1:]

    assert torch.allclose(ours("float32"), windows(), atol=1e-5)
    calls = {"a window a plan": windows} | {
        precision: lambda precision=precision: ours(precision) for precision in ("float32", "bfloat16")
    }
    rounds = [[seconds(call) for call in calls.values()] for _ in range(ROUNDS)]
    medians = dict(zip(calls, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    with capsys.disabled():
        for name, taken in medians.items():
            print(f"\n{count} plans, {name}: {taken:.2f} s, {medians['a window a plan'] / taken:.2f} x", end="")
        print()
