"""The learnt policy as a module of torch alone."""

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import nn

from system.families.differentiable.agent import WorldModelAgent


class LearntPolicyProgram(nn.Module):
    """`rebrac`.

    Args:
        agent: its policy.
    """

    def __init__(self, agent: WorldModelAgent) -> None:
        super().__init__()
        self.values = agent.values

    def forward(
        self,
        observations: Shaped[torch.Tensor, "B T S"],
        actions: Shaped[torch.Tensor, "B T-1 *action"],
        valid: Bool[torch.Tensor, "B T"],
        steps: Int64[torch.Tensor, "B"],
    ) -> Shaped[torch.Tensor, "B *action"]:
        """Reads the newest observation alone."""
        return self.values.act(observations[:, -1])
