"""Gradient MPC's decision against the plain form, one future after another, in the same run and interleaved."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import system.config
from system.config import RunConfig
from system.config.loading import load_config
from system.decisions import Context
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.imagination import AdaptablePolicy
from system.planning.gradient_mpc import gradient_mpc
from system.types import TaskSpec
from tests.support.plain_gradient_mpc import plain_gradient_mpc

TASK = TaskSpec("Hopper-v5", observation_dim=11, action_dim=3, max_episode_steps=1000)
PRESETS = Path(system.config.__file__).parent / "presets"
ROUNDS = 5


def seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", ["mean_flow", "diffusion", "ensemble"])
def test_a_decision_against_the_plain_form(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """H = 5, E = 1, M = 64, one environment, at the size of the Hopper preset."""
    words = [f"differentiable.model.kind={kind}"]
    config = load_config(RunConfig, "dwm-hopper-medium-replay", words, presets=PRESETS)
    ascent = replace(config.planner.ascent, steps=1, num_noise=64, rate=0.01, accept_only_better=False)
    planner, safe = (
        replace(config.planner, horizon=5, ascent=replace(ascent, accept_only_better=accept))
        for accept in (False, True)
    )
    agent = WorldModelAgent(TASK, config).eval()
    model = AdaptablePolicy(agent, config.discount)
    observation = torch.randn(11)
    seen = torch.zeros(1, 0, 3), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1)
    context = Context(observation[None, None], *seen)

    def ours() -> torch.Tensor:
        return gradient_mpc(model, context, config=planner, generator=torch.Generator().manual_seed(0)).action[0]

    def accepted() -> torch.Tensor:
        return gradient_mpc(model, context, config=safe, generator=torch.Generator().manual_seed(0)).action[0]

    def plain() -> torch.Tensor:
        noise = torch.randn(5, 64, 11, generator=torch.Generator().manual_seed(0))
        return plain_gradient_mpc(agent, observation, noise, planner, config.discount)

    calls = {"batched": ours, "with acceptance": accepted}
    if kind != "ensemble":
        calls["one future after another"] = plain
        assert torch.allclose(ours(), plain(), atol=1e-5)
    for call in calls.values():
        call()
    rounds = [[seconds(call) for call in calls.values()] for _ in range(ROUNDS)]
    medians = dict(zip(calls, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    with capsys.disabled():
        for name, taken in medians.items():
            print(f"\n{kind}, {name}: {1e3 * taken:.1f} ms, {max(medians.values()) / taken:.1f} x", end="")
        print()
