"""A world model that knows what it does not know: E Gaussian members, a reward model, and ends.

    member e    s′ ~ N(μ_e(s, a), Σ_e(s, a)), Σ_e diagonal and bounded           eq. 7
    ensemble    μ = 1/E Σ μ_e,  Σ = 1/E Σ Σ_e,  a draw is μ + Σ^½ ε               eq. 13
    loss        α_c L_c + α_r L_r                                                eq. 16
    L_c         `consistency`: ‖μ + Σ^½ ε − s′‖² + ‖γ_k (Σ − Σ_reg)‖²             eq. 14
                `likelihood`: mean over e of −2 log N(s′; μ_e, Σ_e), and the same regulariser
    γ_k         γ_0 exp(−k / T)                                                  eq. 15

All of it is in standard deviations of the data's observations and rewards; norms are means over the dimensions, so
that weights mean the same for every task. Every prediction is differentiable, in observations, actions and noise.

Deviations from the paper, with the reason:

- `likelihood` is the default. Equation 14 taken literally compares the members' mean alone with s′, so nothing
  makes any single member right and their disagreement says little; and E‖μ + Σ^½ ε − s′‖² = ‖μ − s′‖² + tr Σ pulls
  every variance to its lower bound once γ_k is gone. `consistency` is that equation, for comparison;
- μ_e is the present state plus a predicted change, which makes dynamics far easier to learn;
- beside the reward there is the probability that the step ends the episode: an imagined hopper that has fallen
  would go on to be paid for not having fallen;
- norms without weights in place of LayerNorm with some, and no dropout: the members share no parameter.

Source: Imaginary Planning Distillation, section 3.2, eqs. 7 and 13–16; table 2.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.nn import functional

from system.models.ensemble_layers import independent_members

Objective = Literal["likelihood", "consistency"]
LOWEST_LOG_VARIANCE, HIGHEST_LOG_VARIANCE = -10.0, 0.2


@dataclass(frozen=True)
class Foresight:
    """What the ensemble expects of actions, in the task's own units.

    Attributes:
        means, variances: of the next observation, of every member.
        rewards: of the step.
        ends: probability that the step ends the episode, in [0, 1].
    """

    means: Float[torch.Tensor, "E *batch S"]
    variances: Float[torch.Tensor, "E *batch S"]
    rewards: Float[torch.Tensor, "*batch"]
    ends: Float[torch.Tensor, "*batch"]

    @property
    def mean(self) -> Float[torch.Tensor, "*batch S"]:
        """μ, the mean over the members."""
        return self.means.mean(0)

    def sample(self, noise: Float[torch.Tensor, "*batch S"]) -> Float[torch.Tensor, "*batch S"]:
        """A next observation: μ + Σ^½ ε, with gradient.

        Args:
            noise: ε, standard normal.
        """
        return self.mean + self.variances.mean(0).sqrt() * noise


class ProbabilisticEnsemble(nn.Module):
    """E Gaussian world models and E models of reward and end, each kind as one batched module.

    Args:
        observation_dim, action_dim: S and A.
        num_members: E.
        hidden_width: of every hidden layer.
        hidden_layers: at least 1.
    """

    observation_mean: torch.Tensor
    observation_std: torch.Tensor
    reward_scale: torch.Tensor

    def __init__(
        self, observation_dim: int, action_dim: int, *, num_members: int, hidden_width: int, hidden_layers: int
    ) -> None:
        super().__init__()
        self.num_members = num_members
        inputs, sizes = observation_dim + action_dim, {"hidden_layers": hidden_layers}
        self.dynamics = independent_members(num_members, inputs, hidden_width, 2 * observation_dim, **sizes)
        self.outcome = independent_members(num_members, inputs, hidden_width, 2, **sizes)
        self.register_buffer("observation_mean", torch.zeros(observation_dim))
        self.register_buffer("observation_std", torch.ones(observation_dim))
        self.register_buffer("reward_scale", torch.tensor([0.0, 1.0]))

    def set_scales(
        self,
        observation_mean: Float[torch.Tensor, "S"],
        observation_std: Float[torch.Tensor, "S"],
        reward_mean: float,
        reward_std: float,
    ) -> None:
        """Takes over the training data's moments; they travel with the weights from then on."""
        self.observation_mean.copy_(observation_mean)
        self.observation_std.copy_(observation_std)
        self.reward_scale.copy_(torch.tensor([reward_mean, reward_std]))

    def forward(
        self, observations: Float[torch.Tensor, "*batch S"], actions: Float[torch.Tensor, "*batch A"]
    ) -> Foresight:
        """Foresees one step.

        Args:
            observations, actions: with the same leading axes, at least one; actions in [−1, 1].
        """
        leading = observations.shape[:-1]
        means, log_variances, rewards, logits = self.standardized(
            observations.reshape(-1, observations.shape[-1]), actions.reshape(-1, actions.shape[-1])
        )
        return Foresight(
            means=(self.observation_mean + self.observation_std * means).unflatten(1, leading),
            variances=(self.observation_std.square() * log_variances.exp()).unflatten(1, leading),
            rewards=(self.reward_scale[0] + self.reward_scale[1] * rewards.mean(0)).view(leading),
            ends=logits.mean(0).sigmoid().view(leading),
        )

    def next_mean(
        self, observations: Float[torch.Tensor, "B S"], actions: Float[torch.Tensor, "B A"]
    ) -> Float[torch.Tensor, "B S"]:
        """The mean of the next observation alone, at half the cost."""
        here, inputs = self._inputs(observations, actions)
        change = self.dynamics(inputs).chunk(2, dim=-1)[0]
        return self.observation_mean + self.observation_std * (here + change.mean(0))

    def standardized(
        self, observations: Float[torch.Tensor, "B S"], actions: Float[torch.Tensor, "B A"]
    ) -> tuple[
        Float[torch.Tensor, "E B S"],
        Float[torch.Tensor, "E B S"],
        Float[torch.Tensor, "E B"],
        Float[torch.Tensor, "E B"],
    ]:
        """Every member's means and logarithms of variances of the next observation, rewards and logits of ends, in
        standard deviations of the data."""
        here, inputs = self._inputs(observations, actions)
        change, raw = self.dynamics(inputs).chunk(2, dim=-1)
        rewards, logits = self.outcome(inputs).unbind(-1)
        return here + change, bounded_log_variance(raw), rewards, logits

    def _inputs(
        self, observations: Float[torch.Tensor, "B S"], actions: Float[torch.Tensor, "B A"]
    ) -> tuple[Float[torch.Tensor, "B S"], Float[torch.Tensor, "E B in"]]:
        """Standardised observations, and what every member reads."""
        here = (observations - self.observation_mean) / self.observation_std
        return here, torch.cat([here, actions], dim=-1).expand(self.num_members, -1, -1)


def bounded_log_variance(raw: torch.Tensor) -> torch.Tensor:
    """Maps an unbounded output smoothly into [LOWEST_LOG_VARIANCE, HIGHEST_LOG_VARIANCE]."""
    return LOWEST_LOG_VARIANCE + (HIGHEST_LOG_VARIANCE - LOWEST_LOG_VARIANCE) * raw.sigmoid()


def regulariser_scale(step: int, *, initial: float, decay_steps: float) -> float:
    """γ_k = γ_0 exp(−k / T) of eq. 15.

    Args:
        step: k, from 0.
        initial: γ_0.
        decay_steps: T, above 0.
    """
    return initial * math.exp(-step / decay_steps)


def world_losses(
    model: ProbabilisticEnsemble,
    observations: Float[torch.Tensor, "B S"],
    actions: Float[torch.Tensor, "B A"],
    rewards: Float[torch.Tensor, "B"],
    next_observations: Float[torch.Tensor, "B S"],
    terminated: Bool[torch.Tensor, "B"],
    *,
    noise: Float[torch.Tensor, "B S"],
    scale: Float[torch.Tensor, ""],
    regularised_log_variance: float,
    objective: Objective,
) -> dict[str, torch.Tensor]:
    """Every term of the loss, averaged over the batch.

    Args:
        model: whose losses.
        observations, actions, rewards, next_observations, terminated: recorded steps; truncation is no end.
        noise: ε of eq. 13, standard normal; of the objective `consistency` alone.
        scale: γ_k of eq. 15.
        regularised_log_variance: log of Σ_reg's diagonal.
        objective: which L_c.

    Returns:
        `transition`, the first term of L_c; `covariance`, the second; `reward` (L_r); `end`, a cross-entropy.

    Source: eqs. 13–16.
    """
    means, log_variances, predicted_rewards, logits = model.standardized(observations, actions)
    there = (next_observations - model.observation_mean) / model.observation_std
    variances = log_variances.exp()
    ensemble_variance = variances.mean(0)
    if objective == "consistency":
        transition = (means.mean(0) + ensemble_variance.sqrt() * noise - there).square().mean()
    else:
        transition = ((means - there).square() / variances + log_variances).mean()
    covariance = (scale * (ensemble_variance - math.exp(regularised_log_variance))).square().mean()
    standardized_rewards = (rewards - model.reward_scale[0]) / model.reward_scale[1]
    ended = terminated.to(logits.dtype).expand_as(logits)
    return {
        "transition": transition,
        "covariance": covariance,
        "reward": (predicted_rewards - standardized_rewards).square().mean(),
        "end": functional.binary_cross_entropy_with_logits(logits, ended),
    }
