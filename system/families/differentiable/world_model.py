"""What follows an action: the next observation, drawn; the reward; and whether the episode goes on.

The observation's change is drawn by a sampler (`samplers`) in standard deviations of the data's changes. Reward
and the logit of termination are read off one perceptron of observation and action.
"""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from system.data.store.statistics import DatasetStatistics
from system.families.differentiable.config import DifferentiableConfig
from system.families.differentiable.samplers import Denoiser, MeanFlow, Sampler

LARGEST_OBSERVATION = 10.0
"""Standard deviations from the data's mean that an imagined observation is kept within."""


class WorldModel(nn.Module):
    """s′ = f(s, a, ε), r(s, a) and the probability that the episode goes on.

    Args:
        observation_dim, action_dim: S and A.
        config: kind and sizes.
    """

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

    def next_observations(
        self,
        observations: Float[torch.Tensor, "*B S"],
        actions: Float[torch.Tensor, "*B A"],
        noise: Float[torch.Tensor, "*B S"],
    ) -> Float[torch.Tensor, "*B S"]:
        """f(s, a, ε)."""
        change = self.dynamics.sample(self._condition(observations, actions), noise)
        following = observations + self.change_mean + self.change_std * change
        reach = LARGEST_OBSERVATION * self.observation_std
        return torch.clamp(following, self.observation_mean - reach, self.observation_mean + reach)

    def rewards_and_endings(
        self, observations: Float[torch.Tensor, "*B S"], actions: Float[torch.Tensor, "*B A"]
    ) -> tuple[Float[torch.Tensor, "*B"], Float[torch.Tensor, "*B"]]:
        """r(s, a) in the task's units, and the logit of termination."""
        reward, ending = self.outcome(self._condition(observations, actions)).unbind(-1)
        return self.reward_scale[0] + self.reward_scale[1] * reward, ending

    def losses(
        self,
        batch: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Terms of the loss, each the mean over a batch of steps.

        Args:
            batch: `observations`, `actions`, `rewards`, `next_observations`, `terminated`, and what is drawn:
                `noise` [B, S] standard normal and `times` [B, 3] uniform.
        """
        observations, actions = batch["observations"], batch["actions"]
        change = batch["next_observations"] - observations
        target = ((change - self.change_mean) / self.change_std).clamp(-LARGEST_OBSERVATION, LARGEST_OBSERVATION)
        errors = self.dynamics.errors(
            self._condition(observations, actions), target, batch["noise"], batch["times"]
        )
        rewards, ending = self.rewards_and_endings(observations, actions)
        return {
            "dynamics": errors.mean(),
            "reward": ((rewards - batch["rewards"]) / self.reward_scale[1]).square().mean(),
            "termination": functional.binary_cross_entropy_with_logits(ending, batch["terminated"].to(ending)),
        }

    def _condition(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return torch.cat([(observations - self.observation_mean) / self.observation_std, actions], dim=-1)
