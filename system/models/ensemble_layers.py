"""Layers whose E members work side by side in one batched product."""

import math

import torch
from jaxtyping import Float
from torch import nn


class EnsembleLinear(nn.Module):
    """E independent linear layers in one batched product."""

    def __init__(self, num_members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(num_members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_members, 1, outputs).uniform_(-bound, bound))

    def forward(self, inputs: Float[torch.Tensor, "E B in"]) -> Float[torch.Tensor, "E B out"]:
        """Applies member e to inputs[e]."""
        return torch.baddbmm(self.bias, inputs, self.weight)


def independent_members(
    num_members: int, inputs: int, hidden: int, outputs: int, *, hidden_layers: int
) -> nn.Sequential:
    """ReLU networks with LayerNorm that share nothing: the norms have no weights, which would be all members'.

    Args:
        num_members: E.
        inputs, hidden, outputs: widths.
        hidden_layers: at least 1.
    """
    layers: list[nn.Module] = []
    for size in (inputs, *(hidden for _ in range(hidden_layers - 1))):
        layers += [
            EnsembleLinear(num_members, size, hidden),
            nn.LayerNorm(hidden, elementwise_affine=False),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, EnsembleLinear(num_members, hidden, outputs))
