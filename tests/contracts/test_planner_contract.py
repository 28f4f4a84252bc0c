"""What every planner must do, whatever model it plans with; a new planner or guidance is one line."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import masked_config

from system.config import CriticConfig, PlannerConfig
from system.decisions import Context, Plan
from system.errors import PlannerError
from system.evaluation.policies import make_policy
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.guidance import CriticGuided, ReturnGuided, Unguided
from system.families.masked_trajectory.proposals import ActorInModel
from system.families.masked_trajectory.windows import action_distribution
from system.models.protocols import Imagination, PlanningModel
from system.planning.forward_mpc import forward_mpc
from system.planning.history import History
from system.types import TaskSpec
from tests.support.reference_planner import reference_action

TASKS = {
    "vectors": TaskSpec("Toy-v0", observation_dim=5, action_dim=2, max_episode_steps=20),
    "numbers": TaskSpec("Toy-v1", 5, action_dim=3, max_episode_steps=20, valid_actions=(0, 1, 2)),
}
DISCOUNT = 0.97
WINDOW = 6
CONFIG = PlannerConfig(horizon=3, num_candidates=8)

Guide = Callable[[TrajectoryAgent], PlanningModel]
GUIDES: dict[str, Guide] = {
    "return": lambda agent: ReturnGuided(agent.model, DISCOUNT),
    "critic": lambda agent: CriticGuided(agent.model, agent.values, DISCOUNT),
    "none": lambda agent: Unguided(agent.model, DISCOUNT),
    "return, actor": lambda agent: ReturnGuided(
        agent.model, DISCOUNT, ActorInModel(agent.model, agent.values, 0.3)
    ),
    "critic, actor": lambda agent: CriticGuided(
        agent.model, agent.values, DISCOUNT, ActorInModel(agent.model, agent.values, 0.3)
    ),
}
PLANNERS: dict[str, Callable[..., Plan]] = {"forward_mpc": forward_mpc}


@pytest.fixture(scope="module", params=TASKS)
def agent(request: pytest.FixtureRequest) -> TrajectoryAgent:
    model = ModelConfig(context_length=WINDOW, width=16, encoder_layers=1, decoder_layers=1, num_heads=2)
    config = masked_config(model=model, critic=CriticConfig(hidden_width=16))
    agent = TrajectoryAgent(TASKS[request.param], config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return agent


def make_actions(task: TaskSpec, *shape: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Random ones of a task."""
    generator = generator or make_generator()
    if task.is_discrete:
        return torch.randint(task.action_dim, shape, generator=generator)
    return torch.rand(*shape, task.action_dim, generator=generator) * 2 - 1


def make_context(task: TaskSpec, batch: int, horizon: int, seed: int = 0) -> Context:
    generator = torch.Generator().manual_seed(seed)
    length = WINDOW - horizon + 1
    valid = torch.ones(batch, length, dtype=torch.bool)
    valid[0, : length - 1] = False
    return Context(
        observations=torch.randn(batch, length, task.observation_dim, generator=generator) * valid[..., None],
        actions=make_actions(task, batch, length - 1, generator=generator),
        valid=valid,
        target_return=torch.linspace(0.0, 2.0, batch),
    )


def make_generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def run(planner: str, guide: str, agent: TrajectoryAgent, config: PlannerConfig) -> Plan:
    context = make_context(agent.task, 3, config.horizon)
    return PLANNERS[planner](GUIDES[guide](agent), context, config=config, generator=make_generator())


def expectation(
    plan: Plan, probabilities: torch.Tensor, task: TaskSpec, *, squashed: bool = True
) -> torch.Tensor:
    """The weighted mean of the first actions, or the discrete action with the largest share of the weight."""
    if not task.is_discrete and not squashed:
        return torch.tanh((probabilities[..., None] * torch.atanh(plan.first_actions.clamp(-0.999, 0.999))).sum(1))
    if not task.is_discrete:
        return (probabilities[..., None] * plan.first_actions).sum(1)
    votes = [(probabilities * (plan.first_actions == action)).sum(1) for action in range(task.action_dim)]
    return torch.stack(votes, dim=1).argmax(1)


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("planner", PLANNERS)
class TestEveryPlanner:
    @pytest.mark.parametrize("select", ["sample", "expectation", "unsquashed_expectation", "argmax"])
    def test_a_plan_is_whole(self, planner: str, guide: str, select: str, agent: TrajectoryAgent) -> None:
        config = replace(CONFIG, select=select)
        plan = run(planner, guide, agent, config)
        task = agent.task
        assert plan.action.shape == (3, *(() if task.is_discrete else (task.action_dim,)))
        assert plan.first_actions.shape == (3, config.num_candidates, *plan.action.shape[1:])
        if task.is_discrete:
            assert plan.action.dtype == plan.first_actions.dtype == torch.int64
            drawn = set(plan.first_actions.unique().tolist())
            assert drawn == {0, 1, 2} or ("actor" in guide and drawn < {0, 1, 2})
        else:
            assert plan.action.abs().max() <= 1.0
        assert torch.allclose(plan.probabilities.sum(-1), torch.ones(3))
        chosen = plan.first_actions[torch.arange(3), plan.selected]
        if "expectation" in select:
            assert plan.selected.tolist() == [-1, -1, -1]
            squashed = select == "expectation"
            meant = expectation(plan, plan.probabilities, agent.task, squashed=squashed)
            assert torch.allclose(plan.action, meant, atol=1e-5)
        else:
            assert torch.equal(plan.action, chosen)
        if select == "argmax":
            assert torch.equal(plan.selected, plan.utilities.argmax(-1))

    def test_the_generator_is_the_only_randomness(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        before = torch.get_rng_state()
        config = replace(CONFIG, select="sample")
        first = run(planner, guide, agent, config)
        torch.manual_seed(999)
        second = run(planner, guide, agent, config)
        torch.set_rng_state(before)
        assert torch.equal(first.action, second.action)
        run(planner, guide, agent, config)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_model_is_left_alone(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        before = {name: value.clone() for name, value in agent.state_dict().items()}
        run(planner, guide, agent, CONFIG)
        assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())

    def test_guidance_without_end_is_argmax(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        if guide == "none":
            pytest.skip("every candidate is worth the same")
        greedy = run(planner, guide, agent, replace(CONFIG, select="argmax"))
        limit = run(planner, guide, agent, replace(CONFIG, temperature=1e7))
        assert torch.allclose(greedy.action, limit.action, atol=1e-5)

    def test_no_guidance_is_the_mean_of_the_candidates(
        self, planner: str, guide: str, agent: TrajectoryAgent
    ) -> None:
        plan = run(planner, guide, agent, replace(CONFIG, temperature=0.0, select="expectation"))
        equal = torch.full_like(plan.probabilities, 1.0 / CONFIG.num_candidates)
        assert torch.allclose(plan.action, expectation(plan, equal, agent.task), atol=1e-6)

    def test_horizon_0_is_refused(self, planner: str, guide: str, agent: TrajectoryAgent) -> None:
        with pytest.raises(PlannerError, match="horizon"):
            PLANNERS[planner](
                GUIDES[guide](agent),
                make_context(agent.task, 2, 1),
                config=replace(CONFIG, horizon=0),
                generator=make_generator(),
            )


@pytest.mark.parametrize(("scale", "select"), [("raw", "expectation"), ("standardized", "unsquashed_expectation")])
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("guide", ["return", "critic"])
@torch.no_grad()
def test_forward_mpc_equals_the_plain_reference(
    guide: str, horizon: int, scale: str, select: str, agent: TrajectoryAgent
) -> None:
    config = replace(CONFIG, horizon=horizon, utility_scale=scale, temperature=0.7, select=select)
    context = make_context(agent.task, 3, horizon)
    plan = forward_mpc(GUIDES[guide](agent), context, config=config, generator=make_generator())
    critic = agent.values if guide == "critic" else None
    action, utilities = reference_action(agent.model, critic, context, config, DISCOUNT, make_generator())
    assert torch.allclose(plan.utilities, utilities, atol=1e-4, rtol=1e-5)
    assert torch.allclose(plan.action, action, atol=1e-5)


@torch.no_grad()
def test_horizon_1_with_critics_is_q_only(agent: TrajectoryAgent) -> None:
    context = make_context(agent.task, 3, 1)
    plan = forward_mpc(
        GUIDES["critic"](agent), context, config=replace(CONFIG, horizon=1), generator=make_generator()
    )
    state = context.observations[:, -1:].expand(-1, CONFIG.num_candidates, -1)
    assert torch.allclose(plan.utilities, agent.values.q(state, plan.first_actions))


@pytest.mark.parametrize("horizon", [1, 3])
@torch.no_grad()
def test_q_only_weighs_the_first_actions_of_forward_mpcs_candidates(horizon: int, agent: TrajectoryAgent) -> None:
    config = masked_config(model=agent.model.config, discount=DISCOUNT)
    planner = replace(CONFIG, horizon=horizon)
    context = make_context(agent.task, 3, 1)
    history = History.of_task(agent.task, 3, WINDOW, context.observations[:, 0].numpy())
    history.observations[:], history.actions[:] = context.observations.numpy(), context.actions.numpy()
    history.valid[:] = context.valid.numpy()
    plans = {}
    for name in ("q_only", "forward_mpc_q"):
        policy = make_policy(name, agent, agent.task, config, planner)
        plans[name] = policy.act(history, np.arange(3), make_generator()).plan
    alone, planned = plans["q_only"], plans["forward_mpc_q"]
    assert torch.equal(alone.first_actions, planned.first_actions)
    state = context.observations[:, -1:].expand(-1, CONFIG.num_candidates, -1)
    assert torch.allclose(alone.utilities, agent.values.q(state, alone.first_actions))
    assert torch.allclose(alone.utilities, planned.utilities) == (horizon == 1)
    assert alone.imagined_rewards.shape[-1] == 1, "rankings name it as of horizon 1"


@pytest.mark.parametrize("guide", GUIDES)
@torch.no_grad()
def test_batched_is_one_by_one(guide: str, agent: TrajectoryAgent) -> None:
    model, context = GUIDES[guide](agent), make_context(agent.task, 3, CONFIG.horizon)
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
    context = make_context(agent.task, 3, CONFIG.horizon)
    noise = torch.where(context.valid[..., None], 0.0, 50.0)
    other = Context(context.observations + noise, context.actions, context.valid, context.target_return)
    first, second = (
        forward_mpc(GUIDES["return"](agent), each, config=CONFIG, generator=make_generator())
        for each in (context, other)
    )
    assert torch.allclose(first.action, second.action, atol=1e-5)


@torch.no_grad()
def test_the_target_return_changes_the_proposal_and_not_the_dynamics(agent: TrajectoryAgent) -> None:
    context = make_context(agent.task, 3, CONFIG.horizon)
    richer = replace(context, target_return=context.target_return + 3.0)
    actions = make_actions(agent.task, 3, 2, CONFIG.horizon)
    likelihoods = [
        action_distribution(agent.model, each, CONFIG.horizon).log_prob(actions[:, 0])
        for each in (context, richer)
    ]
    assert not torch.allclose(*likelihoods, atol=1e-4)
    imagined = [GUIDES["critic"](agent).imagine(each, actions) for each in (context, richer)]
    assert torch.equal(imagined[0].observations, imagined[1].observations)


def test_a_model_that_dreams_nan_is_not_acted_on() -> None:
    class Broken:
        discount = DISCOUNT

        def propose(
            self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
        ) -> torch.Tensor:
            return torch.zeros(len(context.observations), num_candidates, horizon, 2)

        def imagine(self, context: Context, actions: torch.Tensor) -> Imagination:
            shape = actions.shape[:3]
            return Imagination(torch.zeros(*shape, 5), torch.zeros(shape), torch.full(shape, float("nan")))

    with pytest.raises(PlannerError, match="NaN"):
        forward_mpc(Broken(), make_context(TASKS["vectors"], 2, 3), config=CONFIG, generator=make_generator())


def test_action_probabilities_that_are_no_numbers_are_not_acted_on(agent: TrajectoryAgent) -> None:
    """A draw from them would pass for an action, also where nothing is imagined."""
    broken = TrajectoryAgent(
        agent.task, masked_config(model=agent.model.config, critic=CriticConfig(hidden_width=16))
    )
    with torch.no_grad():
        broken.model.action_head.bias.fill_(float("nan"))
    context = make_context(agent.task, 2, CONFIG.horizon)
    with pytest.raises(PlannerError, match="not finite"):
        forward_mpc(GUIDES["none"](broken), context, config=CONFIG, generator=make_generator())


class Bold:
    """Proposes actions outside the bounds, all of them worth the same."""

    discount = DISCOUNT

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> torch.Tensor:
        """As far out on one side as on the other."""
        actions = torch.tensor([-3.0, 1.7]).expand(len(context.observations), num_candidates, horizon, 2)
        return actions.clone()

    def imagine(self, context: Context, actions: torch.Tensor) -> Imagination:
        """Nothing happens."""
        zeros = torch.zeros(actions.shape[:3])
        return Imagination(torch.zeros(*zeros.shape, 5), zeros, zeros)


@pytest.mark.parametrize("select", ["sample", "expectation", "unsquashed_expectation", "argmax"])
@pytest.mark.parametrize("plan", PLANNERS.values(), ids=PLANNERS)
def test_what_is_executed_lies_within_the_bounds(plan: Callable[..., Plan], select: str) -> None:
    context = make_context(TASKS["vectors"], 3, CONFIG.horizon)
    made = plan(Bold(), context, config=replace(CONFIG, select=select), generator=make_generator())
    largest = 0.999 if select == "unsquashed_expectation" else 1.0
    assert torch.allclose(made.action, torch.tensor([-largest, largest]).expand(3, 2), rtol=0.0, atol=1e-6)
    assert made.action.abs().max() <= 1.0
