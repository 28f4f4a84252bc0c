"""Every way of acting with the differentiable family's agents that is compared, by name.

| name | acts with |
|---|---|
| random | uniform actions |
| rebrac | the policy as it was learnt |
| gradient_mpc | the policy after an ascent of its own parameters |
| action_ascent | the first of a sequence of actions after an ascent of these |
"""

import numpy as np
import torch
from jaxtyping import Int

from system.config import PlannerConfig, RunConfig
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.imagination import AdaptablePolicy
from system.planning.acting import Decision, Policy
from system.planning.ascending_policy import AscendingPolicy
from system.planning.history import History
from system.planning.random_policies import random_policy
from system.planning.registry import planner_named
from system.types import TaskSpec


class LearntPolicy:
    """ReBRAC's policy.

    Args:
        agent: in evaluation mode.
    """

    def __init__(self, agent: WorldModelAgent) -> None:
        self.agent = agent

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing."""
        observations = torch.tensor(history.observations[rows, -1], device=self.agent.device)
        model = AdaptablePolicy(self.agent, 0.0)
        return Decision.of(model.act(model.parameters(), observations))


def make_policy(
    name: str, agent: WorldModelAgent, task: TaskSpec, config: RunConfig, planner: PlannerConfig
) -> Policy:
    """The policy called `name`.

    Args:
        name: that the family knows.
        agent: in evaluation mode.
        task: what is played.
        config: the run's.
        planner: how to plan.
    """
    if name == "random":
        return random_policy(task)
    if name == "rebrac":
        return LearntPolicy(agent)
    penalised = planner.ascent.uncertainty_penalty > 0.0
    model = AdaptablePolicy(agent, config.discount, measure_disagreement=penalised)
    return AscendingPolicy(model, planner, planner_named(name).load(), device=agent.device, context_length=1)
