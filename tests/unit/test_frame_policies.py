"""Acting on frames by name: what each policy chooses, in environments whose histories differ in length."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import with_method, world_config

from system.config import EvaluationConfig, PlannerConfig, RunConfig
from system.errors import ConfigError
from system.evaluation import measurement
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.config import TokenizerConfig, WorldActionConfig, WorldActionTrainingConfig
from system.families.world_action.imagination import WorldActionImagination
from system.families.world_action.policies import FRAME_POLICIES
from system.planning.beam_search import beam_search
from system.planning.history import History
from system.planning.random_policies import WithRandomActions
from system.seeding import torch_generator
from system.types import TaskSpec

VALID = (0, 2, 3, 5)
TASK = TaskSpec(
    "Toy-v0", 84 * 84, action_dim=6, max_episode_steps=100, frame_shape=(84, 84), valid_actions=VALID, game=7
)
PLANNER = PlannerConfig(name="beam_search", horizon=2, beam_width=3, select="argmax")
CONFIG = world_config(
    tokenizer=TokenizerConfig(vocabulary=16, tokens_per_side=2),
    model=WorldActionConfig(context_length=4, width=16, num_layers=1, num_heads=2, q_width=16, num_atoms=11),
    planner=PLANNER,
)
ROWS = np.array([2, 0])


@pytest.fixture(scope="module")
def agent() -> WorldActionAgent:
    return make_agent(CONFIG)


def make_agent(config: RunConfig) -> WorldActionAgent:
    agent = WorldActionAgent(TASK, config).eval()
    with torch.no_grad():
        for name, parameter in agent.model.named_parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch_generator(0, name))
    return agent


def make_history() -> History:
    """Three environments at their third, second and seventh step."""
    generator = np.random.default_rng(0)
    history = History(3, 4, 4, (), observation_dtype=np.int16, action_dtype=np.int64)
    for step in range(7):
        tokens = generator.integers(16, size=(3, 4), dtype=np.int16)
        starting = [row for row, start in enumerate((4, 5, 0)) if start == step]
        if starting:
            history.reset(starting, tokens[starting])
        active = np.array([start < step for start in (4, 5, 0)])
        history.append(generator.choice(VALID, size=3), tokens, active)
    return history


def act(
    name: str, agent: WorldActionAgent, planner: PlannerConfig = PLANNER, seed: int = 0, config: RunConfig = CONFIG
) -> np.ndarray:
    policy = FRAME_POLICIES[name](agent, agent.task, replace(config, planner=planner), planner)
    return policy.act(make_history(), ROWS, torch.Generator().manual_seed(seed)).action


@torch.no_grad()
def whole_pass(agent: WorldActionAgent, row: int, num_frames: int) -> torch.Tensor:
    """Output at the last token of an environment's present frame, of the newest frames that there are."""
    history = make_history()
    count = min(num_frames, int(history.valid[row].sum()))
    tokens = torch.from_numpy(history.observations[row, -count:].astype(np.int64))[None]
    actions = torch.zeros(1, count, dtype=torch.int64)
    if count > 1:
        actions[0, :-1] = torch.from_numpy(history.actions[row, 1 - count :])
    return agent.model(tokens, actions, torch.tensor([TASK.game]))[0, -1, -2]


def best_valid(scores: torch.Tensor) -> int:
    return max(VALID, key=lambda action: scores[action].item())


@pytest.mark.parametrize("name", ["random", "q_greedy", "beam"])
def test_actions_are_numbers_of_valid_actions(name: str, agent: WorldActionAgent) -> None:
    for select in ("sample", "argmax", "expectation"):
        actions = act(name, agent, replace(PLANNER, select=select))
        assert actions.shape == (2,) and actions.dtype == np.int64
        assert set(actions.tolist()) <= set(VALID)


def test_random_buttons_are_all_pressed(agent: WorldActionAgent) -> None:
    policy = FRAME_POLICIES["random"](agent, agent.task, CONFIG, PLANNER)
    generator = torch.Generator().manual_seed(0)
    drawn = [policy.act(make_history(), np.zeros(4000, dtype=int), generator).action for _ in range(2)]
    counts = np.bincount(drawn[0], minlength=6)
    assert np.allclose(counts[list(VALID)] / 4000, 0.25, atol=0.03) and counts.sum() == counts[list(VALID)].sum()
    assert not np.array_equal(*drawn)


def test_a_share_of_the_decisions_is_replaced_by_any_button(agent: WorldActionAgent) -> None:
    greedy = FRAME_POLICIES["q_greedy"](agent, agent.task, CONFIG, PLANNER)
    rows, generator = np.zeros(4000, dtype=int), torch.Generator().manual_seed(0)
    chosen = greedy.act(make_history(), rows[:1], generator).action[0]
    decision = WithRandomActions(greedy, VALID, 0.4).act(make_history(), rows, generator)
    counts = np.bincount(decision.action, minlength=6) / 4000
    expected = [0.4 / 4 * (action in VALID) + 0.6 * (action == chosen) for action in range(6)]
    assert np.allclose(counts, expected, atol=0.03)
    assert decision.plan is not None
    same = WithRandomActions(greedy, VALID, 0.0).act(make_history(), rows, generator)
    assert (same.action == chosen).all()


@pytest.mark.parametrize(
    ("share", "frames", "wrapped"), [(0.1, True, True), (0.0, True, False), (0.1, False, False)]
)
def test_evaluation_replaces_actions_of_games_alone(
    share: float, frames: bool, wrapped: bool, agent: WorldActionAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "EnvironmentBatch", lambda *arguments, **named: None)
    config = replace(CONFIG, evaluation=EvaluationConfig(random_action_share=share))
    task = TASK if frames else replace(TASK, frame_shape=None)
    policy = measurement.Measurer(agent, task, config, lambda: None)._policy("random", None)
    assert isinstance(policy.policy, WithRandomActions) == wrapped


def test_q_greedy_takes_the_largest_value_of_as_many_frames_as_were_valued(agent: WorldActionAgent) -> None:
    actions = act("q_greedy", agent)
    for action, row in zip(actions.tolist(), ROWS.tolist(), strict=True):
        assert action == best_valid(agent.model.q_values(whole_pass(agent, row, 3)))


def test_beam_plans_with_what_the_horizon_leaves_of_the_frames(agent: WorldActionAgent) -> None:
    policy = FRAME_POLICIES["beam"](agent, agent.task, CONFIG, PLANNER)
    decision = policy.act(make_history(), ROWS, torch.Generator())
    context = make_history().token_context(ROWS, 1, TASK.game, agent.valid_actions[TASK.game])
    assert context.valid_actions[0].tolist() == [action in VALID for action in range(6)]
    expected = beam_search(
        WorldActionImagination(agent.model, CONFIG.discount), context, config=PLANNER, generator=torch.Generator()
    )
    assert decision.plan is not None
    assert torch.equal(decision.plan.utilities, expected.utilities)
    assert decision.action.tolist() == expected.action.tolist()


@pytest.mark.parametrize("name", ["q_greedy", "beam"])
def test_bfloat16_changes_utilities_by_its_rounding_alone(name: str, agent: WorldActionAgent) -> None:
    utilities = []
    for precision in ("float32", "bfloat16"):
        planner = replace(PLANNER, precision=precision)
        policy = FRAME_POLICIES[name](agent, agent.task, replace(CONFIG, planner=planner), planner)
        plan = policy.act(make_history(), ROWS, torch.Generator()).plan
        assert plan.utilities.dtype == torch.float32
        utilities.append(plan.utilities[~torch.isneginf(plan.utilities)])
    difference = (utilities[0] - utilities[1]).abs().max().item()
    assert 1e-6 < difference < 0.02 * utilities[0].abs().max().item()
    assert torch.is_autocast_enabled("cpu") is False


def test_exploring_draws_and_evaluating_does_not(agent: WorldActionAgent) -> None:
    explore = replace(PLANNER, select="sample", temperature=0.1)
    for name in ("q_greedy", "beam"):
        assert len({tuple(act(name, agent, explore, seed).tolist()) for seed in range(8)}) > 1
        means = replace(PLANNER, select="expectation")
        assert {tuple(act(name, agent, means, seed).tolist()) for seed in range(3)} == {tuple(act(name, agent))}


def test_a_clone_takes_the_likeliest_valid_action() -> None:
    agent = make_agent(with_method(CONFIG, training=WorldActionTrainingConfig(objective="clone")))
    for action, row in zip(act("clone", agent).tolist(), ROWS.tolist(), strict=True):
        assert action == best_valid(agent.model.clone_logits(whole_pass(agent, row, 3)))


def test_a_sampled_clone_draws_valid_actions_as_often_as_they_are_likely() -> None:
    agent = make_agent(with_method(CONFIG, training=WorldActionTrainingConfig(objective="clone")))
    row = int(ROWS[0])
    # No action is so unlikely that it might never be drawn.
    with torch.no_grad():
        for parameter in agent.model.clone_output.parameters():
            parameter *= 0.2
    logits = agent.model.clone_logits(whole_pass(agent, row, 3))
    likely = logits.masked_fill(~agent.valid_actions[TASK.game], -torch.inf).softmax(dim=-1).detach().numpy()
    policy = FRAME_POLICIES["clone_sampled"](agent, agent.task, CONFIG, PLANNER)
    drawn = policy.act(make_history(), np.full(4000, row), torch.Generator().manual_seed(0)).action
    counts = np.bincount(drawn, minlength=6)
    assert np.allclose(counts / 4000, likely, atol=0.03)
    assert (counts > 0).sum() == len(VALID)


@pytest.mark.parametrize("name", ["clone", "clone_sampled"])
def test_a_clone_needs_an_agent_that_imitates(agent: WorldActionAgent, name: str) -> None:
    with pytest.raises(ConfigError, match="cloning needs an agent that imitates"):
        act(name, agent)


@pytest.mark.parametrize("name", ["q_greedy", "beam"])
def test_an_agent_that_imitates_has_no_values_to_act_on(name: str) -> None:
    config = with_method(CONFIG, training=WorldActionTrainingConfig(objective="clone"))
    with pytest.raises(ConfigError, match=r"^evaluation\.policies: .*training\.objective: clone does not train$"):
        act(name, make_agent(config), config=config)


def test_an_agent_that_also_imitates_takes_the_best_of_the_likely_actions() -> None:
    agent = make_agent(with_method(CONFIG, training=WorldActionTrainingConfig(clone_weight=1.0)))
    likeliest, best = act("clone", agent), act("q_greedy", agent)
    assert likeliest.tolist() != best.tolist()
    for name in ("q_greedy", "beam"):
        assert act(name, agent, replace(PLANNER, support_threshold=1.0)).tolist() == likeliest.tolist()


def test_a_horizon_that_leaves_no_frame_is_refused(agent: WorldActionAgent) -> None:
    with pytest.raises(
        ConfigError, match=r"planner\.horizon: 4 must be less than world_action\.model\.context_length - 1 = 3"
    ):
        act("beam", agent, replace(PLANNER, horizon=4))
