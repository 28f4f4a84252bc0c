"""Policies of the imagination family that decide in one pass, as modules of torch alone."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from system.config import PlannerConfig
from system.families.imagination.agent import ImaginationAgent


class QuasiOptimalProgram(nn.Module):
    """`quasi_optimal`: the mode of the values' own actor.

    Args:
        agent: its value networks.
    """

    def __init__(self, agent: ImaginationAgent) -> None:
        super().__init__()
        self.values = agent.values

    def forward(
        self,
        observations: Float[torch.Tensor, "B T S"],
        actions: Float[torch.Tensor, "B T-1 A"],
        valid: Bool[torch.Tensor, "B T"],
        steps: Int64[torch.Tensor, "B"],
    ) -> Float[torch.Tensor, "B A"]:
        """Reads the newest observation alone."""
        return self.values.policy(observations[:, -1]).mode()


class DistilledProgram(nn.Module):
    """`ipd` and `decision_transformer`: the distilled policy, and what it is asked by.

    Args:
        agent: its transformer and values.
        planner: target-return ratio.
        by_value: V of each state is asked for.
    """

    def __init__(self, agent: ImaginationAgent, planner: PlannerConfig, *, by_value: bool) -> None:
        super().__init__()
        self.agent = agent
        self.ratio = planner.target_return_ratio
        self.by_value = by_value

    def forward(
        self,
        observations: Float[torch.Tensor, "B T S"],
        actions: Float[torch.Tensor, "B T-1 A"],
        valid: Bool[torch.Tensor, "B T"],
        steps: Int64[torch.Tensor, "B"],
    ) -> Float[torch.Tensor, "B A"]:
        """Reads the whole window."""
        if self.by_value:
            asked = self.agent.value(observations)
        else:
            asked = self.agent.asked_returns(steps, self.ratio, observations.shape[1])
        return self.agent.model.newest(observations, actions, asked, valid)


def one_pass(name: str, agent: ImaginationAgent, planner: PlannerConfig) -> nn.Module | None:
    """The policy of this name, if it decides in one pass."""
    if name == "quasi_optimal":
        return QuasiOptimalProgram(agent)
    if name in ("ipd", "decision_transformer"):
        return DistilledProgram(agent, planner, by_value=name == "ipd")
    return None
