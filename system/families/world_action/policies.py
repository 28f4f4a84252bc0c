"""Every way of acting on frames with the world-action model that is compared, by name.

| name | acts with |
|---|---|
| random | uniform valid actions |
| q_greedy | the largest Q, without looking ahead |
| beam | beam search through imagined frames |
| clone | the action that the data's players would most likely take; only of agents that learnt to imitate |
| clone_sampled | an action drawn as those players would; likewise |

Exploring (`select: sample`), `q_greedy` and `beam` draw first actions in proportion to their utility.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from system.config import PlannerConfig, RunConfig
from system.decisions import Plan, TokenContext
from system.errors import ConfigError
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.imagination import WorldActionImagination
from system.models.optimizer_state import mixed_precision
from system.planning.acting import Decision, Policy
from system.planning.beam_search import beam_search
from system.planning.history import History
from system.planning.random_policies import random_policy
from system.planning.registry import planner_named
from system.planning.utility import draw_candidate
from system.types import TaskSpec


class BeamSearchPolicy:
    """Plans with the agent's own world model and values.

    Args:
        agent: in evaluation mode.
        task: the game that is played.
        config: that the agent was trained with.
        planner: how to plan, by which planner, and with which precision; horizon 0 acts on Q alone. What the
            horizon takes of the model's frames, the history cannot have. An expectation of actions does not
            exist, the best one is taken for it.
        search: the planner's function.

    Raises:
        ConfigError: the agent imitates and has learnt no values, or the horizon leaves no frame of the model's
            for the present one.
    """

    def __init__(
        self,
        agent: WorldActionAgent,
        task: TaskSpec,
        config: RunConfig,
        planner: PlannerConfig,
        search: Callable[..., Plan] = beam_search,
    ) -> None:
        if config.method.training.objective == "clone":
            raise ConfigError(
                "evaluation.policies: q_greedy and beam need values, which "
                "world_action.training.objective: clone does not train"
            )
        self.length = agent.model.num_valued_frames - planner.horizon
        if self.length < 1:
            raise ConfigError(
                f"planner.horizon: {planner.horizon} must be less than world_action.model.context_length - 1 = "
                f"{agent.model.num_valued_frames}"
            )
        self.search = search
        self.agent = agent
        self.game = task.game
        self.imagination = WorldActionImagination(agent.model, config.discount, planner.support_threshold)
        self.planner = replace(planner, select="argmax") if planner.expects else planner

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Plans once for all the environments in `rows`."""
        context = _context(self.agent, self.game, history, rows, self.length)
        with mixed_precision(self.planner.precision, self.agent.device):
            plan = self.search(self.imagination, context, config=self.planner, generator=generator)
        return Decision(plan.action.cpu().numpy(), plan)


class ClonePolicy:
    """The likeliest valid action of the imitating output, or one drawn by its probabilities.

    Args:
        agent: that learnt to imitate.
        task: the game that is played.
        sampled: whether actions are drawn.
    """

    def __init__(self, agent: WorldActionAgent, task: TaskSpec, *, sampled: bool) -> None:
        if agent.model.clone_output is None:
            raise ConfigError("evaluation.policies: cloning needs an agent that imitates (training.clone_weight)")
        self.agent = agent
        self.game = task.game
        self.sampled = sampled
        self.imagination = WorldActionImagination(agent.model, discount=1.0)

    @torch.no_grad()
    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Reads as many frames as a training window has."""
        context = _context(self.agent, self.game, history, rows, self.agent.model.context_length)
        carry, _ = self.imagination.begin(context)
        logits = self.agent.model.clone_logits(carry.cache.hidden)
        logits = logits.masked_fill(~context.valid_actions, -torch.inf)
        if self.sampled:
            return Decision(draw_candidate(logits.softmax(dim=-1), generator).cpu().numpy())
        return Decision(logits.argmax(dim=-1).cpu().numpy())


Build = Callable[[WorldActionAgent, TaskSpec, RunConfig, PlannerConfig], Policy]

FRAME_POLICIES: Mapping[str, Build] = {
    "random": lambda agent, task, config, planner: random_policy(task),
    "q_greedy": lambda agent, task, config, planner: BeamSearchPolicy(
        agent, task, config, replace(planner, horizon=0)
    ),
    "beam": BeamSearchPolicy,
    "clone": lambda agent, task, config, planner: ClonePolicy(agent, task, sampled=False),
    "clone_sampled": lambda agent, task, config, planner: ClonePolicy(agent, task, sampled=True),
}


def make_policy(
    name: str, agent: WorldActionAgent, task: TaskSpec, config: RunConfig, planner: PlannerConfig
) -> Policy:
    """The policy called `name`: one of the table, or a registered planner's.

    Args:
        name: that the family knows.
        agent: in evaluation mode.
        task: the game that is played.
        config: the run's.
        planner: how to plan.
    """
    if name in FRAME_POLICIES:
        return FRAME_POLICIES[name](agent, task, config, planner)
    return BeamSearchPolicy(agent, task, config, planner, planner_named(name).load())


def _context(
    agent: WorldActionAgent, game: int, history: History, rows: np.ndarray, length: int
) -> TokenContext:
    """The newest `length` frames, on the agent's device."""
    return history.token_context(rows, length, game, agent.valid_actions[game])
