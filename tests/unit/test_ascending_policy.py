"""Decisions that ascend a return, replayed from recordings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from system.config import PlannerConfig, ReBRACConfig, RunConfig
from system.errors import PlannerError
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.config import DifferentiableConfig, WorldModelConfig
from system.families.differentiable.policies import make_policy
from system.planning import ascending_policy
from system.planning.ascending_policy import AscendingPolicy
from system.types import TaskSpec
from tests.support import speed_subjects
from tests.support.calling_recorder import CallingRecorder, record_by_calling

TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=20)


def make(name: str, *, persistent: bool = False) -> AscendingPolicy:
    method = DifferentiableConfig(WorldModelConfig(width=16), critic=ReBRACConfig(hidden_width=16))
    config = RunConfig(family="differentiable", method=method)
    planner = PlannerConfig(horizon=2)
    ascent = replace(planner.ascent, rate=0.1, num_noise=4, persistent=persistent)
    agent = WorldModelAgent(TASK, config).eval()
    policy = make_policy(name, agent, TASK, config, replace(planner, ascent=ascent))
    assert isinstance(policy, AscendingPolicy)
    return policy


@pytest.fixture()
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[CallingRecorder]:
    monkeypatch.setattr(ascending_policy, "records_decisions", lambda device: True)
    return record_by_calling(monkeypatch, ascending_policy)


@pytest.mark.parametrize("name", ["gradient_mpc", "action_ascent"])
def test_recorded_decisions_are_those_of_the_planner(name: str, recorders: list[CallingRecorder]) -> None:
    ours, theirs = make(name), make(name)
    theirs.is_recorded = False
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    for turn in range(4):
        history = speed_subjects.vector_history(TASK, 2, 1)
        history.observations += turn
        replayed, planned = (
            policy.act(history, np.arange(2), generator)
            for policy, generator in zip((ours, theirs), generators, strict=True)
        )
        assert np.array_equal(replayed.action, planned.action)
        assert replayed.plan is not None and planned.plan is not None
        assert torch.equal(replayed.plan.utilities, planned.plan.utilities)
        assert not torch.equal(replayed.plan.first_actions[:, 0], replayed.plan.first_actions[:, 1])
    assert [each.num_replayed for each in recorders] == [3, 0]


def test_what_is_handed_on_is_not_recorded(recorders: list[CallingRecorder]) -> None:
    policy, history = make("gradient_mpc", persistent=True), speed_subjects.vector_history(TASK, 2, 1)
    for _ in range(3):
        policy.act(history, np.arange(2), torch.Generator())
    assert not recorders
    assert any(history.carries)


def test_a_replayed_action_that_is_not_finite_is_refused(recorders: list[CallingRecorder]) -> None:
    policy, history = make("gradient_mpc"), speed_subjects.vector_history(TASK, 2, 1)
    decide = policy._decide
    policy._decide = lambda inputs: {**decide(inputs), "action": torch.full((2, 2), torch.nan)}
    with pytest.raises(PlannerError, match="not finite"):
        policy.act(history, np.arange(2), torch.Generator())
