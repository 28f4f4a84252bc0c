"""What acting needs, as one module: the distilled policy, world model, values, and what to ask for."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import nn

from system.config import RunConfig
from system.data.store.statistics import DatasetStatistics
from system.families.imagination.model import DistilledPolicy
from system.models.probabilistic_ensemble import ProbabilisticEnsemble
from system.seeding import derive_seed
from system.types import TaskSpec
from system.values.critics import ValueNetworks


class ImaginationAgent(nn.Module):
    """The distilled policy, the world model it was imagined in, and the values it is asked by.

    Args:
        task: dimensions and time limit.
        config: sizes; also the seed of the initial weights.
    """

    target_returns: torch.Tensor
    low_returns: torch.Tensor
    reliable_disagreement: torch.Tensor

    def __init__(self, task: TaskSpec, config: RunConfig) -> None:
        super().__init__()
        self.task = task
        dims = (task.observation_dim, task.action_dim)
        world, critic = config.method.world, config.method.critic
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "weights"))
            self.model = DistilledPolicy(*dims, config.method.model)
            self.world = ProbabilisticEnsemble(
                *dims,
                num_members=world.num_members,
                hidden_width=world.hidden_width,
                hidden_layers=world.hidden_layers,
            )
            self.values = ValueNetworks(
                *dims,
                hidden_width=critic.hidden_width,
                num_critics=critic.num_critics,
                layer_norm=critic.layer_norm,
            )
        self.register_buffer("target_returns", torch.zeros(task.max_episode_steps))
        self.register_buffer("low_returns", torch.zeros(task.max_episode_steps))
        self.register_buffer("reliable_disagreement", torch.tensor(torch.inf))

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.target_returns.device

    def perceive(self, observations: np.ndarray, game: int) -> np.ndarray:
        """What of the environment's observations is remembered: all of it."""
        return observations

    def set_statistics(self, statistics: DatasetStatistics) -> None:
        """Takes over the training split's statistics; they travel with the weights from then on."""
        mean = torch.from_numpy(statistics.observation_mean.copy())
        std = torch.from_numpy(statistics.observation_std.copy())
        for module in (self.model, self.values):
            module.observation_mean.copy_(mean)
            module.observation_std.copy_(std)
        self.world.set_scales(mean, std, statistics.reward_mean, statistics.reward_std)
        self.model.return_scale.copy_(torch.tensor([statistics.return_mean, statistics.return_std]))
        self.values.return_mean.fill_(statistics.return_mean)
        self.values.return_std.fill_(statistics.return_std)
        self.target_returns.copy_(torch.from_numpy(statistics.target_returns.copy()))
        self.low_returns.copy_(torch.from_numpy(statistics.low_returns.copy()))

    def value(self, observations: Float[torch.Tensor, "*batch S"]) -> Float[torch.Tensor, "*batch"]:
        """V, in discounted return."""
        flat = self.values.standardized_v(observations.reshape(-1, observations.shape[-1]))
        return (self.values.return_mean + self.values.return_std * flat).view(observations.shape[:-1])

    def targets(self, ratio: float) -> Float[torch.Tensor, "steps"]:
        """The return-to-go to ask for, by step since the episode's beginning: at 0 the lowest that was seen, or 0
        where none is negative; at 1 the best."""
        return self.low_returns + ratio * (self.target_returns - self.low_returns)

    def asked_returns(
        self, steps: Int[torch.Tensor, "B"], ratio: float, length: int
    ) -> Float[torch.Tensor, "B T"]:
        """The same at each step of a window of T that ends at `steps`."""
        window = steps[:, None] - torch.arange(length - 1, -1, -1, device=steps.device)
        return self.targets(ratio)[window.clamp(0, len(self.target_returns) - 1)]

    def raise_target_returns(self, table: Float32[np.ndarray, "steps"]) -> None:
        """Asks for what the best online episodes reached, once they are better than the offline ones."""
        online = torch.from_numpy(table.copy()).to(self.target_returns)
        self.target_returns.copy_(torch.maximum(self.target_returns, online))
