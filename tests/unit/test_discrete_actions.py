"""Discrete actions on vectors from data to decisions: a corridor is learnt, walked along and learnt from again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import masked_config

from system.config import CriticConfig, EvaluationConfig, OnlineConfig, PlannerConfig, PretrainConfig
from system.data.replay.buffer import ReplayBuffer
from system.data.store.episodes import EpisodeStore, gather_segments
from system.data.store.statistics import compute_statistics
from system.decisions import Context
from system.envs.vector import EnvironmentBatch
from system.evaluation.measurement import Measurer
from system.evaluation.policies import make_policy
from system.evaluation.rollouts import play_episodes
from system.families.masked_trajectory import guidance
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.open_loop import open_loop_error
from system.families.masked_trajectory.plan_imagination import Expectations
from system.families.masked_trajectory.policies import TRAJECTORY_POLICIES
from system.families.registry import policy_traits
from system.models.optimizer_state import keep_gradients
from system.planning.history import History
from system.planning.random_policies import random_policy
from system.training.learner_worker import LearnerWorker
from system.training.protocols import Exploration, RolloutRequest, UpdateRequest
from system.training.rollout_worker import RolloutWorker
from system.types import TaskSpec, TransitionBatch
from system.values.critics import ValueNetworks
from system.values.iql import IQL
from tests.support.dataset_factory import TASK as CONTINUOUS
from tests.support.discrete_factory import TASK, numbered_episode

CONFIG = masked_config(
    discount=0.97,
    model=ModelConfig(context_length=4, width=16, encoder_layers=1, decoder_layers=1, num_heads=2),
    training=TrajectoryTrainingConfig(batch_size=32, learning_rate=5e-3, warmup_steps=5, weight_average=0.9),
    critic=CriticConfig(hidden_width=32, batch_size=64, updates_per_step=1, learning_rate=5e-3),
    planner=PlannerConfig(horizon=2, num_candidates=16),
    pretrain=PretrainConfig(update_steps=100),
    online=OnlineConfig(environments_per_worker=2),
    evaluation=EvaluationConfig(num_environments=4),
)
LEAST_RETURN = {"q_only": -5.0, "iql": -5.0, "forward_mpc_q": -7.0, "forward_mpc_m": -9.0}
HORIZON = 3


@pytest.fixture(scope="module")
def store() -> EpisodeStore:
    """Of a policy that knows nothing."""
    batch = EnvironmentBatch(TASK.environment_id, 8)
    generator = torch.Generator().manual_seed(0)
    play = play_episodes(random_policy(TASK), batch, range(100), history_length=2, generator=generator)
    batch.close()
    return EpisodeStore.from_episodes([played.episode for played in play.episodes], discount=CONFIG.discount)


@pytest.fixture(scope="module")
def worker(store: EpisodeStore) -> LearnerWorker:
    """After the offline stage."""
    replay = ReplayBuffer(store, context_length=4, max_episode_steps=TASK.max_episode_steps)
    foundation = compute_statistics(store, TASK.max_episode_steps)
    worker = LearnerWorker(TASK, CONFIG, foundation, replay)
    worker.update(UpdateRequest("offline", 0, CONFIG.pretrain.update_steps))
    return worker


@pytest.fixture(scope="module")
def agent(worker: LearnerWorker) -> TrajectoryAgent:
    agent = TrajectoryAgent(TASK, CONFIG).eval()
    agent.load_state_dict(worker.weights())
    return agent


def test_returns_are_of_rewards_and_not_of_their_signs() -> None:
    episode = replace(numbered_episode(2, "terminated"), rewards=np.array([-0.5, 4.0], np.float32))
    for actions in (episode.actions, np.zeros((2, 1), np.float32)):
        kept = EpisodeStore.from_episodes([replace(episode, actions=actions)], discount=0.5)
        assert kept.returns_to_go.tolist() == [1.5, 4.0]
    tokens = replace(episode, observations=np.zeros((3, 4), np.int16))
    assert EpisodeStore.from_episodes([tokens], discount=0.5).returns_to_go.tolist() == [-0.5, 1.0]


def test_actions_stay_numbers_all_the_way(store: EpisodeStore) -> None:
    batch = gather_segments(store, np.array([0, 1]), np.array([0, 3]), 4)
    assert batch.actions.dtype == np.int64
    assert batch.actions.shape == (2, 4)
    assert not batch.actions[0, :3].any()
    history = History(2, 4, 3, (), action_dtype=np.int64)
    assert history.context(np.array([0]), torch.zeros(1), 3).actions.dtype == torch.int64


@pytest.mark.parametrize("policy", [name for name in TRAJECTORY_POLICIES if not policy_traits(name).reaches])
def test_every_policy_walks_the_corridor(policy: str, agent: TrajectoryAgent) -> None:
    """The best takes 4 steps, the data's 11 on average; what looks at values knows more after so few updates."""
    measurer = Measurer(agent, TASK, CONFIG, lambda: None)
    measured = measurer.measure(policy, None, 0, 8)
    measurer.close()
    assert len(measured.returns) == 8
    if policy in LEAST_RETURN:
        assert np.mean(measured.returns) > LEAST_RETURN[policy]


@pytest.mark.parametrize("select", ["sample", "expectation", "argmax"])
def test_decisions_are_numbers_of_actions(select: str, agent: TrajectoryAgent) -> None:
    history = History(3, 4, 3, (), action_dtype=np.int64)
    history.reset([0, 1, 2], np.zeros((3, 3), np.float32))
    planner = replace(CONFIG.planner, select=select)
    policy = make_policy("forward_mpc_q", agent, TASK, CONFIG, planner)
    decision = policy.act(history, np.array([0, 2]), torch.Generator().manual_seed(0))
    assert decision.action.dtype == np.int64
    assert decision.action.shape == (2,)


def test_exploring_draws_first_actions_by_their_probability(agent: TrajectoryAgent) -> None:
    history = History(1, 4, 3, (), action_dtype=np.int64)
    history.reset([0], np.zeros((1, 3), np.float32))
    planner = replace(CONFIG.planner, select="sample", temperature=0.3)
    policy = make_policy("forward_mpc_q", agent, TASK, CONFIG, planner)
    generator = torch.Generator().manual_seed(0)
    decisions = [policy.act(history, np.array([0]), generator) for _ in range(150)]
    drawn = np.bincount([int(each.action[0]) for each in decisions], minlength=3) / 150
    plans = [each.plan for each in decisions if each.plan is not None]
    expected = [np.mean([float(p.probabilities[p.first_actions == a].sum()) for p in plans]) for a in range(3)]
    assert drawn == pytest.approx(expected, abs=0.12)
    assert drawn.max() < 0.95


def test_what_is_explored_is_learnt_from(worker: LearnerWorker) -> None:
    rollouts = RolloutWorker(0, 0, TASK, CONFIG, worker.replay)
    rollouts.set_weights(worker.weights(), 3)
    request = RolloutRequest(4, 0, 3, Exploration("forward_mpc_q", 1.0))
    result = rollouts.collect(request)
    rollouts.close()
    assert np.mean(result.returns) > -8.0
    assert worker.replay.stats().online_episodes == 4
    metrics = worker.update(UpdateRequest("online", 0, 3, 0.5))
    assert all(np.isfinite(value) for value in metrics.values())
    assert 0.0 < metrics["trajectory/entropy"] < np.log(TASK.action_dim)


def test_the_open_loop_error_follows_recorded_actions(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the model that knows how the corridor moves."""
    agent = TrajectoryAgent(TASK, CONFIG)

    def imagine(
        model: object, context: Context, plans: torch.Tensor, modalities: tuple[int, ...]
    ) -> Expectations:
        moves = 0.5 * (plans[:, :, :-1] - 1)
        start = context.observations[:, None, -1, :1]
        place = torch.cat([start, start + moves.cumsum(-1)], dim=-1)
        states = torch.stack([place, place**2, torch.ones_like(place)], dim=-1)
        return Expectations(states, torch.zeros_like(place), -torch.ones_like(place))

    monkeypatch.setattr(guidance, "imagine_plans", imagine)
    error = open_loop_error(agent, store, discount=0.97, horizon=HORIZON, num_starts=64, seed=0)
    assert error is not None
    assert error.states == pytest.approx(np.zeros(HORIZON - 1), abs=1e-5)
    assert error.rewards == pytest.approx(np.zeros(HORIZON), abs=1e-5)
    assert error.unchanged.min() > 0.1


def test_critics_tell_actions_apart_by_their_numbers() -> None:
    """One step, after which all is over: Q is its reward."""
    torch.manual_seed(0)
    networks = ValueNetworks(1, 3, hidden_width=32, num_critics=2, layer_norm=False, discrete=True)
    learner = IQL(networks, CriticConfig(learning_rate=1e-2), 0.9, keep_gradients)
    actions = np.arange(48) % 3
    batch = TransitionBatch(
        observations=np.zeros((48, 1), np.float32),
        actions=actions,
        rewards=np.array([1.0, -1.0, 0.5], np.float32)[actions],
        next_observations=np.zeros((48, 1), np.float32),
        terminated=np.ones(48, dtype=bool),
    )
    for _ in range(150):
        learner.update(batch)
    with torch.no_grad():
        values = networks.q(torch.zeros(2, 3, 1), torch.arange(3).expand(2, 3))
        policy = networks.policy(torch.zeros(1, 1))
    assert values.shape == (2, 3)
    assert values[0].tolist() == pytest.approx([1.0, -1.0, 0.5], abs=0.1)
    assert policy.mode().tolist() == [0]
    assert "actor_log_std" not in networks.state_dict()


@pytest.mark.parametrize("task", [TASK, CONTINUOUS], ids=["numbers", "vectors"])
def test_random_policies_draw_where_their_generator_is(task: TaskSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws are refused on another device than their generator's, which is that of the model."""
    devices: list[object] = []
    for name in ("rand", "randint"):
        original = getattr(torch, name)

        def draw(*sizes: object, _original: object = original, **settings: object) -> torch.Tensor:
            devices.append(settings["device"])
            assert callable(_original)
            result: torch.Tensor = _original(*sizes, **settings)
            return result

        monkeypatch.setattr(torch, name, draw)
    generator = torch.Generator().manual_seed(0)
    history = History(3, 2, task.observation_dim, ())
    decision = random_policy(task).act(history, np.array([0, 2]), generator)
    assert devices == [generator.device]
    assert decision.action.dtype == (np.int64 if task.is_discrete else np.float32)
    assert len(decision.action) == 2
