"""Every way of acting with the masked trajectory model that is compared, by name.

| name | acts with |
|---|---|
| random | uniform actions |
| rcbc_mode | mode of the return-conditioned distribution: tanh(μ), or the likeliest of discrete actions |
| rcbc_mean | mean of its samples, or the most frequent action: planning without guidance, ξ = 0 |
| q_only | the first actions of forward MPC's candidates, weighted by the critic alone |
| forward_mpc_m | forward MPC under return guidance |
| forward_mpc_q | forward MPC under critic guidance |
| forward_mpc_am, forward_mpc_aq | the same among plans of the reference actor |
| gradient_mpc_aq | the reference actor after an ascent of its own parameters, in the trajectory model |
| action_ascent_aq | a sequence of its actions after an ascent of these |
| iql | the reference actor's mode |
| bc_mode | mode of the clone that asks for no return |
| two_stages | the inferred action of the first of the states that the asked return leads to |
| backward_mpc | the inferred action of the first step of an inferred path to the goal |
| goal_mask | the action at once, from the mask that shows the goal and no path |
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from system.config import PlannerConfig, RunConfig
from system.decisions import Context, Plan
from system.errors import ConfigError
from system.families.masked_trajectory.adaptable_actor import ActorInWindow
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.guidance import (
    CriticGuided,
    FirstActionGuided,
    ReturnGuided,
    Unguided,
)
from system.families.masked_trajectory.paths import GoalPaths, StraightToGoal
from system.families.masked_trajectory.proposals import ActorInModel
from system.families.masked_trajectory.windows import action_distribution, expected_states
from system.models.protocols import PlanningModel
from system.planning.accelerated_model import accelerated
from system.planning.acting import Decision, Policy
from system.planning.ascending_policy import AscendingPolicy
from system.planning.backward_mpc import backward_mpc
from system.planning.forward_mpc import forward_mpc
from system.planning.goals import desired_goals
from system.planning.history import History
from system.planning.random_policies import random_policy
from system.planning.registry import planner_named
from system.types import TaskSpec


class ReturnConditionedMode:
    """The mode of the same distribution, at the same place of the window, as the planner's candidates.

    Args:
        agent: its trajectory model.
        config: horizon and target-return ratio.
    """

    def __init__(self, agent: TrajectoryAgent, config: PlannerConfig) -> None:
        self.agent = agent
        self.config = config

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing."""
        horizon = max(1, self.config.horizon)
        context = _context(self.agent, history, rows, horizon, self.config.target_return_ratio)
        distribution = action_distribution(self.agent.model, context, horizon)
        return Decision.of(distribution.mode()[:, 0])


class ClonedMode:
    """The mode of the clone that asks for no return, at the same place of the window.

    Args:
        agent: its trajectory model.
        config: horizon.
    """

    def __init__(self, agent: TrajectoryAgent, config: PlannerConfig) -> None:
        self.agent = agent
        self.config = config

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing."""
        horizon = max(1, self.config.horizon)
        context = _context(self.agent, history, rows, horizon, 0.0)
        distribution = action_distribution(self.agent.model, context, horizon, "behaviour_cloning")
        return Decision.of(distribution.mode()[:, 0])


class TwoStages:
    """States are inferred from the return that is asked for, then the actions that lead along them: what learnt
    states of episodes without actions can act.

    Args:
        agent: its trajectory model.
        config: horizon and target-return ratio.

    Source: MTM section 4.4, "heteromodal" inference.
    """

    def __init__(self, agent: TrajectoryAgent, config: PlannerConfig) -> None:
        self.agent = agent
        self.config = config
        self.paths = GoalPaths(agent.model, agent.observation_change)

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing."""
        ahead = min(max(1, self.config.horizon), self.agent.model.config.context_length - 1)
        context = _context(self.agent, history, rows, ahead + 1, self.config.target_return_ratio)
        path = expected_states(self.agent.model, context, ahead + 1)
        return Decision.of(self.paths.infer_actions(context, path)[:, 0])


class PlannedPolicy:
    """A planner over a guided model.

    Args:
        agent: for the target-return table.
        model: what the planner asks.
        config: how to plan; `select` decides between exploring and evaluating.
        plan: the planner's function.
    """

    def __init__(
        self,
        agent: TrajectoryAgent,
        model: PlanningModel,
        config: PlannerConfig,
        plan: Callable[..., Plan] = forward_mpc,
    ) -> None:
        self.agent = agent
        self.model = accelerated(model, agent.device, config.precision)
        self.config = config
        self.plan = plan

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Plans once for all the environments in `rows`."""
        context = _context(self.agent, history, rows, self.config.horizon, self.config.target_return_ratio)
        plan = self.plan(self.model, context, config=self.config, generator=generator)
        return Decision.of(plan.action, plan)


class ReferenceActor:
    """The mode of the critics' own actor.

    Args:
        agent: its value networks.
    """

    def __init__(self, agent: TrajectoryAgent) -> None:
        self.agent = agent

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing."""
        observations = torch.tensor(history.observations[rows, -1], device=self.agent.target_returns.device)
        return Decision.of(self.agent.values.policy(observations).mode())


class GoalReaching:
    """Acts towards the goals that the history tells, or a goal environment's observation.

    Args:
        agent: its trajectory model.
        task: what is played.
        config: horizon and the goals' arrival.
        with_path: whether the path is inferred first, and then the actions that walk it.
    """

    def __init__(
        self, agent: TrajectoryAgent, task: TaskSpec, config: PlannerConfig, *, with_path: bool
    ) -> None:
        self.agent = agent
        self.task = task
        self.config = config
        self.paths = (GoalPaths if with_path else StraightToGoal)(agent.model, agent.observation_change)

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws nothing."""
        asked = torch.zeros(len(rows), device=self.agent.device)
        context = history.context(rows, asked, self.agent.model.config.context_length)
        if context.goal is None:
            context = replace(context, goal=desired_goals(self.task, context.observations[:, -1]))
        plan = backward_mpc(self.paths, context, config=self.config, generator=generator)
        return Decision.of(plan.action, plan)


def _planned(agent: TrajectoryAgent, planner: PlannerConfig, model: PlanningModel) -> PlannedPolicy:
    return PlannedPolicy(agent, model, replace(planner, horizon=max(1, planner.horizon)))


def _unguided(agent: TrajectoryAgent, config: RunConfig, planner: PlannerConfig) -> PlannedPolicy:
    """The candidates' mean or vote; the best of candidates that are all worth the same would be any of them."""
    if planner.select != "sample":
        planner = replace(planner, select="expectation")
    return _planned(agent, planner, Unguided(agent.model, config.discount))


def _reaching(agent: TrajectoryAgent, task: TaskSpec, planner: PlannerConfig, *, with_path: bool) -> GoalReaching:
    """A goal stands at least one step ahead."""
    return GoalReaching(agent, task, replace(planner, horizon=max(1, planner.horizon)), with_path=with_path)


Build = Callable[[TrajectoryAgent, TaskSpec, RunConfig, PlannerConfig], Policy]

TRAJECTORY_POLICIES: Mapping[str, Build] = {
    "random": lambda agent, task, config, planner: random_policy(task),
    "rcbc_mode": lambda agent, task, config, planner: ReturnConditionedMode(agent, planner),
    "rcbc_mean": lambda agent, task, config, planner: _unguided(agent, config, planner),
    "q_only": lambda agent, task, config, planner: _planned(
        agent, planner, FirstActionGuided(agent.model, agent.values, config.discount)
    ),
    "iql": lambda agent, task, config, planner: ReferenceActor(agent),
    "bc_mode": lambda agent, task, config, planner: ClonedMode(agent, planner),
    "two_stages": lambda agent, task, config, planner: TwoStages(agent, planner),
    "backward_mpc": lambda agent, task, config, planner: _reaching(agent, task, planner, with_path=True),
    "goal_mask": lambda agent, task, config, planner: _reaching(agent, task, planner, with_path=False),
}


def make_policy(
    name: str, agent: TrajectoryAgent, task: TaskSpec, config: RunConfig, planner: PlannerConfig
) -> Policy:
    """The policy called `name`: one of the table, or a registered planner's with the ending of its guidance.

    Args:
        name: that the family knows.
        agent: in evaluation mode.
        task: what is played.
        config: the run's.
        planner: how to plan.
    """
    if name in TRAJECTORY_POLICIES:
        return TRAJECTORY_POLICIES[name](agent, task, config, planner)
    planner_name, _, ending = name.rpartition("_")
    if planner_named(planner_name).asks == "gradients":
        return _ascending(planner_name, agent, config, planner)
    proposals = ActorInModel(agent.model, agent.values, planner.actor_spread) if ending[0] == "a" else None
    model = (
        ReturnGuided(agent.model, config.discount, proposals)
        if ending[-1] == "m"
        else CriticGuided(agent.model, agent.values, config.discount, proposals)
    )
    function = planner_named(planner_name).load()
    return PlannedPolicy(agent, model, replace(planner, horizon=max(1, planner.horizon)), function)


def _ascending(name: str, agent: TrajectoryAgent, config: RunConfig, planner: PlannerConfig) -> Policy:
    """Futures of the trajectory model do not differ: one of them is imagined."""
    if agent.task.is_discrete:
        raise ConfigError(f"evaluation.policies: {name}_aq follows gradients in actions, and these are numbers")
    model = ActorInWindow(agent, config.discount)
    ascent = replace(planner.ascent, num_noise=1)
    planner = replace(planner, horizon=max(1, planner.horizon), ascent=ascent)
    plan = planner_named(name).load()
    return AscendingPolicy(model, planner, plan, device=agent.device, context_length=model.length)


def _context(agent: TrajectoryAgent, history: History, rows: np.ndarray, horizon: int, ratio: float) -> Context:
    """The part of the window that is left of a plan of `horizon` actions, and the return to ask for."""
    steps = torch.from_numpy(history.steps[rows]).to(agent.target_returns.device)
    length = agent.model.config.context_length - horizon + 1
    return history.context(rows, agent.target_return(steps, ratio), length)
