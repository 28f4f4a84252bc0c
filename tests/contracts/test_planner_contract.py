"""What every planner must do, whatever model it plans with; a new planner or guidance is one line."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from system.config import CriticConfig, ModelConfig, PlannerConfig, RunConfig
from system.decisions import Context, Plan
from system.errors import PlannerError
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.guidance import CriticGuided, ReturnGuided, Unguided, action_distribution
from system.models.protocols import Imagination, PlanningModel
from system.planning.forward_mpc import forward_mpc
from system.types import TaskSpec
from tests.support.reference_planner import reference_action

TASK = TaskSpec("Toy-v0", observation_dim=5, action_dim=2, max_episode_steps=20)
DISCOUNT = 0.97
WINDOW = 6
CONFIG = PlannerConfig(horizon=3, num_candidates=8)

Guide = Callable[[TrajectoryAgent], PlanningModel]
GUIDES: dict[str, Guide] = {
    "return": lambda agent: ReturnGuided(agent.model, DISCOUNT),
    "critic": lambda agent: CriticGuided(agent.model, agent.values, DISCOUNT),
    "none": lambda agent: Unguided(agent.model, DISCOUNT),
}
PLANNERS: dict[str, Callable[..., Plan]] = {"forward_mpc": forward_mpc}


@pytest.fixture(scope="module")
def agent() -> TrajectoryAgent:
    model = ModelConfig(context_length=WINDOW, width=16, encoder_layers=1, decoder_layers=1, num_heads=2)
    agent = TrajectoryAgent(TASK, RunConfig(model=model, critic=CriticConfig(hidden_width=16))).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return agent


def make_context(batch: int, horizon: int, seed: int = 0) -> Context:
    generator = torch.Generator().manual_seed(seed)
    length = WINDOW - horizon + 1
    valid = torch.ones(batch, length, dtype=torch.bool)
    valid[0, : length - 1] = False
    return Context(
        observations=torch.randn(batch, length, TASK.observation_dim, generator=generator) * valid[..., None],
        actions=torch.rand(batch, length - 1, TASK.action_dim, generator=generator) * 2 - 1,
        valid=valid,
        target_return=torch.linspace(0.0, 2.0, batch),
    )


def make_generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def run(planner: str, model: PlanningModel, config: PlannerConfig, batch: int = 3) -> Plan:
    return PLANNERS[planner](model, make_context(batch, config.horizon), config=config, generator=make_generator())


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("planner", PLANNERS)
class TestEveryPlanner:
    @pytest.mark.parametrize("select", ["sample", "expectation", "argmax"])
    def test_a_plan_is_whole(self, planner: str, guide: str, select: str, agent: TrajectoryAgent) -> None:
        config = replace(CONFIG, select=select)
        plan = run(planner, GUIDES[guide](agent), config)
        assert plan.action.shape == (3, TASK.action_dim)
        assert plan.first_actions.shape == (3, config.num_candidates, TASK.action_dim)
        assert plan.action.abs().max() <= 1.0
        assert torch.allclose(plan.probabilities.sum(-1), torch.ones(3))
        chosen = plan.first_actions[torch.arange(3), plan.selected]
        if select == "expectation":
            assert plan.selected.tolist() == [-1, -1, -1]
            assert torch.allclose(plan.action, (plan.probabilities[..., None] * plan.first_actions).sum(1))
        else:
            assert torch.equal(plan.action, chosen)
        if select == "argmax":
            assert torch.equal(plan.selected, plan.utilities.argmax(-1))

    def test_the_generator_is_the_only_randomness(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        model, before = GUIDES[guide](agent), torch.get_rng_state()
        config = replace(CONFIG, select="sample")
        first = run(planner, model, config)
        torch.manual_seed(999)
        second = run(planner, model, config)
        torch.set_rng_state(before)
        assert torch.equal(first.action, second.action)
        run(planner, model, config)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_model_is_left_alone(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        before = {name: value.clone() for name, value in agent.state_dict().items()}
        run(planner, GUIDES[guide](agent), CONFIG)
        assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())

    def test_guidance_without_end_is_argmax(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        if guide == "none":
            pytest.skip("every candidate is worth the same")
        model = GUIDES[guide](agent)
        greedy = run(planner, model, replace(CONFIG, select="argmax"))
        limit = run(planner, model, replace(CONFIG, temperature=1e7))
        assert torch.allclose(greedy.action, limit.action, atol=1e-5)

    def test_no_guidance_is_the_mean_of_the_candidates(
        self, planner: str, guide: str, agent: TrajectoryAgent
    ) -> None:
        plan = run(planner, GUIDES[guide](agent), replace(CONFIG, temperature=0.0))
        assert torch.allclose(plan.action, plan.first_actions.mean(1), atol=1e-6)

    def test_horizon_0_is_refused(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        with pytest.raises(PlannerError, match="horizon"):
            PLANNERS[planner](
                GUIDES[guide](agent),
                make_context(2, 1),
                config=replace(CONFIG, horizon=0),
                generator=make_generator(),
            )


@pytest.mark.parametrize("scale", ["raw", "standardized"])
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("guide", ["return", "critic"])
@torch.no_grad()
def test_forward_mpc_equals_the_plain_reference(
    guide: str, horizon: int, scale: str, agent: TrajectoryAgent
) -> None:
    config = replace(CONFIG, horizon=horizon, utility_scale=scale, temperature=0.7)
    context = make_context(3, horizon)
    plan = forward_mpc(GUIDES[guide](agent), context, config=config, generator=make_generator())
    critic = agent.values if guide == "critic" else None
    action, utilities = reference_action(agent.model, critic, context, config, DISCOUNT, make_generator())
    assert torch.allclose(plan.utilities, utilities, atol=1e-4, rtol=1e-5)
    assert torch.allclose(plan.action, action, atol=1e-5)


@torch.no_grad()
def test_horizon_1_with_critics_is_q_only(agent: TrajectoryAgent) -> None:
    context = make_context(3, 1)
    plan = forward_mpc(
        GUIDES["critic"](agent), context, config=replace(CONFIG, horizon=1), generator=make_generator()
    )
    state = context.observations[:, -1:].expand(-1, CONFIG.num_candidates, -1)
    assert torch.allclose(plan.utilities, agent.values.q(state, plan.first_actions))


@pytest.mark.parametrize("guide", GUIDES)
@torch.no_grad()
def test_batched_is_one_by_one(guide: str, agent: TrajectoryAgent) -> None:
    model, context = GUIDES[guide](agent), make_context(3, CONFIG.horizon)
    actions = model.propose(context, horizon=CONFIG.horizon, num_candidates=4, generator=make_generator())
    together = model.imagine(context, actions)
    for row in range(3):
        rows = slice(row, row + 1)
        single = Context(
            context.observations[rows], context.actions[rows], context.valid[rows], context.target_return[rows]
        )
        alone = model.imagine(single, actions[rows])
        for name in ("observations", "rewards", "values"):
            assert torch.allclose(getattr(together, name)[rows], getattr(alone, name), atol=1e-4, rtol=1e-5), name


@torch.no_grad()
def test_what_lies_before_the_episode_is_not_looked_at(agent: TrajectoryAgent) -> None:
    context = make_context(3, CONFIG.horizon)
    noise = torch.where(context.valid[..., None], 0.0, 50.0)
    other = Context(context.observations + noise, context.actions, context.valid, context.target_return)
    first, second = (
        forward_mpc(GUIDES["return"](agent), each, config=CONFIG, generator=make_generator())
        for each in (context, other)
    )
    assert torch.allclose(first.action, second.action, atol=1e-5)


@torch.no_grad()
def test_the_target_return_changes_the_proposal_and_not_the_dynamics(agent: TrajectoryAgent) -> None:
    context = make_context(3, CONFIG.horizon)
    richer = replace(context, target_return=context.target_return + 3.0)
    means = [action_distribution(agent.model, each, CONFIG.horizon).mean for each in (context, richer)]
    assert not torch.allclose(*means, atol=1e-4)
    actions = torch.zeros(3, 2, CONFIG.horizon, TASK.action_dim)
    imagined = [GUIDES["critic"](agent).imagine(each, actions) for each in (context, richer)]
    assert torch.equal(imagined[0].observations, imagined[1].observations)


def test_a_model_that_dreams_nan_is_not_acted_on() -> None:
    class Broken:
        discount = DISCOUNT

        def propose(
            self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
        ) -> torch.Tensor:
            return torch.zeros(len(context.observations), num_candidates, horizon, TASK.action_dim)

        def imagine(self, context: Context, actions: torch.Tensor) -> Imagination:
            shape = actions.shape[:3]
            return Imagination(torch.zeros(*shape, 5), torch.zeros(shape), torch.full(shape, float("nan")))

    with pytest.raises(PlannerError, match="NaN"):
        forward_mpc(Broken(), make_context(2, 3), config=CONFIG, generator=make_generator())
