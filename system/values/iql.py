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
from system.models.graphed_step import Tensors, repeated_step
from system.models.optimizer_state import (
    AverageGradients,
    flatten_optimizer,
    has_fused_steps,
    move_towards,
    restore_optimizer,
    step_where_finite,
)
from system.types import TransitionBatch
from system.values.critics import ValueNetworks
from system.values.transitions import transition_tensors

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
        graphed: whether updates are recorded and replayed (`system.models.graphed_step`).
    """

    def __init__(
        self,
        networks: ValueNetworks,
        config: CriticConfig,
        discount: float,
        average_gradients: AverageGradients,
        *,
        graphed: bool = False,
    ) -> None:
        self.networks = networks
        self.config = config
        self.discount = discount
        self.average_gradients = average_gradients
        self.parameters = [parameter for parameter in networks.parameters() if parameter.requires_grad]
        self.averaged = list(self.parameters)
        device = networks.return_mean.device
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=config.learning_rate, fused=has_fused_steps(device), capturable=graphed
        )
        self._step = repeated_step(self._update, device, graphed=graphed)

    def update(self, batch: TransitionBatch) -> dict[str, torch.Tensor]:
        """One step of V, Q and actor from one batch, then of the target critics; where the gradient is not finite
        all of them stay as they are."""
        return self._step(transition_tensors(batch))

    def _update(self, batch: Tensors) -> Tensors:
        networks, observations, actions = self.networks, batch["observations"], batch["actions"]
        values = networks.standardized_v(observations)
        with torch.no_grad():
            target_q = networks.standardized_q(observations, actions, target=True).amin(0)
        advantage = target_q - values.detach()
        value_loss = self._value_loss(target_q - values)
        predictions = networks.standardized_q(observations, actions)
        critic_loss = functional.mse_loss(predictions, self._bootstrap(batch).expand_as(predictions))
        policy_loss = actor_loss(
            networks.policy(observations), actions, advantage, self.config.advantage_temperature
        )
        self.optimizer.zero_grad(set_to_none=True)
        (value_loss + critic_loss + policy_loss).backward()
        self.average_gradients(self.averaged)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        is_finite = step_where_finite(self.optimizer, norm)
        target, online = networks.target_critics.parameters(), networks.critics.parameters()
        move_towards(target, online, self.config.target_update_rate * is_finite)
        self._after_step(is_finite)
        return {
            "critic/value_loss": value_loss.detach(),
            "critic/q_loss": critic_loss.detach(),
            "critic/actor_loss": policy_loss.detach(),
            "critic/q_mean": (networks.return_mean + networks.return_std * predictions.mean()).detach(),
            "critic/advantage_std": advantage.std(unbiased=False),
            "critic/gradient_norm": norm,
        }

    def state(self) -> dict[str, torch.Tensor]:
        """Optimiser moments; the networks are saved by their owner."""
        return flatten_optimizer(self.optimizer, "critic_optimizer")

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        restore_optimizer(self.optimizer, "critic_optimizer", state)
        self._step.forget()

    def _value_loss(self, difference: Float[torch.Tensor, "B"]) -> Float[torch.Tensor, ""]:
        """Of min Q̄ − V."""
        return expectile_loss(difference, self.config.expectile)

    def _after_step(self, is_finite: torch.Tensor) -> None:
        """What else is learnt by an update, where its gradient is finite."""

    @torch.no_grad()
    def _bootstrap(self, batch: Tensors) -> Float[torch.Tensor, "B"]:
        """(r + γ (1 − terminated) V(s′) − mean) / std; a truncated step bootstraps like any other."""
        networks = self.networks
        next_value = networks.standardized_v(batch["next_observations"])
        going_on = 1.0 - batch["terminated"].to(next_value.dtype)
        value = networks.return_mean + networks.return_std * next_value
        target = batch["rewards"] + self.discount * going_on * value
        return (target - networks.return_mean) / networks.return_std
