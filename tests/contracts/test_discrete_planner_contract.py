"""What every planner over discrete actions must do, whatever it plans with; a new planner or model is one line."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from system.config import PlannerConfig
from system.decisions import Plan, TokenContext
from system.errors import PlannerError
from system.families.world_action.imagination import WorldActionImagination
from system.models.protocols import DiscretePlanningModel
from system.planning.beam_search import beam_search
from tests.support.reference_beam_search import one, reference_utilities
from tests.support.tiny_world import make_token_context, make_world
from tests.support.toy_game import ToyGame

CONFIG = PlannerConfig(name="beam_search", horizon=2, beam_width=3, select="argmax")


def toy_game() -> tuple[DiscretePlanningModel, TokenContext]:
    """Tables, in four environments of two games."""
    model = ToyGame(num_states=20, num_actions=5, seed=8, invalid=(0, 3))
    return model, model.context([2, 7, 11, 2], [0, 1, 0, 1])


def world_action() -> tuple[DiscretePlanningModel, TokenContext]:
    """A world-action model in four environments of three games, two of them at the start of an episode."""
    return WorldActionImagination(make_world(), 0.9), make_token_context(3)


MODELS: dict[str, Callable[[], tuple[DiscretePlanningModel, TokenContext]]] = {
    "toy_game": toy_game,
    "world_action": world_action,
}
PLANNERS: dict[str, Callable[..., Plan]] = {"beam_search": beam_search}


def make_generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="module", params=MODELS)
def planned_with(request: pytest.FixtureRequest) -> tuple[DiscretePlanningModel, TokenContext]:
    return MODELS[request.param]()


@pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS)
class TestEveryDiscretePlanner:
    @pytest.mark.parametrize("scale", ["raw", "standardized"])
    @pytest.mark.parametrize("select", ["sample", "argmax"])
    def test_a_plan_is_whole(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext], select: str, scale: str
    ) -> None:
        model, context = planned_with
        num_environments, num_actions = context.valid_actions.shape
        config = replace(CONFIG, select=select, utility_scale=scale)
        plan = planner(model, context, config=config, generator=make_generator())
        assert plan.action.dtype == torch.int64
        assert plan.first_actions.tolist() == [list(range(num_actions))] * num_environments
        assert torch.equal(plan.action, plan.selected)
        rows = torch.arange(num_environments)
        assert bool(context.valid_actions[rows, plan.action].all())
        assert bool((plan.probabilities[~context.valid_actions] == 0).all())
        assert torch.allclose(plan.probabilities.sum(-1), torch.ones(num_environments))
        tried = ~torch.isneginf(plan.utilities)
        assert bool(torch.isfinite(plan.utilities[tried]).all())
        assert bool(tried[rows, plan.action].all())
        if select == "argmax":
            assert torch.equal(plan.action, plan.utilities.argmax(-1))

    def test_what_is_imagined_starts_at_the_present(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext]
    ) -> None:
        model, context = planned_with
        plan = planner(model, context, config=CONFIG, generator=make_generator())
        assert plan.imagined_observations is not None
        tokens = context.tokens[:, -1]
        assert plan.imagined_observations.shape[2:] == (CONFIG.horizon + 1, tokens.shape[-1])
        tried = ~torch.isneginf(plan.utilities)
        present = tokens[:, None].expand(-1, tried.shape[1], -1)
        assert torch.equal(plan.imagined_observations[:, :, 0][tried], present[tried])

    def test_the_generator_is_the_only_randomness(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext]
    ) -> None:
        model, context = planned_with
        config, before = replace(CONFIG, select="sample", temperature=0.1), torch.get_rng_state()
        first = planner(model, context, config=config, generator=make_generator())
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(999)
        second = planner(model, context, config=config, generator=make_generator())
        torch.set_rng_state(before)
        assert torch.equal(first.action, second.action)
        generator = make_generator()
        actions = [planner(model, context, config=config, generator=generator).action for _ in range(8)]
        assert len({tuple(each.tolist()) for each in actions}) > 1

    def test_batched_is_one_by_one(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext]
    ) -> None:
        model, context = planned_with
        together = planner(model, context, config=CONFIG, generator=make_generator())
        for row in range(len(context.tokens)):
            alone = planner(model, one(context, row), config=CONFIG, generator=make_generator())
            assert torch.allclose(together.utilities[row], alone.utilities[0], atol=1e-4, rtol=1e-5)
            assert torch.equal(together.action[row], alone.action[0])

    def test_guidance_without_end_is_argmax(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext]
    ) -> None:
        model, context = planned_with
        config = replace(CONFIG, select="sample", temperature=1e7)
        plan = planner(model, context, config=config, generator=make_generator())
        chosen = plan.utilities.gather(-1, plan.action[:, None])[:, 0]
        assert torch.equal(chosen, plan.utilities.amax(-1))

    def test_no_guidance_is_uniform_over_what_was_tried(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext]
    ) -> None:
        model, context = planned_with
        plan = planner(model, context, config=replace(CONFIG, temperature=0.0), generator=make_generator())
        tried = (~torch.isneginf(plan.utilities)).float()
        assert torch.allclose(plan.probabilities, tried / tried.sum(-1, keepdim=True))

    @pytest.mark.parametrize("horizon, width", [(0, 3), (2, 1)])
    def test_without_search_it_is_greedy(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext], horizon: int, width: int
    ) -> None:
        model, context = planned_with
        config = replace(CONFIG, horizon=horizon, beam_width=width)
        plan = planner(model, context, config=config, generator=make_generator())
        assert torch.equal(plan.action, model.begin(context)[1].argmax(-1))

    def test_an_expectation_is_refused(
        self, planner: Callable[..., Plan], planned_with: tuple[Any, TokenContext]
    ) -> None:
        model, context = planned_with
        with pytest.raises(PlannerError, match="select"):
            planner(model, context, config=replace(CONFIG, select="expectation"), generator=make_generator())

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    @pytest.mark.parametrize("place", ["root", "values", "rewards"])
    def test_a_model_that_dreams_what_is_no_number_is_not_acted_on(
        self, planner: Callable[..., Plan], value: float, place: str
    ) -> None:
        model, context = toy_game()
        assert isinstance(model, ToyGame)
        model.ends[:] = False
        if place == "rewards":
            model.rewards[model.next_state[7, 4]] = value
        else:
            model.values[7 if place == "root" else model.next_state[7], 4] = value
        with pytest.raises(PlannerError, match="NaN"):
            planner(model, context, config=replace(CONFIG, beam_width=5), generator=make_generator())


@pytest.mark.parametrize("horizon, width", [(1, 3), (2, 2), (2, 3)])
def test_beam_search_equals_the_plain_reference(
    planned_with: tuple[Any, TokenContext], horizon: int, width: int
) -> None:
    model, context = planned_with
    config = replace(CONFIG, horizon=horizon, beam_width=width)
    plan = beam_search(model, context, config=config, generator=make_generator())
    expected = torch.tensor(reference_utilities(model, context, horizon, width, config.td_lambda))
    assert torch.allclose(plan.utilities, expected, atol=1e-4, rtol=1e-5)
    assert torch.equal(plan.action, expected.argmax(-1))
