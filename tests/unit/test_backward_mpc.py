"""Paths to goals: what the planner promises, and that what a goal leaves open cannot leak into it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import masked_config

from system.config import PlannerConfig
from system.decisions import UNTIMED, Context, GoalStates, Plan
from system.errors import PlannerError
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.masks import (
    draw_known_dimensions,
    infers_a_path,
    inverse_dynamics,
    path_inference,
    random_autoregressive,
)
from system.families.masked_trajectory.paths import GoalPaths, StraightToGoal
from system.planning.backward_mpc import backward_mpc
from system.planning.history import History
from system.types import TaskSpec

WINDOW = 6
TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=20)
CONFIG = PlannerConfig(name="backward_mpc", horizon=3)
MODEL = ModelConfig(
    context_length=WINDOW, width=16, encoder_layers=1, decoder_layers=1, num_heads=2, partial_states=True
)


@pytest.fixture(scope="module")
def agent() -> TrajectoryAgent:
    torch.manual_seed(0)
    training = TrajectoryTrainingConfig(mask_shares={"path_inference": 0.5})
    agent = TrajectoryAgent(TASK, masked_config(model=MODEL, training=training)).eval()
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return agent


def make_context(batch: int = 3, **goal: torch.Tensor) -> Context:
    generator = torch.Generator().manual_seed(1)
    asked = {
        "values": torch.randn(batch, 3, generator=generator),
        "named": torch.ones(batch, 3, dtype=torch.bool),
        "steps_left": torch.full((batch,), UNTIMED),
    }
    return Context(
        observations=torch.randn(batch, WINDOW, 3, generator=generator),
        actions=torch.rand(batch, WINDOW - 1, 2, generator=generator) * 2 - 1,
        valid=torch.ones(batch, WINDOW, dtype=torch.bool),
        target_return=torch.zeros(batch),
        goal=GoalStates(**{**asked, **goal}),
    )


def plan(agent: TrajectoryAgent, context: Context, config: PlannerConfig = CONFIG, kind: type = GoalPaths) -> Plan:
    model = kind(agent.model, agent.observation_change)
    return backward_mpc(model, context, config=config, generator=torch.Generator().manual_seed(0))


class LineWalker:
    """A system o′ = o + a, whose analytic path to a goal is the straight line of equal steps."""

    typical_change = torch.tensor([0.1, 0.2, 0.0])

    def infer_path(self, context: Context, ahead: int) -> torch.Tensor:
        assert context.goal is not None
        share = torch.linspace(0.0, 1.0, ahead + 1)[None, :, None]
        now = context.observations[:, -1:]
        return now + share * (context.goal.values[:, None] - now)

    def infer_actions(self, context: Context, path: torch.Tensor) -> torch.Tensor:
        return (path[:, 1:] - path[:, :-1])[..., :2]


@pytest.mark.parametrize(("left", "steps"), [(UNTIMED, 3), (3, 3), (2, 2), (1, 1), (0, 1)])
def test_the_first_step_of_a_line_is_walked_to_be_there_in_time(left: int, steps: int) -> None:
    context = make_context(steps_left=torch.full((3,), left))
    assert context.goal is not None
    made = backward_mpc(LineWalker(), context, config=CONFIG, generator=torch.Generator())
    expected = (context.goal.values - context.observations[:, -1])[:, :2] / steps
    assert torch.allclose(made.action, expected.clamp(-1.0, 1.0))
    path = made.imagined_observations
    assert path is not None
    assert torch.equal(path[:, 0, 0], context.observations[:, -1])
    assert torch.allclose(path[:, 0, steps:], context.goal.values[:, None].expand(-1, 4 - steps, -1))


def test_what_is_too_far_is_shown_nearer_on_the_same_line() -> None:
    """Of typical changes 0.1 and 0.2, at twice that in 3 steps: 0.6 and 1.2 away at most; one has no limit."""
    values = torch.tensor([[3.0, 1.2, 9.0], [0.3, -2.4, 9.0], [0.5, 1.1, 9.0]])
    context = make_context(values=values)
    context = replace(context, observations=torch.zeros_like(context.observations))
    made = backward_mpc(
        LineWalker(), context, config=replace(CONFIG, goal_speed=2.0), generator=torch.Generator()
    )
    assert made.imagined_observations is not None
    scale = torch.tensor([[5.0], [2.0], [1.0]])
    assert torch.allclose(made.imagined_observations[:, 0, -1], values / scale)
    unlimited = backward_mpc(LineWalker(), context, config=CONFIG, generator=torch.Generator())
    assert unlimited.imagined_observations is not None
    assert torch.equal(unlimited.imagined_observations[:, 0, -1], values)


def test_a_receding_goal_never_comes_closer() -> None:
    context = make_context(steps_left=torch.tensor([1, 2, 9]))
    receding = backward_mpc(
        LineWalker(), context, config=replace(CONFIG, goal_arrival="receding"), generator=torch.Generator()
    )
    untimed = backward_mpc(LineWalker(), make_context(), config=CONFIG, generator=torch.Generator())
    assert torch.equal(receding.action, untimed.action)


@pytest.mark.parametrize("kind", [GoalPaths, StraightToGoal])
def test_batched_is_one_by_one_whatever_is_due_when(kind: type, agent: TrajectoryAgent) -> None:
    context = make_context(steps_left=torch.tensor([1, 2, UNTIMED]), named=torch.eye(3, dtype=torch.bool))
    together, goal = plan(agent, context, kind=kind), context.goal
    assert goal is not None
    for row in range(3):
        rows = slice(row, row + 1)
        alone = Context(
            context.observations[rows],
            context.actions[rows],
            context.valid[rows],
            context.target_return[rows],
            GoalStates(goal.values[rows], goal.named[rows], goal.steps_left[rows]),
        )
        single = plan(agent, alone, kind=kind)
        assert torch.allclose(together.action[rows], single.action, atol=1e-5)
        assert together.imagined_observations is not None and single.imagined_observations is not None
        assert torch.allclose(together.imagined_observations[rows], single.imagined_observations, atol=1e-5)


@pytest.mark.parametrize("kind", [GoalPaths, StraightToGoal])
def test_what_a_goal_does_not_name_changes_nothing(kind: type, agent: TrajectoryAgent) -> None:
    named = torch.tensor([[True, False, True]]).expand(3, -1)
    context = make_context(named=named)
    assert context.goal is not None
    for hidden in (7.0, float("nan"), float("inf")):
        values = torch.where(named, context.goal.values, hidden)
        other = replace(context, goal=replace(context.goal, values=values))
        first, second = plan(agent, context, kind=kind), plan(agent, other, kind=kind)
        assert torch.equal(first.action, second.action)
        assert first.imagined_observations is not None and second.imagined_observations is not None
        assert torch.equal(first.imagined_observations, second.imagined_observations)
    asked = replace(context, goal=replace(context.goal, values=context.goal.values + 1.0))
    assert not torch.equal(plan(agent, context, kind=kind).action, plan(agent, asked, kind=kind).action)


def test_that_a_dimension_is_unknown_is_not_that_it_is_average(agent: TrajectoryAgent) -> None:
    values = torch.zeros(3, 3)
    whole, part = make_context(values=values), make_context(values=values, named=torch.eye(3, dtype=torch.bool))
    assert not torch.allclose(plan(agent, whole).action, plan(agent, part).action, atol=1e-4)


def test_rewards_returns_and_what_lies_before_the_episode_change_nothing(agent: TrajectoryAgent) -> None:
    context = make_context()
    richer = replace(context, target_return=context.target_return + 9.0)
    assert torch.equal(plan(agent, context).action, plan(agent, richer).action)
    valid = context.valid.clone()
    valid[:, : WINDOW - 2] = False
    other = context.observations.clone()
    other[:, : WINDOW - 2] += 50.0
    first, second = (
        plan(agent, replace(context, valid=valid, observations=each)).action
        for each in (context.observations, other)
    )
    assert torch.equal(first, second)


def test_every_true_state_is_kept(agent: TrajectoryAgent) -> None:
    """The second mask sees the observations themselves: another one of the past changes the action."""
    context = make_context()
    paths = GoalPaths(agent.model, agent.observation_change)
    path = paths.infer_path(context, 3)
    other = context.observations.clone()
    other[:, -2] += 1.0
    first = paths.infer_actions(context, path)
    second = paths.infer_actions(replace(context, observations=other), path)
    assert not torch.allclose(first, second, atol=1e-5)


def test_a_model_of_whole_states_refuses_a_part() -> None:
    plain = TrajectoryAgent(TASK, masked_config(model=replace(MODEL, partial_states=False))).eval()
    plan(plain, make_context())
    with pytest.raises(PlannerError, match="partial_states"):
        plan(plain, make_context(named=torch.eye(3, dtype=torch.bool)))


def test_plans_without_a_goal_a_horizon_or_a_number_are_refused(agent: TrajectoryAgent) -> None:
    with pytest.raises(PlannerError, match="there is none"):
        plan(agent, replace(make_context(), goal=None))
    with pytest.raises(PlannerError, match="horizon"):
        plan(agent, make_context(), replace(CONFIG, horizon=0))
    with pytest.raises(PlannerError, match=r"does not fit into a window of 6"):
        plan(agent, make_context(), replace(CONFIG, horizon=WINDOW))
    values = torch.zeros(3, 3)
    values[1, 2] = float("nan")
    with pytest.raises(PlannerError, match="environment 1: dimension 2 is not finite"):
        plan(agent, make_context(values=values))


def test_histories_carry_goals_into_contexts() -> None:
    history = History(2, WINDOW, 3, 2)
    rows, target = np.arange(2), torch.zeros(2)
    assert history.context(rows, target, WINDOW).goal is None
    values, named = np.ones((1, 3), np.float32), np.array([[True, False, False]])
    history.set_goals(np.array([1]), values, named, np.array([5]))
    goal = history.context(np.array([1]), target[:1], WINDOW).goal
    assert goal is not None
    assert goal.values.tolist() == [[1.0, 1.0, 1.0]]
    assert goal.named.tolist() == [[True, False, False]]
    assert goal.steps_left.tolist() == [5]


def test_only_masks_of_path_inference_hide_dimensions() -> None:
    assert all(infers_a_path(path_inference(WINDOW, current)) for current in range(WINDOW - 1))
    assert not any(infers_a_path(inverse_dynamics(WINDOW, current)) for current in range(WINDOW - 2))
    assert not infers_a_path(path_inference(WINDOW, WINDOW - 1))
    generator = np.random.default_rng(0)
    assert not any(infers_a_path(random_autoregressive(WINDOW, generator)) for _ in range(200))


def test_goals_of_training_name_every_number_of_dimensions() -> None:
    known = draw_known_dimensions(4000, 4, np.random.default_rng(0))
    counts = known.sum(axis=1)
    assert counts.min() == 1
    assert set(counts.tolist()) == {1, 2, 3, 4}
    assert np.mean(counts == 4) == pytest.approx(0.6, abs=0.05)


def test_a_fixed_noise_is_not_learnt() -> None:
    """The ablation of M³PC: means are, and the spread stays what it was set to."""
    fixed = TrajectoryAgent(TASK, masked_config(model=replace(MODEL, partial_states=False, action_std=0.3))).eval()
    distribution = fixed.model.predict_actions(torch.randn(2, 2, 16))
    assert torch.allclose(distribution.log_std.exp(), torch.full((2, 2, 2), 0.3))
    (-distribution.log_prob(torch.zeros(2, 2, 2)).mean()).backward()
    grown = fixed.model.action_head.weight.grad
    assert grown is not None
    assert grown[:2].abs().sum() > 0.0
    assert grown[2:].abs().sum() == 0.0
