"""What acting needs, as one module: trajectory model, value networks and the target-return table."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import nn

from system.config import RunConfig
from system.data.store.statistics import DatasetStatistics
from system.families.masked_trajectory.model import MaskedTrajectoryModel
from system.seeding import derive_seed
from system.types import TaskSpec
from system.values.critics import ValueNetworks


class TrajectoryAgent(nn.Module):
    """The masked trajectory model, its critics, and how much return to ask for.

    Args:
        task: dimensions and time limit.
        config: sizes; also the seed of the initial weights.
    """

    target_returns: torch.Tensor
    low_returns: torch.Tensor
    observation_change: torch.Tensor

    ADDED_LATER = frozenset({"low_returns", "observation_change"})
    """Weights that checkpoints of earlier versions lack: the zeros that they start with are what was meant."""

    def __init__(self, task: TaskSpec, config: RunConfig) -> None:
        super().__init__()
        self.task = task
        critic = config.method.critic
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "weights"))
            self.model = MaskedTrajectoryModel(
                task.observation_dim, task.action_dim, config.method.model, discrete=task.is_discrete
            )
            self.values = ValueNetworks(
                task.observation_dim,
                task.action_dim,
                hidden_width=critic.hidden_width,
                num_critics=critic.num_critics,
                layer_norm=critic.layer_norm,
                discrete=task.is_discrete,
            )
        self.register_buffer("target_returns", torch.zeros(task.max_episode_steps))
        self.register_buffer("low_returns", torch.zeros(task.max_episode_steps))
        self.register_buffer("observation_change", torch.zeros(task.observation_dim))
        self.register_load_state_dict_pre_hook(_fill_added_later)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.target_returns.device

    def perceive(self, observations: np.ndarray, game: int) -> np.ndarray:
        """What of the environment's observations is remembered: all of it."""
        return observations

    def set_statistics(self, statistics: DatasetStatistics) -> None:
        """Takes over the training split's statistics; they travel with the weights from then on."""
        observation_mean = torch.from_numpy(statistics.observation_mean.copy())
        observation_std = torch.from_numpy(statistics.observation_std.copy())
        for module in (self.model, self.values):
            module.observation_mean.copy_(observation_mean)
            module.observation_std.copy_(observation_std)
        self.model.reward_scale.copy_(torch.tensor([statistics.reward_mean, statistics.reward_std]))
        self.model.return_scale.copy_(torch.tensor([statistics.return_mean, statistics.return_std]))
        self.values.return_mean.fill_(statistics.return_mean)
        self.values.return_std.fill_(statistics.return_std)
        self.target_returns.copy_(torch.from_numpy(statistics.target_returns.copy()))
        self.low_returns.copy_(torch.from_numpy(statistics.low_returns.copy()))
        change = np.hypot(statistics.change_mean, statistics.change_std).astype(np.float32)
        self.observation_change.copy_(torch.from_numpy(change))

    def target_return(self, steps: Int[torch.Tensor, "B"], ratio: float) -> Float[torch.Tensor, "B"]:
        """The return-to-go to ask for at each environment's step, between the lowest and the best one seen there.

        Args:
            steps: since the episode's beginning.
            ratio: 0 asks for the lowest, or for 0 where no return is negative; 1 for the best.
        """
        return self.targets(ratio)[steps.clamp(max=len(self.target_returns) - 1)]

    def targets(self, ratio: float) -> Float[torch.Tensor, "steps"]:
        """What `target_return` asks for, by step."""
        return self.low_returns + ratio * (self.target_returns - self.low_returns)

    def raise_target_returns(self, table: Float32[np.ndarray, "steps"]) -> None:
        """Asks for what the best online episodes reached, once they are better than the offline ones."""
        online = torch.from_numpy(table.copy()).to(self.target_returns)
        self.target_returns.copy_(torch.maximum(self.target_returns, online))


def _fill_added_later(agent: TrajectoryAgent, state: dict[str, Any], prefix: str, *others: Any) -> None:
    """Before loading: what the state lacks because it is of an earlier version."""
    for name in TrajectoryAgent.ADDED_LATER:
        state.setdefault(prefix + name, torch.zeros_like(getattr(agent, name)))
