"""Gradient MPC where the best policy is known: a linear system with quadratic costs, solved by Riccati."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch

from system.config import AscentConfig, PlannerConfig
from system.decisions import Context, Plan
from system.errors import PlannerError
from system.models.protocols import Outcome
from system.planning.action_ascent import action_ascent
from system.planning.gradient_mpc import gradient_mpc
from system.planning.imagined_return import ascend, imagined_return

DISCOUNT = 0.95
A = torch.tensor([[1.0, 0.1], [0.0, 1.0]], dtype=torch.float64)
B = torch.tensor([[0.0], [0.1]], dtype=torch.float64)
STATE_COST = torch.diag(torch.tensor([1.0, 0.1], dtype=torch.float64))
ACTION_COST = torch.tensor([[0.5]], dtype=torch.float64)


def riccati() -> tuple[torch.Tensor, torch.Tensor]:
    """Cost-to-go P and gain K of u = −K s, by iteration."""
    cost = STATE_COST.clone()
    for _ in range(2000):
        gain = torch.linalg.solve(ACTION_COST + DISCOUNT * B.T @ cost @ B, DISCOUNT * B.T @ cost @ A)
        closed = A - B @ gain
        cost = STATE_COST + gain.T @ ACTION_COST @ gain + DISCOUNT * closed.T @ cost @ closed
    return cost, gain


COST_TO_GO, GAIN = riccati()


class LinearQuadratic:
    """s′ = A s + B u + σ ε, r = −s'Qs − u'Ru, Q(s, u) exact; the policy is u = −k·s."""

    discount = DISCOUNT
    noise_dim = 2
    num_members = 1

    def __init__(self, gain: torch.Tensor, spread: float = 0.0) -> None:
        self.gain = gain
        self.spread = spread

    def parameters(self) -> Mapping[str, torch.Tensor]:
        return {"gain": self.gain}

    def begin(self, context: Context) -> torch.Tensor:
        return context.observations[:, -1].double()

    def act(self, parameters: Mapping[str, torch.Tensor], states: torch.Tensor) -> torch.Tensor:
        return -states @ parameters["gain"].T

    def step(self, states: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor) -> Outcome:
        following = states @ A.T + actions @ B.T + self.spread * noise
        rewards = self.reward(states, actions)
        return Outcome(following, rewards, torch.ones_like(rewards), torch.zeros_like(rewards))

    def reward(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        cost = ((states @ STATE_COST) * states).sum(-1) + ((actions @ ACTION_COST) * actions).sum(-1)
        return -cost

    def values(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        following = states @ A.T + actions @ B.T
        after = ((following @ COST_TO_GO) * following).sum(-1)
        return (self.reward(states, actions) - DISCOUNT * after)[None]

    def observations(self, states: torch.Tensor) -> torch.Tensor:
        return states.float()


CONFIG = PlannerConfig(
    horizon=3,
    ascent=AscentConfig(steps=300, rate=1.0, num_noise=1, accept_only_better=False, critic_pessimism=0.0),
)
PLANNERS: dict[str, Callable[..., Plan]] = {"gradient_mpc": gradient_mpc, "action_ascent": action_ascent}


def make_context(count: int = 3, **carry: object) -> Context:
    observations = torch.tensor([[0.4, 0.1], [0.3, 0.3], [0.1, -0.5]])[:count, None]
    valid = torch.ones(count, 1, dtype=torch.bool)
    return Context(observations, torch.zeros(count, 0, 1), valid, torch.zeros(count), **carry)


def make_generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def decide(plan: Callable[..., Plan], model: LinearQuadratic, config: PlannerConfig, context: Context) -> Plan:
    torch.set_default_dtype(torch.float64)
    try:
        return plan(model, context, config=config, generator=make_generator())
    finally:
        torch.set_default_dtype(torch.float32)


def open_loop_gain(terminal: torch.Tensor, horizon: int) -> torch.Tensor:
    """K of the first of `horizon` free actions, after which the policy u = −(terminal gain) s acts once."""
    closed = A - B @ terminal
    cost = STATE_COST + terminal.T @ ACTION_COST @ terminal + DISCOUNT * closed.T @ COST_TO_GO @ closed
    for _ in range(horizon):
        gain = torch.linalg.solve(ACTION_COST + DISCOUNT * B.T @ cost @ B, DISCOUNT * B.T @ cost @ A)
        closed = A - B @ gain
        cost = STATE_COST + gain.T @ ACTION_COST @ gain + DISCOUNT * closed.T @ cost @ closed
    return gain


@pytest.mark.parametrize("planner", PLANNERS)
def test_the_ascent_reaches_riccatis_solution(planner: str) -> None:
    """From half the gain, with an exact value at the end. Of a policy every action changes, of a plan H do."""
    model, context = LinearQuadratic(0.5 * GAIN), make_context()
    plan = decide(PLANNERS[planner], model, CONFIG, context)
    states = context.observations[:, -1].double()
    wanted = GAIN if planner == "gradient_mpc" else open_loop_gain(model.gain, CONFIG.horizon)
    best, base = -states @ wanted.T, -states @ model.gain.T
    assert torch.equal(plan.first_actions[:, 0], base)
    assert ((plan.action - best) / (base - best)).abs().max() < 0.02


def test_gradients_of_the_return_are_finite_differences() -> None:
    model, start = LinearQuadratic(0.5 * GAIN, spread=0.1), make_context().observations[:, -1].double()
    noise = torch.randn(3, 4, 2, generator=make_generator(), dtype=torch.float64)

    def objective(gain: torch.Tensor) -> torch.Tensor:
        def act(step: int, states: torch.Tensor) -> torch.Tensor:
            return -states @ gain.mT

        return imagined_return(model, act, start, noise, CONFIG.ascent).returns

    gains = (0.5 * GAIN).expand(3, 1, 2).clone().requires_grad_()
    assert torch.autograd.gradcheck(objective, (gains,))


def test_a_model_that_is_an_ensemble_is_judged_by_its_members() -> None:
    """mean − k sd of the members' mean returns: member m mod 2 has the rewards of future m."""

    class Doubting(LinearQuadratic):
        num_members = 2

        def step(self, states: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor) -> Outcome:
            outcome = super().step(states, actions, noise)
            bonus = torch.tensor([0.0, 2.0, 0.0, 2.0])
            rewards = outcome.rewards + bonus
            return replace(outcome, rewards=rewards, disagreement=1.0 + bonus.expand_as(rewards))

    start, noise = make_context().observations[:, -1].double(), torch.zeros(1, 4, 2, dtype=torch.float64)

    def returns(model: LinearQuadratic, **keys: float) -> torch.Tensor:
        ascent = replace(CONFIG.ascent, **keys)
        return imagined_return(model, lambda step, states: -states @ GAIN.T, start, noise, ascent).returns

    certain, doubting = LinearQuadratic(GAIN), Doubting(GAIN)
    assert torch.allclose(returns(doubting), returns(certain) + 1.0)
    assert torch.allclose(returns(doubting, model_pessimism=0.5), returns(certain) + 0.5)
    assert torch.allclose(returns(doubting, uncertainty_penalty=0.5), returns(certain) + 0.5)


def test_the_end_of_an_episode_ends_the_return() -> None:
    class Ending(LinearQuadratic):
        def step(self, states: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor) -> Outcome:
            outcome = super().step(states, actions, noise)
            return replace(outcome, continues=torch.zeros_like(outcome.rewards))

    start, noise = make_context().observations[:, -1].double(), torch.zeros(3, 1, 2, dtype=torch.float64)

    def act(step: int, states: torch.Tensor) -> torch.Tensor:
        return -states @ GAIN.T

    found = imagined_return(Ending(GAIN), act, start, noise, CONFIG.ascent).returns
    assert torch.allclose(found, LinearQuadratic(GAIN).reward(start, -start @ GAIN.T))


def test_a_gradient_is_cut_to_its_largest_norm() -> None:
    variables = {"x": torch.tensor([[3.0, 4.0], [0.0, 0.1]])}
    slope = torch.tensor([[3.0, 4.0], [0.0, 0.1]])
    ascent = AscentConfig(steps=1, rate=2.0, gradient_clip=0.5)
    moved = ascend(lambda found: (found["x"] * slope).sum(1), variables, ascent)
    assert torch.allclose(moved.variables["x"] - variables["x"], torch.tensor([[0.6, 0.8], [0.0, 0.2]]))
    assert moved.is_finite.all()


class TestEveryAscent:
    @pytest.fixture(params=PLANNERS)
    def plan(self, request: pytest.FixtureRequest) -> Callable[..., Plan]:
        return PLANNERS[request.param]

    def test_no_step_is_the_base_policy_bit_for_bit(self, plan: Callable[..., Plan]) -> None:
        model, context = LinearQuadratic(0.5 * GAIN, spread=0.1), make_context()
        for keys in ({"steps": 0}, {"steps": 5, "trust_region": 0.0}):
            config = replace(CONFIG, ascent=replace(CONFIG.ascent, **keys))
            made = decide(plan, model, config, context)
            assert torch.equal(made.action, model.act(model.parameters(), model.begin(context)))

    def test_batched_is_one_by_one(self, plan: Callable[..., Plan]) -> None:
        model, context = LinearQuadratic(0.5 * GAIN, spread=0.1), make_context()
        config = replace(CONFIG, ascent=replace(CONFIG.ascent, steps=3, num_noise=8, accept_only_better=True))
        together = decide(plan, model, config, context)
        for row in range(3):
            rows = slice(row, row + 1)
            seen = context.observations[rows], context.actions[rows], context.valid[rows]
            single = Context(*seen, torch.zeros(1))
            alone = decide(plan, model, config, single)
            assert torch.allclose(alone.action[0], together.action[row], atol=1e-12)
            assert torch.allclose(alone.utilities[0], together.utilities[row], atol=1e-12)

    def test_the_action_changes_within_the_trust_region(self, plan: Callable[..., Plan]) -> None:
        config = replace(CONFIG, ascent=replace(CONFIG.ascent, trust_region=0.01))
        made = decide(plan, LinearQuadratic(0.5 * GAIN), config, make_context())
        change = made.action - made.first_actions[:, 0]
        assert torch.allclose(change.abs(), torch.full_like(change, 0.01))

    def test_what_does_not_raise_the_return_is_not_taken(self, plan: Callable[..., Plan]) -> None:
        """One step far too long, and one that helps."""
        for rate, taken in ((50.0, False), (0.2, True)):
            ascent = replace(CONFIG.ascent, steps=1, rate=rate, accept_only_better=True)
            made = decide(plan, LinearQuadratic(0.5 * GAIN), replace(CONFIG, ascent=ascent), make_context())
            assert made.selected.bool().tolist() == [taken] * 3
            assert (made.utilities[:, 1] > made.utilities[:, 0]).tolist() == [taken] * 3
            assert torch.equal(made.action, made.first_actions[:, int(taken)])
            assert not made.fell_back.any()

    @pytest.mark.parametrize("accept", [True, False])
    def test_what_is_not_finite_falls_back_where_it_happens(self, plan: Callable[..., Plan], accept: bool) -> None:
        class Broken(LinearQuadratic):
            def step(self, states: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor) -> Outcome:
                outcome = super().step(states, actions, noise)
                endless = torch.where(states[..., 1] < 0.0, torch.inf, 0.0)
                return replace(outcome, rewards=outcome.rewards + endless)

        observations = torch.tensor([[0.4, 0.4], [0.4, -0.4], [0.3, 0.5]])[:, None]
        context = replace(make_context(), observations=observations)
        ascent = replace(CONFIG.ascent, steps=2, rate=0.1, accept_only_better=accept)
        made = decide(plan, Broken(0.5 * GAIN), replace(CONFIG, horizon=1, ascent=ascent), context)
        assert made.fell_back.tolist() == [False, True, False]
        assert torch.equal(made.action[1], made.first_actions[1, 0])
        assert (made.action[[0, 2]] != made.first_actions[[0, 2], 0]).all()
        assert torch.isfinite(made.action).all() and not torch.isnan(made.utilities).any()

    @pytest.mark.parametrize("accept", [True, False])
    def test_a_gradient_that_is_not_finite_falls_back(self, plan: Callable[..., Plan], accept: bool) -> None:
        class Kinked(LinearQuadratic):
            def step(self, states: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor) -> Outcome:
                outcome = super().step(states, actions, noise)
                return replace(outcome, rewards=outcome.rewards + (0.0 * actions).sqrt().sum(-1))

        ascent = replace(CONFIG.ascent, steps=2, rate=0.1, accept_only_better=accept)
        made = decide(plan, Kinked(0.5 * GAIN), replace(CONFIG, ascent=ascent), make_context())
        assert made.fell_back.all()
        assert torch.equal(made.action, made.first_actions[:, 0])

    def test_what_is_handed_on_goes_on(self, plan: Callable[..., Plan]) -> None:
        """Two decisions of one step in one state, the noise the same, are one decision of two steps."""
        model, context = LinearQuadratic(0.5 * GAIN), make_context()
        keys = {"rate": 0.1, "accept_only_better": False}
        once, twice = (
            replace(CONFIG, ascent=replace(CONFIG.ascent, steps=steps, persistent=steps == 1, **keys))
            for steps in (1, 2)
        )
        first = decide(plan, model, once, context)
        assert len(first.carry) == 3
        if plan is action_ascent:
            carried = first.carry[0]["actions"]
            assert torch.equal(carried[-1], carried[-2]), "moved on by a step, the last one repeated"
            return
        second = decide(plan, model, once, replace(context, carry=first.carry))
        assert torch.allclose(second.action, decide(plan, model, twice, context).action, atol=1e-12)
        assert torch.equal(model.gain, 0.5 * GAIN)
        fresh = decide(plan, model, once, replace(context, carry=(None, *first.carry[1:])))
        assert torch.equal(fresh.action[0], first.action[0]) and torch.equal(fresh.action[1:], second.action[1:])
        assert decide(plan, model, twice, context).carry == ()

    def test_exploration_adds_noise(self, plan: Callable[..., Plan]) -> None:
        ascent = replace(CONFIG.ascent, steps=1, exploration_noise=0.2)
        still = decide(plan, LinearQuadratic(0.5 * GAIN), replace(CONFIG, ascent=ascent), make_context())
        noisy = decide(
            plan, LinearQuadratic(0.5 * GAIN), replace(CONFIG, ascent=ascent, select="sample"), make_context()
        )
        assert torch.equal(still.first_actions, noisy.first_actions)
        assert (noisy.action != still.action).all() and (noisy.selected == -1).all()

    @pytest.mark.parametrize(
        ("changes", "keys", "message"),
        [
            ({"horizon": 0}, {}, r"needs planner\.horizon >= 1"),
            ({}, {"rate": 0.0}, r"needs planner\.ascent\.rate > 0"),
            ({}, {"num_noise": 0}, r"needs planner\.ascent\.num_noise >= 1"),
            ({}, {"model_pessimism": 1.0}, r"planner\.ascent\.model_pessimism: asks for an ensemble"),
            ({}, {"uncertainty_penalty": 1.0}, r"planner\.ascent\.uncertainty_penalty: asks for an ensemble"),
        ],
    )
    def test_settings_that_mean_nothing_are_refused(
        self, plan: Callable[..., Plan], changes: dict, keys: dict, message: str
    ) -> None:
        config = replace(CONFIG, ascent=replace(CONFIG.ascent, **keys), **changes)
        with pytest.raises(PlannerError, match=message):
            decide(plan, LinearQuadratic(GAIN), config, make_context())

    def test_members_share_the_futures_equally(self, plan: Callable[..., Plan]) -> None:
        model = LinearQuadratic(GAIN)
        model.num_members = 3
        config = replace(CONFIG, ascent=replace(CONFIG.ascent, num_noise=4))
        with pytest.raises(PlannerError, match="4 is not divisible by the 3 members"):
            decide(plan, model, config, make_context())

    def test_a_model_without_a_gradient_is_refused(self, plan: Callable[..., Plan]) -> None:
        class Opaque(LinearQuadratic):
            def step(self, states: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor) -> Outcome:
                return super().step(states.detach(), actions.detach(), noise)

        with pytest.raises(PlannerError, match="no gradient in the actions"):
            decide(plan, Opaque(GAIN), CONFIG, make_context())

    def test_a_policy_that_does_not_know_what_to_do_is_refused(self, plan: Callable[..., Plan]) -> None:
        with pytest.raises(PlannerError, match="not finite"):
            decide(plan, LinearQuadratic(GAIN * torch.nan), CONFIG, make_context())

    def test_recomputing_changes_nothing(self, plan: Callable[..., Plan]) -> None:
        model, context = LinearQuadratic(0.5 * GAIN, spread=0.1), make_context()
        ascent = replace(CONFIG.ascent, steps=3, num_noise=8)
        kept, again = (
            decide(plan, model, replace(CONFIG, ascent=replace(ascent, recompute=recompute)), context)
            for recompute in (False, True)
        )
        assert torch.equal(kept.action, again.action)


def test_a_policy_without_parameters_is_refused() -> None:
    class Fixed(LinearQuadratic):
        def parameters(self) -> Mapping[str, torch.Tensor]:
            return {}

    with pytest.raises(PlannerError, match="has none"):
        decide(gradient_mpc, Fixed(GAIN), CONFIG, make_context())
