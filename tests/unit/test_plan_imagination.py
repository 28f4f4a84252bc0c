"""Imagining many plans of one past: as a window for each would, nearly so in bfloat16, and without waiting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import masked_config
from scipy.stats import spearmanr

from system.config import CriticConfig, PlannerConfig
from system.decisions import Context
from system.errors import ShapeError
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.guidance import CriticGuided, ReturnGuided
from system.families.masked_trajectory.masks import RETURNS, REWARDS, STATES, forward_dynamics
from system.families.masked_trajectory.model import Tokens
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.families.masked_trajectory.policies import make_policy
from system.families.masked_trajectory.windows import action_distribution
from system.planning import accelerated_model
from system.planning.accelerated_model import AcceleratedModel, accelerated
from system.planning.forward_mpc import forward_mpc
from system.types import TaskSpec
from tests.support import speed_subjects
from tests.support.calling_recorder import record_by_calling

CPU = torch.device("cpu")
TASK = TaskSpec("Toy-v0", observation_dim=5, action_dim=2, max_episode_steps=20)
NUMBERS = TaskSpec("Toy-v1", 5, 3, 20, valid_actions=(0, 1, 2))
WINDOW, COUNT, HORIZON = 6, 7, 3


def make_agent(task: TaskSpec = TASK, **sizes: int) -> TrajectoryAgent:
    model = ModelConfig(**{"context_length": WINDOW, "width": 16, "num_heads": 2, **sizes})
    agent = TrajectoryAgent(task, masked_config(model=model, critic=CriticConfig(hidden_width=16))).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    agent.model.observation_std.fill_(2.0)
    agent.model.reward_scale.copy_(torch.tensor([1.0, 3.0]))
    return agent


def make_context(horizon: int = HORIZON, *, task: TaskSpec = TASK, padded: bool = True) -> Context:
    """Two environments; the second one's episode has just begun."""
    generator = torch.Generator().manual_seed(0)
    history = WINDOW - horizon + 1
    valid = torch.ones(2, history, dtype=torch.bool)
    valid[1, :-1] = not padded
    actions = torch.rand(2, history - 1, 2, generator=generator)
    return Context(
        observations=torch.randn(2, history, 5, generator=generator) * valid[..., None],
        actions=torch.randint(3, (2, history - 1), generator=generator) if task.is_discrete else actions,
        valid=valid,
        target_return=torch.ones(2),
    )


def make_plans(horizon: int = HORIZON, *, task: TaskSpec = TASK) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if task.is_discrete:
        return torch.randint(3, (2, COUNT, horizon), generator=generator)
    return torch.rand(2, COUNT, horizon, 2, generator=generator) * 2 - 1


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("task", [TASK, NUMBERS], ids=["vectors", "numbers"])
@pytest.mark.parametrize("horizon", [1, HORIZON, WINDOW])
@pytest.mark.parametrize("layers", [(1, 1), (2, 1), (1, 3)])
@torch.no_grad()
def test_it_is_what_a_window_for_each_plan_gives(
    layers: tuple[int, int], horizon: int, task: TaskSpec, padded: bool
) -> None:
    model = make_agent(task, encoder_layers=layers[0], decoder_layers=layers[1]).model
    context, plans = make_context(horizon, task=task, padded=padded), make_plans(horizon, task=task)
    found = imagine_plans(model, context, plans, (RETURNS, REWARDS))
    current = WINDOW - horizon
    for row in range(2):
        for number in range(COUNT):
            past, one = slice(row, row + 1), plans[row, number][None]
            tokens = Tokens(
                states=torch.cat([context.observations[past], torch.zeros(1, horizon - 1, 5)], dim=1),
                returns=torch.zeros(1, WINDOW),
                actions=torch.cat([context.actions[past], one], dim=1),
                rewards=torch.zeros(1, WINDOW),
                valid=torch.cat([context.valid[past], torch.ones(1, horizon - 1, dtype=torch.bool)], dim=1),
            )
            whole = model.reconstruct(
                tokens,
                forward_dynamics(WINDOW, current),
                first_step=current,
                modalities=(STATES, RETURNS, REWARDS),
            )
            assert torch.allclose(found.states[row, number, 1:], whole.states[0, 1:], atol=1e-5)
            assert torch.equal(found.states[row, number, 0], context.observations[row, -1])
            assert torch.allclose(found.returns[row, number], whole.returns[0], atol=1e-5)
            assert torch.allclose(found.rewards[row, number], whole.rewards[0], atol=1e-5)


def test_a_plan_ends_with_the_window() -> None:
    with pytest.raises(ShapeError, match="4 steps and a plan of 2 actions in a window of 6"):
        imagine_plans(make_agent().model, make_context(), make_plans(HORIZON - 1), (REWARDS,))


@torch.no_grad()
def test_what_is_not_asked_for_is_not_there() -> None:
    found = imagine_plans(make_agent().model, make_context(), make_plans(), (REWARDS,))
    assert found.returns is None and found.rewards is not None


@pytest.mark.parametrize("guidance", ["return", "critic"])
@torch.no_grad()
def test_utilities_in_bfloat16_rank_as_in_float32(guidance: str) -> None:
    """Of the same candidates, at the paper's width."""
    agent = make_agent(width=512, num_heads=4)
    model = (
        ReturnGuided(agent.model, 0.99) if guidance == "return" else CriticGuided(agent.model, agent.values, 0.99)
    )
    config = PlannerConfig(horizon=HORIZON, num_candidates=150)
    plans = []
    for precision in ("float32", "bfloat16"):
        planned = accelerated(model, CPU, precision)
        drawn = model.propose(
            make_context(), horizon=HORIZON, num_candidates=150, generator=torch.Generator().manual_seed(0)
        )
        planned.propose = lambda context, drawn=drawn, **_: drawn  # type: ignore[method-assign]
        plans.append(forward_mpc(planned, make_context(), config=config, generator=torch.Generator()))
    single, half = plans
    assert not torch.equal(single.utilities, half.utilities)
    assert half.utilities.dtype == half.action.dtype == torch.float32
    for row in range(2):
        assert spearmanr(single.utilities[row], half.utilities[row]).statistic >= 0.99


@torch.no_grad()
def test_critics_stay_in_full_precision() -> None:
    agent, context = make_agent(), make_context()
    guided = CriticGuided(agent.model, agent.values, 0.99)
    imagined = accelerated(guided, CPU, "bfloat16").imagine(context, make_plans())
    assert torch.equal(imagined.values, agent.values.q(imagined.observations, make_plans()))


@torch.no_grad()
def test_recorded_planning_decides_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    recorders, agent = record_by_calling(monkeypatch, accelerated_model), make_agent()
    guided = CriticGuided(agent.model, agent.values, 0.99)
    replayed = AcceleratedModel(guided, CPU, "float32", graphed=True)
    config = PlannerConfig(horizon=HORIZON, num_candidates=COUNT, select="sample")
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    for turn in range(4):
        context = replace(make_context(), target_return=torch.full((2,), float(turn)))
        ours, theirs = (
            forward_mpc(model, context, config=config, generator=generator)
            for model, generator in zip((replayed, guided), generators, strict=True)
        )
        assert torch.equal(ours.action, theirs.action)
        assert torch.equal(ours.utilities, theirs.utilities)
    assert [recorder.num_replayed for recorder in recorders] == [3, 3]


def test_where_algorithms_are_deterministic_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    guided, device = ReturnGuided(make_agent().model, 0.99), torch.device("cuda")
    monkeypatch.setattr(torch, "Generator", lambda device: None)
    monkeypatch.setattr(
        accelerated_model, "repeated_step", lambda work, device, graphed: asked.append(graphed)
    )
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: False)
    accelerated(guided, device, "float32")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    accelerated(guided, device, "float32")
    accelerated(guided, CPU, "float32")
    assert asked == [True, False, False]


def test_numbers_of_actions_are_drawn_without_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    recorders, agent = record_by_calling(monkeypatch, accelerated_model), make_agent(NUMBERS)
    model = AcceleratedModel(ReturnGuided(agent.model, 0.99), CPU, "float32", graphed=True)
    config = PlannerConfig(horizon=HORIZON, num_candidates=COUNT)
    for _ in range(3):
        forward_mpc(model, make_context(task=NUMBERS), config=config, generator=torch.Generator())
    assert [recorder.num_replayed for recorder in recorders] == [2]


@torch.no_grad()
def test_both_passes_wait_for_nothing_on_the_device() -> None:
    """On torch's `meta` device, whose tensors have no values, whoever looks at one is found out."""
    agent = make_agent().to("meta")
    absent = ("carry", "goal")
    seen = {name: value.to("meta") for name, value in vars(make_context()).items() if name not in absent}
    context = Context(**seen)
    plans = make_plans().to("meta")
    # Automatic precision, which critics are taken out of, is not to be had there.
    imagined = ReturnGuided(agent.model, 0.99).imagine(context, plans)
    proposed = action_distribution(agent.model, context, HORIZON)
    assert imagined.values.device.type == proposed.mode().device.type == "meta"
    assert agent.values.q(imagined.observations, plans).shape == (2, COUNT, HORIZON)


def test_the_precision_of_a_policy_is_the_planner_s() -> None:
    agent, history = make_agent(width=64), speed_subjects.vector_history(TASK, 2, WINDOW)
    acts = []
    for precision in ("float32", "bfloat16"):
        planner = PlannerConfig(horizon=HORIZON, num_candidates=16, precision=precision)
        policy = make_policy("forward_mpc_q", agent, TASK, masked_config(planner=planner), planner)
        acts.append(policy.act(history, np.arange(2), torch.Generator().manual_seed(0)).action)
    assert not np.array_equal(*acts)
    assert np.allclose(*acts, atol=0.1)
