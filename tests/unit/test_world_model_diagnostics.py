"""Open-loop error and coverage, of worlds that are known."""

import numpy as np
import pytest
import torch

from system.config import ReBRACConfig, RunConfig
from system.data.store.episodes import EpisodeStore
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.config import DifferentiableConfig
from system.families.differentiable.diagnostics import COVERED, open_loop_error
from system.models.protocols import Outcome
from system.types import Episode, TaskSpec

SCALE = 2.0


class Drifting(torch.nn.Module):
    """o′ = o + a + drift + spread · ε, r = a."""

    noise_dim = 2
    num_members = 1

    def __init__(self, drift: float, spread: float) -> None:
        super().__init__()
        self.drift, self.spread = drift, spread

    def imagine(self, observations: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor) -> Outcome:
        following = observations + actions + self.drift + self.spread * noise
        ones = torch.ones_like(actions[..., 0])
        return Outcome(following, actions[..., 0], ones, ones)


def drifting_store(spread: float) -> EpisodeStore:
    episodes = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        actions = generator.uniform(-1.0, 1.0, size=(12, 1)).astype(np.float32)
        steps = actions + 0.5 + spread * generator.normal(size=(12, 2))
        observations = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)]).astype(np.float32)
        episodes.append(Episode(observations, actions, actions[:, 0], False, True, True))
    return EpisodeStore.from_episodes(episodes, discount=0.9)


def agent_of(model: Drifting) -> WorldModelAgent:
    method = DifferentiableConfig(critic=ReBRACConfig(hidden_width=8))
    task = TaskSpec("Toy-v0", observation_dim=2, action_dim=1, max_episode_steps=12)
    agent = WorldModelAgent(task, RunConfig(family="differentiable", method=method))
    agent.model = model
    agent.values.observation_std.fill_(SCALE)
    return agent


@pytest.mark.parametrize("drift", [0.5, 0.9])
def test_errors_grow_by_what_is_missed_at_every_step(drift: float) -> None:
    error = open_loop_error(agent_of(Drifting(drift, 0.0)), drifting_store(0.0), horizon=5, num_starts=50, seed=0)
    ahead = np.arange(1, 5)
    assert np.allclose(error.states, (drift - 0.5) * ahead / SCALE, atol=1e-5)
    assert np.allclose(error.rewards, 0.0, atol=1e-6)
    assert len(error.rewards) == 5
    assert (error.unchanged > 0.5 * ahead / SCALE).all()


def test_coverage_is_what_it_should_be_where_the_spread_is_right() -> None:
    store = drifting_store(0.3)
    right, narrow, wide = (
        open_loop_error(agent_of(Drifting(0.5, spread)), store, horizon=4, num_starts=400, seed=0).coverage
        for spread in (0.3, 0.1, 1.0)
    )
    assert np.allclose(right, COVERED, atol=0.1)
    assert (narrow < 0.5).all() and (wide > 0.95).all()
