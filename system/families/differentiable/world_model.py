"""What follows an action: the next observation, drawn; the reward; and whether the episode goes on.

The observation's change is drawn by a sampler (`samplers`) in standard deviations of the data's changes. Reward
and the logit of termination are read off one perceptron of observation and action.
"""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from system.data.store.statistics import DatasetStatistics
from system.families.differentiable.config import DifferentiableConfig
from system.families.differentiable.samplers import Denoiser, MeanFlow, Sampler
from system.models.protocols import Outcome

LARGEST_OBSERVATION = 10.0
"""Standard deviations from the data's mean that an imagined observation is kept within."""


class WorldModel(Protocol):
    """s′ = f(s, a, ε), r(s, a) and the probability that the episode goes on: a `torch.nn.Module`.

    Attributes:
        noise_dim, num_members: as of a `DifferentiableModel`.
    """

    noise_dim: int
    num_members: int

    def set_statistics(self, statistics: DatasetStatistics) -> None:
        """Takes over the training split's statistics."""
        ...

    def imagine(
        self,
        observations: Float[torch.Tensor, "B M S"],
        actions: Float[torch.Tensor, "B M A"],
        noise: Float[torch.Tensor, "M noise"],
        *,
        measure_disagreement: bool = False,
    ) -> Outcome:
        """One step of every future; disagreement is 0 where it is not measured or there is one member."""
        ...

    def losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Terms of the loss, each the mean over a batch of steps.

        Args:
            batch: `observations`, `actions`, `rewards`, `next_observations`, `terminated`, and what is drawn:
                `noise` [B, S] standard normal and `times` [B, 3] uniform.
        """
        ...


class GenerativeWorld(nn.Module):
    """A sampler of changes, and what goes with them.

    Args:
        observation_dim, action_dim: S and A.
        config: kind and sizes.

    Attributes:
        noise_dim, num_members: as of a `DifferentiableModel`.
    """

    num_members = 1

    observation_mean: torch.Tensor
    observation_std: torch.Tensor
    change_mean: torch.Tensor
    change_std: torch.Tensor
    reward_scale: torch.Tensor

    def __init__(self, observation_dim: int, action_dim: int, config: DifferentiableConfig) -> None:
        super().__init__()
        model = config.model
        inputs, sizes = observation_dim + action_dim, {"width": model.width, "layers": model.layers}
        self.dynamics: Sampler
        if model.kind == "mean_flow":
            share = config.training.average_velocity_share
            self.dynamics = MeanFlow(inputs, observation_dim, average_share=share, **sizes)
        else:
            levels, steps = model.diffusion_steps, model.sampling_steps
            self.dynamics = Denoiser(inputs, observation_dim, num_levels=levels, num_steps=steps, **sizes)
        hidden: list[nn.Module] = []
        for size in (inputs, *[model.width] * (model.layers - 1)):
            hidden += [nn.Linear(size, model.width), nn.SiLU()]
        self.outcome = nn.Sequential(*hidden, nn.Linear(model.width, 2))
        self.noise_dim = observation_dim
        self.register_buffer("observation_mean", torch.zeros(observation_dim))
        self.register_buffer("observation_std", torch.ones(observation_dim))
        self.register_buffer("change_mean", torch.zeros(observation_dim))
        self.register_buffer("change_std", torch.ones(observation_dim))
        self.register_buffer("reward_scale", torch.tensor([0.0, 1.0]))

    def set_statistics(self, statistics: DatasetStatistics) -> None:
        """Takes over the training split's statistics."""
        for name in ("observation_mean", "observation_std", "change_mean", "change_std"):
            getattr(self, name).copy_(torch.from_numpy(getattr(statistics, name).copy()))
        self.reward_scale.copy_(torch.tensor([statistics.reward_mean, statistics.reward_std]))

    def imagine(
        self,
        observations: Float[torch.Tensor, "B M S"],
        actions: Float[torch.Tensor, "B M A"],
        noise: Float[torch.Tensor, "M noise"],
        *,
        measure_disagreement: bool = False,
    ) -> Outcome:
        """One step of every future."""
        condition = self._condition(observations, actions)
        change = self.dynamics.sample(condition, noise.expand(*observations.shape[:2], -1))
        following = observations + self.change_mean + self.change_std * change
        rewards, ending = self._outcome(condition)
        return Outcome(
            keep_within(following, self.observation_mean, self.observation_std),
            rewards,
            torch.sigmoid(-ending),
            torch.zeros_like(rewards),
        )

    def losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Terms of the loss, as of `WorldModel`."""
        condition = self._condition(batch["observations"], batch["actions"])
        change = batch["next_observations"] - batch["observations"]
        target = ((change - self.change_mean) / self.change_std).clamp(-LARGEST_OBSERVATION, LARGEST_OBSERVATION)
        errors = self.dynamics.errors(condition, target, batch["noise"], batch["times"])
        rewards, ending = self._outcome(condition)
        return {
            "dynamics": errors.mean(),
            "reward": ((rewards - batch["rewards"]) / self.reward_scale[1]).square().mean(),
            "termination": functional.binary_cross_entropy_with_logits(ending, batch["terminated"].to(ending)),
        }

    def _outcome(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rewards in the task's units, and logits of termination."""
        reward, ending = self.outcome(condition).unbind(-1)
        return self.reward_scale[0] + self.reward_scale[1] * reward, ending

    def _condition(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return torch.cat([(observations - self.observation_mean) / self.observation_std, actions], dim=-1)


def keep_within(
    observations: Float[torch.Tensor, "*B S"], mean: Float[torch.Tensor, "S"], std: Float[torch.Tensor, "S"]
) -> Float[torch.Tensor, "*B S"]:
    """Observations no further than `LARGEST_OBSERVATION` standard deviations from the data's mean."""
    reach = LARGEST_OBSERVATION * std
    return torch.clamp(observations, mean - reach, mean + reach)
