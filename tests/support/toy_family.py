"""The smallest whole family: linear maps from an observation to an action, and on to what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from system.config import PlannerConfig, RunConfig, setting
from system.config.registry import PLANNERS
from system.decisions import Context
from system.families.registry import Family, PolicyTraits, register_family
from system.models.protocols import Imagination
from system.planning.acting import Decision
from system.planning.history import History
from system.planning.registry import planner_named
from system.seeding import derive_seed
from system.types import SegmentBatch, TaskSpec

NAME = "toy"


@dataclass(frozen=True)
class ToyConfig:
    context_length: int = setting(2, low=2, high=8)
    batch_size: int = setting(8, low=1)
    learning_rate: float = setting(0.01, low=0.0, high=1.0)
    spread: float = setting(0.3, low=0.0, high=1.0, doc="of candidates about the imitated action")


class LinearAgent(nn.Module):
    """Imitates, and foresees observation, reward and return; what a planner may ask for is among its methods."""

    def __init__(self, task: TaskSpec, config: RunConfig) -> None:
        super().__init__()
        self.discount, self.spread = config.discount, config.method.spread
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "weights"))
            self.action = nn.Linear(task.observation_dim, task.action_dim)
            self.outcome = nn.Linear(task.observation_dim + task.action_dim, task.observation_dim + 2)

    @property
    def device(self) -> torch.device:
        return self.action.weight.device

    def perceive(self, observations: np.ndarray, game: int) -> np.ndarray:
        return observations

    def foresee(self, observations: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Next observation, reward and return-to-go."""
        outcome = self.outcome(torch.cat([observations, actions], -1))
        return outcome[..., :-2], outcome[..., -2], outcome[..., -1]

    def propose(self, context: Context, *, horizon: int, num_candidates: int, generator: Any) -> torch.Tensor:
        mean = self.action(context.observations[:, -1])[:, None, None]
        noise = torch.randn(len(mean), num_candidates, horizon, mean.shape[-1], generator=generator)
        return (mean + self.spread * noise).clamp(-1.0, 1.0)

    def imagine(self, context: Context, actions: torch.Tensor) -> Imagination:
        observation = context.observations[:, None, -1].expand(-1, actions.shape[1], -1)
        steps = []
        for action in actions.unbind(2):
            following, reward, value = self.foresee(observation, action)
            steps.append((observation, reward, value))
            observation = following
        return Imagination(*(torch.stack(parts, 2) for parts in zip(*steps, strict=True)))


class LinearLearner:
    """Least squares by gradient descent with momentum."""

    def __init__(self, agent: LinearAgent, config: RunConfig, average_gradients: Any, shard: Any) -> None:
        self.agent, self.average_gradients, self.rate = agent, average_gradients, config.method.learning_rate
        self.momentum = {name: torch.zeros_like(value) for name, value in agent.named_parameters()}

    def update(self, segments: SegmentBatch, transitions: Any, *, stage: str, step: int) -> dict[str, Any]:
        batch = {name: torch.from_numpy(array) for name, array in vars(segments).items()}
        here, there, done = batch["observations"][:, :-1], batch["observations"][:, 1:], batch["actions"][:, :-1]
        following, reward, value = self.agent.foresee(here, done)
        errors = (self.agent.action(here) - done).square().mean(-1) + (following - there).square().mean(-1)
        errors = errors + (reward - batch["rewards"][:, :-1]).square()
        errors = errors + (value - batch["returns_to_go"][:, :-1]).square() * batch["returns_valid"][:, :-1]
        loss = (errors * (batch["valid"][:, :-1] & batch["valid"][:, 1:])).mean()
        self.agent.zero_grad()
        loss.backward()
        self.average_gradients(self.agent.parameters())
        with torch.no_grad():
            for name, weights in self.agent.named_parameters():
                assert weights.grad is not None
                self.momentum[name].mul_(0.5).add_(weights.grad)
                weights.sub_(self.rate * self.momentum[name])
        return {"loss": loss.detach()}

    def state(self) -> dict[str, torch.Tensor]:
        states = {"agent": self.agent.state_dict(), "momentum": self.momentum}
        return {f"{of}.{name}": value.clone() for of, named in states.items() for name, value in named.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.agent.load_state_dict({name: state[f"agent.{name}"] for name in self.agent.state_dict()})
        self.momentum = {name: state[f"momentum.{name}"].clone() for name in self.momentum}

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.agent.state_dict().items()}


class LinearPolicy:
    """The imitated action, or a plan about it."""

    def __init__(self, name: str, agent: LinearAgent, config: PlannerConfig) -> None:
        self.agent, self.config = agent, config
        self.plan = None if name == "linear" else planner_named(name.removeprefix("toy_")).load()

    @torch.no_grad()
    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        context = history.context(rows, torch.zeros(len(rows)), 1)
        if self.plan is None:
            return Decision.of(self.agent.action(context.observations[:, -1]).clamp(-1.0, 1.0))
        plan = self.plan(self.agent, context, config=self.config, generator=generator)
        return Decision.of(plan.action, plan)


def policies() -> Mapping[str, PolicyTraits]:
    names = [planner.name for planner in PLANNERS.values() if planner.asks == "proposals"]
    planned = {f"toy_{name}": PolicyTraits(plans=True) for name in names}
    return {"linear": PolicyTraits(is_rival=True), **planned}


FAMILY = Family(
    name=NAME,
    section=ToyConfig,
    planner="forward_mpc",
    asks="proposals",
    evaluated=("linear", "toy_forward_mpc"),
    validate=lambda config: None,
    serves=lambda task: task.frame_shape is None and not task.is_discrete,
    policies=policies,
    planner_policy=lambda config: f"toy_{config.planner.name}",
    make_policy=lambda name, agent, task, config, planner: LinearPolicy(name, agent, planner),
    sizes=lambda config: {},
    build=LinearAgent,
    found=lambda agent, statistics: None,
    learn=LinearLearner,
    batch_sizes=lambda config: {f"{NAME}.batch_size": config.method.batch_size},
    segments_per_step=lambda config: config.method.batch_size,
    windows="ending",
)
register_family(FAMILY)
