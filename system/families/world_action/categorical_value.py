"""Returns as distributions over Z fixed atoms: the head that predicts them, and Bellman's shift of them.

Source: Bellemare et al. 2017, "A Distributional Perspective on Reinforcement Learning" (C51), algorithm 1;
JOWA section 4.1.3.
"""

import math

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from system.families.world_action.config import WorldActionConfig
from system.models.ensemble_layers import EnsembleLinear

INITIAL_SPREAD = 0.05


def expected_value(
    log_probabilities: Float[torch.Tensor, "*B Z"], support: Float[torch.Tensor, "Z"]
) -> Float[torch.Tensor, "*B"]:
    """Mean of each distribution over the support."""
    # A product and a sum: as a matrix product, autocast would compute it in bfloat16.
    return (log_probabilities.exp() * support).sum(dim=-1)


def mixture(log_probabilities: Float[torch.Tensor, "E *B Z"]) -> Float[torch.Tensor, "*B Z"]:
    """Logarithm of the members' mean probabilities."""
    return log_probabilities.logsumexp(dim=0) - math.log(len(log_probabilities))


def project_distribution(
    probabilities: Float[torch.Tensor, "*B Z"],
    shift: Float[torch.Tensor, "*B"],
    scale: Float[torch.Tensor, "*B"],
    support: Float[torch.Tensor, "Z"],
) -> Float[torch.Tensor, "*B Z"]:
    """Distribution of shift + scale · G on the support, where G is distributed as given.

    Each atom goes to its new value, or to the support's end if that lies beyond, and its probability is
    divided between the two atoms beside it, the nearer one taking more: the mean is kept.

    Args:
        probabilities: of G on the support.
        shift: r_t, or a sum of discounted rewards.
        scale: γ (to the power of the number of steps); 0 behind a terminal state: all mass at r_t.
        support: Z ≥ 2 values at equal distances, ascending.

    Returns:
        Probabilities; each row sums to 1 as its input did.

    Source: C51, algorithm 1.
    """
    low, spacing = support[0], support[1] - support[0]
    moved = (shift[..., None] + scale[..., None] * support).clamp(support[0], support[-1])
    index = torch.arange(len(support), device=support.device)
    # Rows: new atoms; columns: old ones. Dense sums, not scattered ones, give the same bits every time; as a
    # matrix product, autocast would compute them in bfloat16.
    distance = ((moved - low) / spacing)[..., None, :] - index[:, None]
    nearness = (1.0 - distance.abs()).clamp_min(0.0)
    return (nearness * probabilities[..., None, :]).sum(dim=-1)


class CategoricalValueHead(nn.Module):
    """E perceptrons that give every action a distribution of its return; predictions are their mean.

    It begins at a return of 0, whatever the state: bootstrapping forgets a wrong beginning only by a factor
    γ with each copy of the target.

    Args:
        width: of the features.
        num_actions: A.
        config: hidden width, members, atoms and dropout.
    """

    support: torch.Tensor

    def __init__(self, width: int, num_actions: int, config: WorldActionConfig) -> None:
        super().__init__()
        members, hidden, atoms = config.num_q_heads, config.q_width, config.num_atoms
        self.num_actions = num_actions
        self.register_buffer("support", torch.linspace(config.value_low, config.value_high, atoms))
        self.first = EnsembleLinear(members, width, hidden)
        self.first_norm = nn.LayerNorm(hidden)
        self.second = EnsembleLinear(members, hidden, hidden)
        self.second_norm = nn.LayerNorm(hidden)
        self.output = EnsembleLinear(members, hidden, num_actions * atoms)
        self.dropout = nn.Dropout(config.q_dropout)
        spread = INITIAL_SPREAD * (config.value_high - config.value_low)
        with torch.no_grad():
            self.output.weight.zero_()
            self.output.bias.copy_((-self.support.abs() / spread).repeat(num_actions))

    def forward(self, features: Float[torch.Tensor, "*B D"]) -> Float[torch.Tensor, "*B A Z"]:
        """Logarithms of the probabilities of every action's atoms, averaged over the members."""
        hidden = self.trunk(features)
        logits = self.output(hidden.flatten(1, -2) if hidden.ndim > 2 else hidden[:, None]).float()
        logits = logits.view(*hidden.shape[:-1], self.num_actions, len(self.support))
        return mixture(logits.log_softmax(dim=-1))

    def expected(self, features: Float[torch.Tensor, "*B D"]) -> Float[torch.Tensor, "*B A"]:
        """Q of every action."""
        return expected_value(self(features), self.support)

    def trunk(self, features: Float[torch.Tensor, "*B D"]) -> Float[torch.Tensor, "E *B hidden"]:
        """Each member's last hidden layer."""
        flat = features.reshape(1, -1, features.shape[-1]).expand(self.first.weight.shape[0], -1, -1)
        hidden = functional.mish(self.first_norm(self.dropout(self.first(flat))))
        hidden = functional.mish(self.second_norm(self.second(hidden)))
        return hidden.view(len(hidden), *features.shape[:-1], hidden.shape[-1])
