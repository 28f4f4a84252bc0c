"""Value networks: an ensemble of Q functions, V, and a Gaussian or categorical reference actor.

All of them predict in standardised units and return the task's own: Q = mean + std · network(s, a). The
affine map is fixed from the offline returns, so that networks start at the right scale.
"""

import torch
from jaxtyping import Float, Shaped
from torch import nn

from system.models.action_forms import action_form
from system.models.distributions import ActionDistribution, CategoricalActions, SquashedNormal
from system.models.ensemble_layers import EnsembleLinear


def multilayer_perceptron(
    num_members: int, inputs: int, hidden: int, outputs: int, layer_norm: bool, *, hidden_layers: int = 2
) -> nn.Sequential:
    """Hidden ReLU layers, E members side by side."""
    layers: list[nn.Module] = []
    for size in (inputs, *[hidden] * (hidden_layers - 1)):
        layers.append(EnsembleLinear(num_members, size, hidden))
        if layer_norm:
            layers.append(nn.LayerNorm(hidden))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, EnsembleLinear(num_members, hidden, outputs))


class ValueNetworks(nn.Module):
    """Twin (or larger) Q ensemble, its Polyak target, V, and the reference actor.

    Args:
        observation_dim, action_dim: S and A.
        hidden_width: of every hidden layer.
        num_critics: E.
        layer_norm: in Q and V.
        discrete: actions are numbers of A actions: Q reads them one-hot, and the actor's outputs are logits.
    """

    observation_mean: torch.Tensor
    observation_std: torch.Tensor
    return_mean: torch.Tensor
    return_std: torch.Tensor

    actor_log_std: nn.Parameter | None

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        *,
        hidden_width: int,
        num_critics: int,
        layer_norm: bool,
        discrete: bool = False,
    ) -> None:
        super().__init__()
        self.actions = action_form(action_dim, discrete=discrete)
        inputs = observation_dim + self.actions.num_inputs
        self.critics = multilayer_perceptron(num_critics, inputs, hidden_width, 1, layer_norm)
        self.target_critics = multilayer_perceptron(num_critics, inputs, hidden_width, 1, layer_norm)
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.target_critics.requires_grad_(False)
        self.value = multilayer_perceptron(1, observation_dim, hidden_width, 1, layer_norm)
        self.actor = multilayer_perceptron(1, observation_dim, hidden_width, action_dim, False)
        log_std = None if discrete else nn.Parameter(torch.full((action_dim,), -1.0))
        self.register_parameter("actor_log_std", log_std)
        self.num_critics = num_critics
        self.register_buffer("observation_mean", torch.zeros(observation_dim))
        self.register_buffer("observation_std", torch.ones(observation_dim))
        self.register_buffer("return_mean", torch.zeros(()))
        self.register_buffer("return_std", torch.ones(()))

    def normalize(self, observations: Float[torch.Tensor, "*B S"]) -> Float[torch.Tensor, "*B S"]:
        """Standardises observations."""
        return (observations - self.observation_mean) / self.observation_std

    def standardized_q(
        self,
        observations: Float[torch.Tensor, "B S"],
        actions: Shaped[torch.Tensor, "B *action"],
        *,
        target: bool = False,
    ) -> Float[torch.Tensor, "E B"]:
        """Every member's Q in standardised units, of the online or the target critics."""
        inputs = torch.cat([self.normalize(observations), self.actions.encode(actions)], dim=-1)
        network = self.target_critics if target else self.critics
        return network(inputs.expand(self.num_critics, *inputs.shape)).squeeze(-1)

    def standardized_v(self, observations: Float[torch.Tensor, "B S"]) -> Float[torch.Tensor, "B"]:
        """V in standardised units."""
        return self.value(self.normalize(observations)[None])[0].squeeze(-1)

    def q(
        self, observations: Float[torch.Tensor, "*B S"], actions: Shaped[torch.Tensor, "*batch_and_action"]
    ) -> Float[torch.Tensor, "*B"]:
        """The smallest member's Q(s, a), in discounted return; both have the same leading axes, at least one."""
        last = observations.ndim - 2
        flat = self.standardized_q(observations.flatten(0, last), actions.flatten(0, last)).amin(0)
        return (self.return_mean + self.return_std * flat).view(observations.shape[:-1])

    def policy(self, observations: Float[torch.Tensor, "B S"]) -> ActionDistribution:
        """The reference actor's action distribution; a Gaussian's spread is the same in every state."""
        outputs = self.actor(self.normalize(observations)[None])[0]
        if self.actor_log_std is None:
            return CategoricalActions(outputs)
        return SquashedNormal(outputs, self.actor_log_std.clamp(-5.0, 1.0).expand_as(outputs))
