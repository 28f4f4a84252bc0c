"""Forward MPC against the plain two-pass form, one candidate at a time, in the same run and interleaved."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch

from system.config import PlannerConfig, RunConfig
from system.decisions import Context
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.guidance import CriticGuided
from system.planning.forward_mpc import forward_mpc
from system.types import TaskSpec
from tests.support.reference_planner import reference_action

TASK = TaskSpec("Toy-v0", observation_dim=11, action_dim=3, max_episode_steps=1000)
ROUNDS = 5


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


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
