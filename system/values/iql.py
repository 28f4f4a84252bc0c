"""Implicit Q-learning: the critics that guide planning, and a reference actor.

Losses, in standardised return units (so that β and learning rates mean the same on every task):

    V:      L_τ(min_e Q̄_e(s, a) − V(s)),  L_τ(u) = |τ − 1(u < 0)| u²
    Q_e:    (r + γ (1 − terminated) V(s′) − Q_e(s, a))²
    actor:  − exp(β (min_e Q̄_e(s, a) − V(s))) log π(a | s), weights cut at 100

Deviations from the paper (Kostrikov et al. 2021): returns are standardised by an affine output layer that is
fixed from the offline data; critics may have LayerNorm and more than two members; truncated steps bootstrap.
Of discrete actions Q reads one of them, one-hot, as it reads a vector, rather than giving a value for each: the
losses are the same ones, with a categorical actor.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import nn
from torch.nn import functional

from system.config import CriticConfig
from system.models.distributions import ActionDistribution
from system.models.optimizer_state import (
    AverageGradients,
    flatten_optimizer,
    restore_optimizer,
    step_if_finite,
)
from system.types import TransitionBatch
from system.values.critics import ValueNetworks

LARGEST_ADVANTAGE_WEIGHT = 100.0


def expectile_loss(difference: Float[torch.Tensor, "B"], expectile: float) -> Float[torch.Tensor, ""]:
    """Mean of |τ − 1(u < 0)| u².

    Args:
        difference: u = target − prediction.
        expectile: τ in [0.5, 1).
    """
    weight = torch.where(difference > 0, expectile, 1.0 - expectile)
    return (weight * difference.square()).mean()


def actor_loss(
    policy: ActionDistribution,
    actions: Shaped[torch.Tensor, "B *action"],
    advantage: Float[torch.Tensor, "B"],
    beta: float,
) -> Float[torch.Tensor, ""]:
    """Advantage-weighted negative log-likelihood of the data's actions."""
    weight = torch.exp(beta * advantage).clamp(max=LARGEST_ADVANTAGE_WEIGHT)
    return -(weight * policy.log_prob(actions)).mean()


class IQL:
    """Trains `ValueNetworks` on transitions.

    Args:
        networks: what is trained, in place.
        config: sizes and rates.
        discount: γ.
        average_gradients: called with the parameters between backward and step.
    """

    def __init__(
        self, networks: ValueNetworks, config: CriticConfig, discount: float, average_gradients: AverageGradients
    ) -> None:
        self.networks = networks
        self.config = config
        self.discount = discount
        self.average_gradients = average_gradients
        self.parameters = [parameter for parameter in networks.parameters() if parameter.requires_grad]
        fused = self.parameters[0].device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.learning_rate, fused=fused)

    def update(self, batch: TransitionBatch) -> dict[str, torch.Tensor]:
        """One step of V, Q and actor from one batch, then of the target critics."""
        device = self.networks.return_mean.device
        observations = torch.tensor(batch.observations, device=device)
        actions = torch.tensor(batch.actions, device=device)
        target_q, advantage = self._value_targets(observations, actions)
        value_difference = target_q - self.networks.standardized_v(observations)
        value_loss = expectile_loss(value_difference, self.config.expectile)
        predictions = self.networks.standardized_q(observations, actions)
        critic_loss = functional.mse_loss(predictions, self._bootstrap(batch, device).expand_as(predictions))
        policy_loss = actor_loss(
            self.networks.policy(observations), actions, advantage, self.config.advantage_temperature
        )
        self.optimizer.zero_grad(set_to_none=True)
        (value_loss + critic_loss + policy_loss).backward()
        self.average_gradients(self.parameters)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if step_if_finite(self.optimizer, norm):
            self._move_target()
        return {
            "critic/value_loss": value_loss.detach(),
            "critic/q_loss": critic_loss.detach(),
            "critic/actor_loss": policy_loss.detach(),
            "critic/q_mean": (self.networks.return_mean + self.networks.return_std * predictions.mean()).detach(),
            "critic/advantage_std": advantage.std(unbiased=False),
            "critic/gradient_norm": norm,
        }

    def state(self) -> dict[str, torch.Tensor]:
        """Optimiser moments; the networks are saved by their owner."""
        return flatten_optimizer(self.optimizer, "critic_optimizer")

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        restore_optimizer(self.optimizer, "critic_optimizer", state)

    @torch.no_grad()
    def _value_targets(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        target_q = self.networks.standardized_q(observations, actions, target=True).amin(0)
        return target_q, target_q - self.networks.standardized_v(observations)

    @torch.no_grad()
    def _bootstrap(self, batch: TransitionBatch, device: torch.device) -> Float[torch.Tensor, "B"]:
        """(r + γ (1 − terminated) V(s′) − mean) / std; a truncated step bootstraps like any other."""
        networks = self.networks
        next_value = networks.standardized_v(torch.tensor(batch.next_observations, device=device))
        going_on = 1.0 - torch.tensor(batch.terminated, device=device, dtype=next_value.dtype)
        value = networks.return_mean + networks.return_std * next_value
        target = torch.tensor(batch.rewards, device=device) + self.discount * going_on * value
        return (target - networks.return_mean) / networks.return_std

    @torch.no_grad()
    def _move_target(self) -> None:
        rate = self.config.target_update_rate
        target, online = self.networks.target_critics, self.networks.critics
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), rate)
