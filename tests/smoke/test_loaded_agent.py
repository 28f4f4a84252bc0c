"""A trained policy in one's own program: batched as one by one, in bounds, with plans to look at."""

from pathlib import Path

import numpy as np
import pytest

import system
from system.cli.main import main
from system.envs.registry import find_task, make_environment
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError, PlannerError, ShapeError
from system.evaluation.policies import make_policy
from system.evaluation.rollouts import play_episodes
from system.runs.loaded_agent import LoadedAgent
from system.runs.saved_agent import open_agent
from system.seeding import torch_generator
from tests.support.tiny_games import GAME, write_tiny_game_config
from tests.support.tiny_runs import ENVIRONMENT, write_tiny_config

BOUND = 3.0  # of the pendulum's action


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    config = write_tiny_config(folder, evaluation={"policies": ["iql"], "episodes": 1})
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def game_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    config = write_tiny_game_config(folder, evaluation={"policies": ["q_greedy"], "episodes": 1})
    assert main(["pretrain", str(config), "--run-dir", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def observations(agent: LoadedAgent, steps: int, environments: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    if agent.task.frame_shape is not None:
        return generator.integers(0, 256, (steps, environments, *agent.task.frame_shape), dtype=np.uint8)
    shape = (steps, environments, agent.task.observation_dim)
    return generator.standard_normal(shape).astype(np.float32)


def act_alone(agent: LoadedAgent, seen: np.ndarray) -> np.ndarray:
    agent.reset()
    return np.stack([agent.act(each) for each in seen])


@pytest.mark.parametrize(("family", "policy"), [("run", "rcbc_mode"), ("run", "iql"), ("game_run", "beam")])
def test_several_environments_together_are_as_one_by_one(
    family: str, policy: str, request: pytest.FixtureRequest
) -> None:
    agent = system.load_agent(request.getfixturevalue(family), policy=policy, device="cpu")
    seen = observations(agent, steps=6, environments=3)
    agent.reset(3)
    together = np.stack([agent.act(each) for each in seen], axis=1)
    alone = np.stack([act_alone(agent, seen[:, row]) for row in range(3)])
    assert together.shape == alone.shape
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_an_environment_that_begins_anew_forgets_while_the_others_go_on(run: Path) -> None:
    agent = system.load_agent(run, policy="rcbc_mode", device="cpu")
    seen = observations(agent, steps=6, environments=2)
    agent.reset(2)
    for each in seen[:3]:
        agent.act(each)
    agent.restart([1])
    together = np.stack([agent.act(each) for each in seen[3:]], axis=1)
    np.testing.assert_allclose(together[0], act_alone(agent, seen[:, 0])[3:], atol=1e-5)
    np.testing.assert_allclose(together[1], act_alone(agent, seen[3:, 1]), atol=1e-5)


def test_it_acts_as_evaluation_does_in_the_environments_own_bounds(run: Path) -> None:
    saved = open_agent(run)
    task = saved.tasks[0]
    policy = make_policy("rcbc_mode", saved.agent, task, saved.config, saved.config.planner)
    environments = EnvironmentBatch(ENVIRONMENT, 1)
    played = play_episodes(
        policy, environments, [5], history_length=saved.config.context_length, generator=torch_generator(0)
    )
    environments.close()
    episode = played.episodes[0].episode
    actions = act_alone(system.load_agent(run, policy="rcbc_mode", device="cpu"), episode.observations[:-1])
    np.testing.assert_allclose(actions, BOUND * episode.actions, atol=1e-4)


@pytest.mark.parametrize("policy", ["random", "rcbc_mean", "forward_mpc_q", "iql"])
def test_actions_are_within_bounds_and_use_them(run: Path, policy: str) -> None:
    agent = system.load_agent(run, policy=policy, device="cpu")
    environment = make_environment(ENVIRONMENT)
    agent.reset(20)
    actions = np.concatenate([agent.act(each) for each in 5.0 * observations(agent, 5, 20)])
    environment.close()
    assert actions.shape == (100, 1)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= BOUND
    if policy == "random":
        assert np.abs(actions).max() > 1.0
        assert len(np.unique(actions)) == len(actions), "each decision draws anew"


def test_a_discrete_action_is_a_number_that_the_game_knows(game_run: Path) -> None:
    agent = system.load_agent(game_run, device="cpu")
    assert agent.policy == "beam"
    seen = observations(agent, steps=3, environments=1)
    agent.reset()
    action = agent.act(seen[0, 0])
    assert type(action) is int
    assert action in find_task(GAME).valid_actions
    agent.reset(1)
    assert agent.act(seen[0]).dtype == np.int64


def test_a_plan_is_what_will_be_done_and_looking_changes_nothing(run: Path) -> None:
    agent, other = (system.load_agent(run, policy="forward_mpc_q", device="cpu", seed=3) for _ in range(2))
    seen = observations(agent, steps=4, environments=2)
    agent.reset(2)
    other.reset(2)
    for each in seen:
        plans = [agent.plan(each) for _ in range(2)]
        assert isinstance(plans[0], system.Plan)
        assert plans[0].probabilities.shape == (2, agent.config.planner.num_candidates)
        np.testing.assert_array_equal(plans[0].action, plans[1].action)
        action = agent.act(each)
        np.testing.assert_allclose(action, BOUND * plans[0].action.numpy(), rtol=1e-5)
        np.testing.assert_array_equal(action, other.act(each))


def test_a_policy_that_does_not_plan_shows_the_configured_planners_plan(run: Path) -> None:
    actor = system.load_agent(run, policy="iql", device="cpu")
    planner = system.load_agent(run, device="cpu")
    seen = observations(actor, steps=1, environments=1)[0, 0]
    np.testing.assert_array_equal(actor.plan(seen).utilities, planner.plan(seen).utilities)
    without = system.load_agent(run, device="cpu", overrides={"planner.horizon": 0})
    with pytest.raises(ConfigError, match=r"planner\.horizon: 0 plans nothing"):
        without.plan(seen)


def test_wrong_observations_and_names_are_refused(run: Path) -> None:
    agent = system.load_agent(run, device="cpu")
    with pytest.raises(ShapeError, match=r"observation: \(5,\), but InvertedPendulum-v5 shows \(4,\)"):
        agent.act(np.zeros(5))
    with pytest.raises(ShapeError, match="observation: of 2 environments, but reset began 1"):
        agent.act(np.zeros((2, 4)))
    with pytest.raises(PlannerError, match="observation: not finite"):
        agent.act([0.0, np.nan, 0.0, 0.0])
    with pytest.raises(ShapeError, match="num_environments: 0"):
        agent.reset(0)
    with pytest.raises(ConfigError, match="unknown policy 'forward_mcp'"):
        system.load_agent(run, policy="forward_mcp")
    with pytest.raises(ConfigError, match="environment: 'Hopper-v5' is not one of the checkpoint's"):
        system.load_agent(run, environment="Hopper-v5")


def test_representations_are_of_each_row_by_itself(run: Path, game_run: Path) -> None:
    agent = system.load_agent(run, device="cpu")
    seen = observations(agent, steps=1, environments=3)[0]
    actions = np.zeros((3, agent.task.action_dim), np.float32)
    alone, both = agent.encode(seen), agent.encode(seen, actions)
    assert both.shape == (3, 2 * alone.shape[1])
    np.testing.assert_allclose(agent.encode(seen[1:2]), alone[1:2], atol=1e-5)
    assert not np.allclose(agent.encode(seen, actions + 0.5), both)
    with pytest.raises(ShapeError):
        agent.encode(seen[0])
    with pytest.raises(PlannerError, match="not finite"):
        agent.encode(seen * np.nan)
    with pytest.raises(ConfigError, match="has no representations"):
        system.load_agent(game_run, device="cpu").encode(np.zeros((1, 1), np.uint8))
