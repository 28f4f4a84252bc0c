"""Recorded work on a GPU does what launched kernels do: `pytest -m gpu tests/gpu`."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configs import masked_config

import system.config
from system.config import PlannerConfig, PretrainConfig, RunConfig
from system.config.loading import load_config
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.policies import make_policy as make_gradient_policy
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.learner import M3PCLearner
from system.families.masked_trajectory.policies import make_policy
from system.models.graphed_step import GraphedStep, Tensors, repeated_step
from system.planning.accelerated_model import AcceleratedModel
from system.planning.acting import Policy
from system.types import TaskSpec
from tests.support import speed_subjects

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]

PRESETS = Path(system.config.__file__).parent / "presets"
TASK = TaskSpec("Toy-v0", observation_dim=5, action_dim=2, max_episode_steps=20)
CONFIG = masked_config(precision="float32", pretrain=PretrainConfig(update_steps=100))


@pytest.fixture(autouse=True)
def nothing_is_refused() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*work cannot be recorded")
        yield


def test_recorded_updates_learn_what_launched_ones_do() -> None:
    """Also after a state was restored, which replaces the moments that recordings know."""
    segments = speed_subjects.vector_segments(TASK, 16, 8)
    transitions = [speed_subjects.vector_transitions(TASK, 32)] * 3
    agents = [TrajectoryAgent(TASK, CONFIG).cuda() for _ in range(2)]
    recorded = M3PCLearner(agents[0], CONFIG)
    launched = M3PCLearner(agents[1], CONFIG, average_gradients=lambda parameters: None)
    assert isinstance(recorded._step, GraphedStep)
    for step in range(60):
        if step == 30:
            recorded.load_state(launched.state())
        made = [each.update(segments, transitions, stage="offline", step=step) for each in (recorded, launched)]
        ours, theirs = ({name: float(value) for name, value in each.items()} for each in made)
        if step < 10 or 30 <= step < 40:
            assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4), step


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_planning_decides_as_any_other(precision: str) -> None:
    agent = TrajectoryAgent(TASK, CONFIG).cuda().eval()
    planner = PlannerConfig(precision=precision)
    history = speed_subjects.vector_history(TASK, 3, 8)
    policies = [make_policy("forward_mpc_q", agent, TASK, CONFIG, planner) for _ in range(2)]
    policies[1].model = AcceleratedModel(policies[1].model.model, agent.device, precision, graphed=False)
    generators = [torch.Generator("cuda").manual_seed(1) for _ in policies]
    for _ in range(5):
        ours, theirs = (
            policy.act(history, np.arange(3), generator).action
            for policy, generator in zip(policies, generators, strict=True)
        )
        assert np.allclose(ours, theirs, atol=1e-4 if precision == "float32" else 0.05)


def test_work_that_cannot_be_recorded_goes_on_drawing() -> None:
    device = torch.device("cuda")
    generator = torch.Generator(device)

    def looking(inputs: Tensors) -> Tensors:
        drawn = torch.rand(2, generator=generator, device=device)
        return {"drawn": drawn + float(drawn.sum())}

    step = repeated_step(looking, device, graphed=True, generators=[generator])
    inputs = {"number": torch.ones(1)}
    drawn = [step(inputs)["drawn"]]
    with pytest.warns(UserWarning, match="cannot be recorded"):
        drawn.append(step(inputs)["drawn"])
    drawn.append(step(inputs)["drawn"])
    assert len({tuple(each.tolist()) for each in drawn}) == 3


def test_a_recording_outlives_garbage_of_earlier_ones() -> None:
    device = torch.device("cuda")

    def littering(inputs: Tensors) -> Tensors:
        for _ in range(2000):
            cycle: list[object] = []
            cycle.append(cycle)
        return {"twice": 2.0 * inputs["number"]}

    for _ in range(5):
        step = repeated_step(littering, device, graphed=True)
        step.itself = step  # type: ignore[attr-defined]
        found = [step({"number": torch.full((1,), value)})["twice"].item() for value in (1.0, 2.0, 3.0)]
        assert found == [2.0, 4.0, 6.0]
        del step


@pytest.mark.parametrize("kind", ["mean_flow", "diffusion", "ensemble"])
@pytest.mark.parametrize("name", ["gradient_mpc", "action_ascent"])
def test_recorded_ascents_decide_as_any_other(kind: str, name: str) -> None:
    words = [f"differentiable.model.kind={kind}", "differentiable.model.width=32"]
    config = load_config(RunConfig, "dwm-pendulum", words, presets=PRESETS)
    agent = WorldModelAgent(TASK, config).cuda().eval()
    ascent = replace(config.planner.ascent, rate=0.1, num_noise=12)
    assert_recordings_decide(
        lambda: make_gradient_policy(name, agent, TASK, config, replace(config.planner, ascent=ascent))
    )


def test_recorded_ascents_in_the_trajectory_model_decide_as_any_other() -> None:
    agent = TrajectoryAgent(TASK, CONFIG).cuda().eval()
    planner = PlannerConfig(horizon=2)
    assert_recordings_decide(lambda: make_policy("gradient_mpc_aq", agent, TASK, CONFIG, planner))


def assert_recordings_decide(make: Callable[[], Policy]) -> None:
    """As launched kernels do, for one environment and for three."""
    history = speed_subjects.vector_history(TASK, 3, 8)
    policies = [make() for _ in range(2)]
    assert policies[0].is_recorded
    policies[1].is_recorded = False
    generators = [torch.Generator("cuda").manual_seed(1) for _ in policies]
    changed = False
    for rows in (np.arange(3), np.arange(1)):
        for _ in range(4):
            ours, theirs = (
                policy.act(history, rows, generator)
                for policy, generator in zip(policies, generators, strict=True)
            )
            assert np.allclose(ours.action, theirs.action, atol=1e-4)
            assert torch.allclose(ours.plan.utilities, theirs.plan.utilities, atol=1e-3)
            changed |= bool((ours.plan.first_actions[:, 0] != ours.plan.first_actions[:, 1]).any())
    assert changed
    assert policies[0]._decide._recordings
