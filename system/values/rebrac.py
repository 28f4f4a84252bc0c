"""ReBRAC: a deterministic policy and its critics, both penalised for leaving the data's actions.

    critics:  (r + γ (1 − terminated) [min_e Q̄_e(s′, ã′) − β₂ ‖ã′ − a′‖²] − Q_e(s, a))²
              with ã′ = π̄(s′) + clipped noise
    policy:   β₁ ‖π(s) − a‖² − Q_1(s, π(s)) / mean |Q_1|,  and then both targets, every `actor_period` updates

The critics predict in standardised return units, as IQL's do; β₂ and the policy's loss are in the task's own.

Deviations from the paper (Tarasov et al. 2023) and its public code, with the reason:

- returns are standardised by an affine output layer fixed from the offline data, so that learning rates mean the
  same on every task, and observations too;
- LayerNorm stands before the ReLU of critics, as in the other value networks here;
- a step that was cut bootstraps; nothing was done at the observation after it, and β₂ punishes no distance there;
- mean |Q_1| is averaged over learners like a gradient, so that two of them on half batches are one on the whole.

Source: "Revisiting the Minimalist Approach to Offline Reinforcement Learning", arXiv 2305.09836, eqs. 3–4.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import nn

from system.config import ReBRACConfig
from system.errors import DataError
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
from system.values.critics import multilayer_perceptron
from system.values.transitions import transition_tensors

SMALLEST_SCALE = 1e-6


class DeterministicPolicy(nn.Sequential):
    """ReLU layers and a tanh: observations, standardised, to actions in [−1, 1]."""

    def __init__(self, observation_dim: int, action_dim: int, *, hidden_width: int, hidden_layers: int) -> None:
        layers: list[nn.Module] = []
        for size in (observation_dim, *[hidden_width] * (hidden_layers - 1)):
            layers += [nn.Linear(size, hidden_width), nn.ReLU()]
        super().__init__(*layers, nn.Linear(hidden_width, action_dim), nn.Tanh())


class ReBRACNetworks(nn.Module):
    """Policy, critics and the targets of both.

    Args:
        observation_dim, action_dim: S and A.
        config: sizes.
    """

    observation_mean: torch.Tensor
    observation_std: torch.Tensor
    return_mean: torch.Tensor
    return_std: torch.Tensor

    def __init__(self, observation_dim: int, action_dim: int, config: ReBRACConfig) -> None:
        super().__init__()
        self.num_critics = config.num_critics

        def policy() -> DeterministicPolicy:
            width, layers = config.hidden_width, config.hidden_layers
            return DeterministicPolicy(observation_dim, action_dim, hidden_width=width, hidden_layers=layers)

        def critics() -> nn.Sequential:
            inputs, width = observation_dim + action_dim, config.hidden_width
            members, layers = config.num_critics, config.hidden_layers
            return multilayer_perceptron(members, inputs, width, 1, config.layer_norm, hidden_layers=layers)

        self.policy, self.target_policy = policy(), policy()
        self.critics, self.target_critics = critics(), critics()
        for target, online in ((self.target_policy, self.policy), (self.target_critics, self.critics)):
            target.load_state_dict(online.state_dict())
            target.requires_grad_(False)
        self.register_buffer("observation_mean", torch.zeros(observation_dim))
        self.register_buffer("observation_std", torch.ones(observation_dim))
        self.register_buffer("return_mean", torch.zeros(()))
        self.register_buffer("return_std", torch.ones(()))

    def normalize(self, observations: Float[torch.Tensor, "*B S"]) -> Float[torch.Tensor, "*B S"]:
        """Standardises observations."""
        return (observations - self.observation_mean) / self.observation_std

    def act(
        self, observations: Float[torch.Tensor, "*B S"], parameters: Mapping[str, torch.Tensor] | None = None
    ) -> Float[torch.Tensor, "*B A"]:
        """What the policy does, with its own parameters or with others of the same names."""
        inputs = self.normalize(observations)
        if parameters is None:
            return self.policy(inputs)
        return torch.func.functional_call(self.policy, dict(parameters), (inputs,))

    def critic_inputs(
        self, observations: Float[torch.Tensor, "*B S"], actions: Float[torch.Tensor, "*B A"]
    ) -> Float[torch.Tensor, "*B inputs"]:
        """What the critics read: observations, standardised, and actions as they are."""
        return torch.cat([self.normalize(observations), actions], dim=-1)

    def q(
        self,
        observations: Float[torch.Tensor, "*B S"],
        actions: Float[torch.Tensor, "*B A"],
        *,
        target: bool = False,
    ) -> Float[torch.Tensor, "E *B"]:
        """Every member's Q, in discounted return, of the online or the target critics."""
        inputs = self.critic_inputs(observations, actions)
        flat = inputs.flatten(0, -2)
        network = self.target_critics if target else self.critics
        found = network(flat.expand(self.num_critics, *flat.shape)).squeeze(-1)
        return self.return_mean + self.return_std * found.unflatten(1, inputs.shape[:-1])


class ReBRAC:
    """Trains `ReBRACNetworks` on transitions.

    Args:
        networks: what is trained, in place.
        config: penalties and rates.
        discount: γ.
        average_gradients: called with the parameters between backward and step.
        graphed: whether updates are recorded and replayed (`system.models.graphed_step`).
    """

    def __init__(
        self,
        networks: ReBRACNetworks,
        config: ReBRACConfig,
        discount: float,
        average_gradients: AverageGradients,
        *,
        graphed: bool = False,
    ) -> None:
        self.networks = networks
        self.config = config
        self.discount = discount
        self.average_gradients = average_gradients
        device = networks.return_mean.device
        self.critic_parameters = list(networks.critics.parameters())
        self.policy_parameters = list(networks.policy.parameters())
        self.critic_optimizer, self.policy_optimizer = (
            torch.optim.Adam(each, lr=config.learning_rate, fused=has_fused_steps(device), capturable=graphed)
            for each in (self.critic_parameters, self.policy_parameters)
        )
        self._scale = nn.Parameter(torch.zeros((), device=device))
        self._critic_step = repeated_step(self._update_critics, device, graphed=graphed)
        self._joint_step = repeated_step(self._update_all, device, graphed=graphed)

    def update(
        self, batch: TransitionBatch, noise: Float[torch.Tensor, "B A"], index: int
    ) -> dict[str, torch.Tensor]:
        """One step of the critics, and at every `actor_period`-th index, from 0, of the policy and both targets;
        where a gradient is not finite nothing changes.

        Args:
            batch: with the actions that followed.
            noise: standard normal, of the target's next actions.
            index: of this update, among all of its stage.

        Raises:
            DataError: the batch does not say what was done next.
        """
        if batch.next_actions is None or batch.next_known is None:
            raise DataError("ReBRAC needs transitions with the actions that followed them")
        inputs = {
            **transition_tensors(batch),
            "next_actions": torch.tensor(batch.next_actions),
            "next_known": torch.tensor(batch.next_known),
            "noise": noise,
        }
        step = self._joint_step if index % self.config.actor_period == 0 else self._critic_step
        return step(inputs)

    def state(self) -> dict[str, torch.Tensor]:
        """Optimiser moments; the networks are saved by their owner."""
        return {
            **flatten_optimizer(self.critic_optimizer, "critic_optimizer"),
            **flatten_optimizer(self.policy_optimizer, "policy_optimizer"),
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        restore_optimizer(self.critic_optimizer, "critic_optimizer", state)
        restore_optimizer(self.policy_optimizer, "policy_optimizer", state)
        self._critic_step.forget()
        self._joint_step.forget()

    def _update_all(self, batch: Tensors) -> Tensors:
        metrics = self._update_critics(batch)
        return {**metrics, **self._update_policy(batch, metrics["critic/gradient_norm"])}

    def _update_critics(self, batch: Tensors) -> Tensors:
        networks = self.networks
        predictions = networks.q(batch["observations"], batch["actions"])
        error = (predictions - self._target(batch)) / networks.return_std
        loss = error.square().mean(1).sum()
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.average_gradients(self.critic_parameters)
        norm = _norm(self.critic_parameters)
        step_where_finite(self.critic_optimizer, norm)
        return {
            "critic/q_loss": loss.detach(),
            "critic/q_mean": predictions.mean().detach(),
            "critic/gradient_norm": norm,
        }

    def _update_policy(self, batch: Tensors, critic_norm: torch.Tensor) -> Tensors:
        """With the critics, or not at all."""
        networks, observations = self.networks, batch["observations"]
        actions = networks.act(observations)
        q = networks.q(observations, actions)[0]
        distance = (actions - batch["actions"]).square().sum(-1).mean()
        loss = self.config.actor_penalty * distance - q.mean() / self._mean_size(q)
        self.policy_optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=self.policy_parameters)
        self.average_gradients(self.policy_parameters)
        norm = _norm(self.policy_parameters)
        is_finite = step_where_finite(self.policy_optimizer, norm + critic_norm)
        share = self.config.target_update_rate * is_finite
        move_towards(networks.target_critics.parameters(), networks.critics.parameters(), share)
        move_towards(networks.target_policy.parameters(), networks.policy.parameters(), share)
        return {
            "policy/loss": loss.detach(),
            "policy/distance": distance.detach(),
            "policy/gradient_norm": norm,
        }

    def _mean_size(self, q: Float[torch.Tensor, "B"]) -> Float[torch.Tensor, ""]:
        """mean |Q| over the whole batch, of all learners."""
        self._scale.grad = q.detach().abs().mean()
        self.average_gradients([self._scale])
        return self._scale.grad.clamp_min(SMALLEST_SCALE)

    @torch.no_grad()
    def _target(self, batch: Tensors) -> Float[torch.Tensor, "B"]:
        networks, config = self.networks, self.config
        observations = batch["next_observations"]
        limit = config.target_noise_clip
        noise = (config.target_noise * batch["noise"]).clamp(-limit, limit)
        actions = (networks.target_policy(networks.normalize(observations)) + noise).clamp(-1.0, 1.0)
        distance = (actions - batch["next_actions"]).square().sum(-1) * batch["next_known"]
        value = networks.q(observations, actions, target=True).amin(0) - config.critic_penalty * distance
        going_on = 1.0 - batch["terminated"].to(value.dtype)
        return batch["rewards"] + self.discount * going_on * value


def _norm(parameters: list[nn.Parameter]) -> torch.Tensor:
    return nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
