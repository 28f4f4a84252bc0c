"""Policies of the masked trajectory family that look at the past once and decide, as modules of torch alone."""

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import nn

from system.config import PlannerConfig
from system.decisions import Context
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.windows import action_distribution
from system.models.distributions import ActionDistribution, CategoricalActions


class ReferenceActorProgram(nn.Module):
    """`iql`: the mode of the critics' own actor.

    Args:
        agent: its value networks.
    """

    def __init__(self, agent: TrajectoryAgent) -> None:
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
        return _mode(self.values.policy(observations[:, -1]))


class ReturnConditionedProgram(nn.Module):
    """`rcbc_mode`: the mode of the return-conditioned distribution.

    Args:
        agent: its trajectory model and target-return table.
        planner: horizon and target-return ratio.
    """

    target_returns: torch.Tensor

    def __init__(self, agent: TrajectoryAgent, planner: PlannerConfig) -> None:
        super().__init__()
        self.model = agent.model
        self.horizon = max(1, planner.horizon)
        self.register_buffer("target_returns", agent.targets(planner.target_return_ratio))

    def forward(
        self,
        observations: Shaped[torch.Tensor, "B T S"],
        actions: Shaped[torch.Tensor, "B T-1 *action"],
        valid: Bool[torch.Tensor, "B T"],
        steps: Int64[torch.Tensor, "B"],
    ) -> Shaped[torch.Tensor, "B *action"]:
        """Reads the part of the window that is left of a plan."""
        start = self.horizon - 1
        target = self.target_returns[steps.clamp(0, len(self.target_returns) - 1)]
        context = Context(observations[:, start:], actions[:, start:], valid[:, start:], target)
        return _mode(action_distribution(self.model, context, self.horizon))[:, 0]


def one_pass(name: str, agent: TrajectoryAgent, planner: PlannerConfig) -> nn.Module | None:
    """The policy of this name, if it decides in one pass."""
    if name == "iql":
        return ReferenceActorProgram(agent)
    return ReturnConditionedProgram(agent, planner) if name == "rcbc_mode" else None


def _mode(distribution: ActionDistribution) -> torch.Tensor:
    """The mode, without the look at the values which a program can't have."""
    if isinstance(distribution, CategoricalActions):
        return distribution.logits.argmax(dim=-1)
    return distribution.mode()
