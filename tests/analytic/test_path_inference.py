"""A model that learnt a linear system infers its analytic paths, and the actions that walk them."""

import numpy as np
import pytest
import torch
from configs import masked_config

from system.config import CriticConfig, PlannerConfig, PretrainConfig
from system.data.store.episodes import EpisodeStore, gather_segments
from system.data.store.statistics import compute_statistics
from system.decisions import UNTIMED, Context, GoalStates
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.learner import M3PCLearner
from system.families.masked_trajectory.paths import GoalPaths
from system.planning.backward_mpc import backward_mpc
from system.types import Episode, TaskSpec

WINDOW, AHEAD, UPDATES = 5, 3, 300
TASK = TaskSpec("Line-v0", observation_dim=2, action_dim=2, max_episode_steps=12)
PLANNER = PlannerConfig(name="backward_mpc", horizon=AHEAD)


def wander(seed: int) -> Episode:
    """o′ = o + a under independent actions: given where a stretch ends, its steps are exchangeable, so that the
    path to expect is the straight line of equal steps, whatever came before."""
    generator = np.random.default_rng(seed)
    actions = generator.uniform(-0.9, 0.9, size=(12, 2))
    path = np.cumsum(np.concatenate([0.3 * generator.normal(size=(1, 2)), actions]), axis=0)
    return Episode(
        observations=path.astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=np.zeros(12, np.float32),
        terminated=False,
        truncated=True,
        complete=True,
    )


@pytest.fixture(scope="module")
def agent() -> TrajectoryAgent:
    store = EpisodeStore.from_episodes([wander(seed) for seed in range(200)], discount=0.9)
    config = masked_config(
        model=ModelConfig(
            context_length=WINDOW, width=32, encoder_layers=1, decoder_layers=1, num_heads=2, partial_states=True
        ),
        training=TrajectoryTrainingConfig(
            batch_size=64,
            learning_rate=3e-3,
            mask_shares={"path_inference": 0.5, "inverse_dynamics": 0.5},
            weight_average=0.95,
            warmup_steps=20,
        ),
        critic=CriticConfig(hidden_width=8, updates_per_step=0),
        planner=PLANNER,
        pretrain=PretrainConfig(update_steps=UPDATES),
    )
    agent = TrajectoryAgent(TASK, config)
    agent.set_statistics(compute_statistics(store, 12))
    learner, generator = M3PCLearner(agent, config), np.random.default_rng(0)
    for step in range(UPDATES):
        episode = generator.integers(store.num_episodes, size=64)
        last = generator.integers(WINDOW - 1, 12, size=64)
        learner.update(gather_segments(store, episode, last, WINDOW), [], stage="offline", step=step)
    agent.load_state_dict(learner.weights())
    return agent.eval()


def question(named: list[bool], batch: int = 64) -> tuple[Context, torch.Tensor]:
    """Pasts that the model never saw with goals within reach, and the analytic paths there."""
    episodes = [wander(1000 + seed) for seed in range(batch)]
    path = torch.tensor(np.stack([each.observations for each in episodes]))
    actions = torch.tensor(np.stack([each.actions for each in episodes]))
    known = torch.tensor(named).expand(batch, -1)
    now, goal = path[:, WINDOW - 1], path[:, WINDOW + AHEAD - 1]
    context = Context(
        path[:, :WINDOW],
        actions[:, : WINDOW - 1],
        torch.ones(batch, WINDOW, dtype=torch.bool),
        torch.zeros(batch),
        GoalStates(goal.where(known, 99.0), known, torch.full((batch,), UNTIMED)),
    )
    share = torch.linspace(0.0, 1.0, AHEAD + 1)[None, :, None]
    # Nothing is expected of a dimension that is not asked for: its actions are 0 in the mean.
    return context, now[:, None] + share * torch.where(known, goal - now, 0.0)[:, None]


@pytest.mark.parametrize("named", [[True, True], [True, False]])
@torch.no_grad()
def test_the_inferred_path_is_the_analytic_one(named: list[bool], agent: TrajectoryAgent) -> None:
    context, path = question(named)
    paths = GoalPaths(agent.model, agent.observation_change)
    plan = backward_mpc(paths, context, config=PLANNER, generator=torch.Generator())
    assert plan.imagined_observations is not None
    off, walked = plan.imagined_observations[:, 0] - path, path - path[:, :1]
    steps = path[:, 1] - path[:, 0]
    assert root_mean_square(off[..., named]) < 0.4 * root_mean_square(walked[..., named]), "0.6 if it stood still"
    assert root_mean_square((plan.action - steps)[:, named]) < 0.5 * root_mean_square(steps[:, named])


def root_mean_square(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())
