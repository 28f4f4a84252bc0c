"""What acting needs, as one module: the world model, the policy and its critics."""

import numpy as np
import torch
from torch import nn

from system.config import RunConfig
from system.data.store.statistics import DatasetStatistics
from system.families.differentiable.ensemble_world import EnsembleWorld
from system.families.differentiable.world_model import GenerativeWorld
from system.seeding import derive_seed
from system.types import TaskSpec
from system.values.rebrac import ReBRACNetworks


class WorldModelAgent(nn.Module):
    """A policy within a world that it can imagine.

    Args:
        task: dimensions.
        config: sizes; also the seed of the initial weights.
    """

    def __init__(self, task: TaskSpec, config: RunConfig) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "weights"))
            world = EnsembleWorld if config.method.model.kind == "ensemble" else GenerativeWorld
            self.model = world(task.observation_dim, task.action_dim, config.method)
            self.values = ReBRACNetworks(task.observation_dim, task.action_dim, config.method.critic)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.values.return_mean.device

    def perceive(self, observations: np.ndarray, game: int) -> np.ndarray:
        """What of the environment's observations is remembered: all of it."""
        return observations

    def set_statistics(self, statistics: DatasetStatistics) -> None:
        """Takes over the training split's statistics; they travel with the weights from then on."""
        self.model.set_statistics(statistics)
        self.values.observation_mean.copy_(torch.from_numpy(statistics.observation_mean.copy()))
        self.values.observation_std.copy_(torch.from_numpy(statistics.observation_std.copy()))
        self.values.return_mean.fill_(statistics.return_mean)
        self.values.return_std.fill_(statistics.return_std)
