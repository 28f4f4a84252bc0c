"""A tiny agent of the imagination family, and a world model whose every answer is known."""

from dataclasses import replace
from typing import Any

import torch

from system.config import CriticConfig, PlannerConfig, PretrainConfig, RunConfig
from system.data.store.episodes import EpisodeStore
from system.data.store.statistics import compute_statistics
from system.families.building import build_agent
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.config import (
    AugmentationConfig,
    DistillationConfig,
    DistilledModelConfig,
    WorldModelConfig,
)
from system.models.probabilistic_ensemble import Foresight
from tests.support import dataset_factory
from tests.support.configs import imagination_config

LIMIT = 30
TASK = replace(dataset_factory.TASK, max_episode_steps=LIMIT)


def tiny_config(**augmentation: Any) -> RunConfig:
    """Windows of five steps, of which two are imagined."""
    return imagination_config(
        model=DistilledModelConfig(context_length=5, width=16, num_layers=1, num_heads=2),
        world=WorldModelConfig(hidden_width=16),
        critic=CriticConfig(hidden_width=16, batch_size=8, updates_per_step=1),
        augmentation=AugmentationConfig(**{"horizon": 2, "ratio": 1.0, **augmentation}),
        training=DistillationConfig(batch_size=8, warmup_steps=2, foundation_share=0.5),
        pretrain=PretrainConfig(update_steps=8),
        planner=PlannerConfig(horizon=2, num_candidates=3, td_lambda=1.0, select="argmax"),
        discount=0.9,
    )


def tiny_store(*lengths: int, ending: str = "time_limit") -> EpisodeStore:
    """Episodes of random numbers."""
    episodes = [dataset_factory.make_episode(length, ending, seed, TASK) for seed, length in enumerate(lengths)]
    return EpisodeStore.from_episodes(episodes, discount=0.9)


def tiny_agent(config: RunConfig, store: EpisodeStore) -> ImaginationAgent:
    """Untrained, with the statistics of a store."""
    agent = build_agent(TASK, config, compute_statistics(store, LIMIT)).eval()
    assert isinstance(agent, ImaginationAgent)
    return agent


class KnownWorld(torch.nn.Module):
    """s′ = s + step; reward 1; never ends; members disagree about states whose first number is above `unsure`.

    Attributes:
        ends_above, unsure, breaks_above: of the first number of a state.
    """

    def __init__(self, agent: ImaginationAgent, step: float = 1.0) -> None:
        super().__init__()
        self.observation_mean = agent.world.observation_mean
        self.observation_std = agent.world.observation_std
        self.step = step
        self.ends_above = self.unsure = self.breaks_above = float("inf")

    def next_mean(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        following = observations + self.step
        return torch.where(observations[..., :1] > self.breaks_above, float("nan"), following)

    def forward(self, observations: torch.Tensor, actions: torch.Tensor) -> Foresight:
        following = self.next_mean(observations, actions)
        apart = 10.0 * (observations[..., :1] > self.unsure)
        return Foresight(
            means=torch.stack([following + apart, following - apart]),
            variances=torch.ones(2, *following.shape),
            rewards=torch.ones_like(following[..., 0]),
            ends=(observations[..., 0] > self.ends_above).float(),
        )


def in_known_world(agent: ImaginationAgent, value: float = 0.0, step: float = 1.0) -> KnownWorld:
    """Puts the agent into such a world, where V is the same everywhere and κ is 1."""
    world = KnownWorld(agent, step)
    agent.world = world  # type: ignore[assignment]
    agent.value = lambda observations: torch.full_like(observations[..., 0], value)  # type: ignore[method-assign]
    agent.reliable_disagreement.fill_(1.0)
    return world
