"""The agent as what planners ask that ascend a return: the policy within the world model, and its critics."""

from collections.abc import Mapping

import torch
from jaxtyping import Float

from system.decisions import Context
from system.families.differentiable.agent import WorldModelAgent
from system.models.protocols import Outcome


class AdaptablePolicy:
    """A `DifferentiableModel`; a state is an observation.

    Args:
        agent: in evaluation mode; never changed.
        discount: γ.
        measure_disagreement: whether an ensemble's members are compared at every step, which takes all of them.
    """

    def __init__(self, agent: WorldModelAgent, discount: float, *, measure_disagreement: bool = False) -> None:
        self.agent = agent
        self.discount = discount
        self.noise_dim = agent.model.noise_dim
        self.num_members = agent.model.num_members
        self.measure_disagreement = measure_disagreement

    def parameters(self) -> Mapping[str, torch.Tensor]:
        """Of the policy."""
        return {name: value.detach() for name, value in self.agent.values.policy.named_parameters()}

    def begin(self, context: Context) -> Float[torch.Tensor, "B S"]:
        """The newest observation."""
        return context.observations[:, -1]

    def act(
        self, parameters: Mapping[str, torch.Tensor], states: Float[torch.Tensor, "M S"]
    ) -> Float[torch.Tensor, "M A"]:
        """π with these parameters."""
        return self.agent.values.act(states, parameters)

    def step(
        self,
        states: Float[torch.Tensor, "B M S"],
        actions: Float[torch.Tensor, "B M A"],
        noise: Float[torch.Tensor, "M noise"],
    ) -> Outcome:
        """f, r and the probability of going on."""
        return self.agent.model.imagine(states, actions, noise, measure_disagreement=self.measure_disagreement)

    def values(
        self, states: Float[torch.Tensor, "B M S"], actions: Float[torch.Tensor, "B M A"]
    ) -> Float[torch.Tensor, "E B M"]:
        """Q of each critic."""
        return self.agent.values.q(states, actions)

    def observations(self, states: Float[torch.Tensor, "*batch S"]) -> Float[torch.Tensor, "*batch S"]:
        """They are the states."""
        return states
