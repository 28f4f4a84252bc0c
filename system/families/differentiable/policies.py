"""Every way of acting with the differentiable family's agents that is compared, by name.

| name | acts with |
|---|---|
| random | uniform actions |
| rebrac | the policy as it was learnt |
| gradient_mpc | the policy after an ascent of its own parameters |
| action_ascent | the first of a sequence of actions after an ascent of these |
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int

from system.config import PlannerConfig, RunConfig
from system.decisions import Plan
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.imagination import AdaptablePolicy
from system.models.protocols import DifferentiableModel
from system.planning.acting import Decision, Policy
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


class AscendingPolicy:
    """A planner that ascends an imagined return, and goes on from where it arrived.

    Args:
        agent: in evaluation mode.
        model: what the planner asks.
        config: how to plan.
        plan: the planner's function.
    """

    def __init__(
        self, agent: WorldModelAgent, model: DifferentiableModel, config: PlannerConfig, plan: Callable[..., Plan]
    ) -> None:
        self.agent = agent
        self.model = model
        self.config = config
        self.plan = plan

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Plans once for all the environments in `rows`, and keeps what is handed on with their history."""
        context = history.context(rows, torch.zeros(len(rows), device=self.agent.device), 1)
        plan = self.plan(self.model, context, config=self.config, generator=generator)
        history.keep(rows, plan.carry)
        return Decision.of(plan.action, plan)


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
    return AscendingPolicy(agent, model, planner, planner_named(name).load())
