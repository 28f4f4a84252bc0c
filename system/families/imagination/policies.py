"""Every way of acting with what this family learns, by name.

| name | acts with |
|---|---|
| random | uniform actions |
| quasi_optimal | mode of the values' own actor |
| imagined_mpc | the configured planner in the reliable part of the world model: the teacher |
| ipd | the distilled policy, asked for V of every state |
| decision_transformer | the same, asked for a share of the best known return |
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from system.config import PlannerConfig, RunConfig
from system.decisions import Context, Plan
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.reliable_world import ReliableWorld
from system.planning.accelerated_model import accelerated
from system.planning.acting import Decision, Policy
from system.planning.history import History
from system.planning.random_policies import random_policy
from system.planning.registry import planner_named
from system.planning.utility import draw_candidate, proposal_probabilities, standardize_utilities
from system.types import TaskSpec

EXPLORING_DEVIATION = 0.2


class QuasiOptimal:
    """The mode of the actor that was extracted from the values.

    Args:
        agent: its value networks.
    """

    def __init__(self, agent: ImaginationAgent) -> None:
        self.agent = agent

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing."""
        observations = torch.tensor(history.observations[rows, -1], device=self.agent.device)
        return Decision.of(self.agent.values.policy(observations).mode())


class ImaginedPlanner:
    """A planner in the world model.

    Args:
        agent: with its world model and values.
        config: how to plan.
        discount: γ.
        plan: the planner's function.
    """

    def __init__(
        self, agent: ImaginationAgent, config: PlannerConfig, discount: float, plan: Callable[..., Plan]
    ) -> None:
        self.agent = agent
        self.config = replace(config, horizon=max(1, config.horizon))
        self.plan = plan
        model = ReliableWorld(agent, discount, config.actor_spread)
        self.model = accelerated(model, agent.device, config.precision)

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Plans once for all the environments in `rows`; the newest observation is all that it looks at."""
        context = history.context(rows, torch.zeros(len(rows), device=self.agent.device), 1)
        plan = self.plan(self.model, context, config=self.config, generator=generator)
        return Decision.of(plan.action, plan)


class Distilled:
    """The distilled policy, one pass a decision.

    Args:
        agent: its transformer.
        config: how much return is asked for, where one is; whether to explore.
        by_value: V of each state is asked for.
    """

    def __init__(self, agent: ImaginationAgent, config: PlannerConfig, *, by_value: bool) -> None:
        self.agent = agent
        self.config = config
        self.by_value = by_value

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing; where `select` is `sample`, one of several candidates about the action, by their Q."""
        device = self.agent.device
        steps = torch.from_numpy(history.steps[rows]).to(device)
        length = self.agent.model.config.context_length
        context = history.context(rows, torch.zeros(len(rows), device=device), length)
        ratio = self.config.target_return_ratio
        asked = (
            self.agent.value(context.observations)
            if self.by_value
            else self.agent.asked_returns(steps, ratio, length)
        )
        action = self.agent.model.newest(context.observations, context.actions, asked, context.valid)
        if self.config.select != "sample":
            return Decision.of(action)
        plan = self._explore(context, action, generator)
        return Decision.of(plan.action, plan)

    def _explore(self, context: Context, action: torch.Tensor, generator: torch.Generator) -> Plan:
        """The action and candidates about it, drawn in proportion to their utility, which is Q."""
        count = self.config.num_candidates
        noise = torch.randn(len(action), count, action.shape[1], generator=generator, device=action.device)
        noise[:, 0] = 0.0
        candidates = (action[:, None] + EXPLORING_DEVIATION * noise).clamp(-1.0, 1.0)
        observations = context.observations[:, None, -1].expand(-1, count, -1)
        utilities = self.agent.values.q(observations, candidates)
        scaled = standardize_utilities(utilities) if self.config.utility_scale == "standardized" else utilities
        probabilities = proposal_probabilities(scaled, self.config.temperature)
        selected = draw_candidate(probabilities, generator)
        chosen = candidates[torch.arange(len(selected), device=selected.device), selected]
        return Plan(
            action=chosen,
            first_actions=candidates,
            probabilities=probabilities,
            utilities=utilities,
            selected=selected,
        )


Build = Callable[[ImaginationAgent, TaskSpec, PlannerConfig], Policy]

POLICIES: Mapping[str, Build] = {
    "random": lambda agent, task, planner: random_policy(task),
    "quasi_optimal": lambda agent, task, planner: QuasiOptimal(agent),
    "ipd": lambda agent, task, planner: Distilled(agent, planner, by_value=True),
    "decision_transformer": lambda agent, task, planner: Distilled(agent, planner, by_value=False),
}


def make_policy(
    name: str,
    agent: ImaginationAgent,
    task: TaskSpec,
    config: RunConfig,
    planner: PlannerConfig,
    planner_name: str,
) -> Policy:
    """The policy called `name`: one of the table, or a registered planner's.

    Args:
        name: that the family knows.
        agent: in evaluation mode.
        task: what is played.
        config: the run's.
        planner: how to plan.
        planner_name: of a planner's policy, which planner.
    """
    if name in POLICIES:
        return POLICIES[name](agent, task, planner)
    return ImaginedPlanner(agent, planner, config.discount, planner_named(planner_name).load())
