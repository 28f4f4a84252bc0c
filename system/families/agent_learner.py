"""What learners of all families have in common: an agent, optimisers by name, what a checkpoint holds of them."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from system.config import RunConfig
from system.families.registry import Agent
from system.models.graphed_step import EagerStep, Work, records_updates, repeated_step
from system.models.optimizer_state import (
    AverageGradients,
    flatten_optimizer,
    has_fused_steps,
    keep_gradients,
    mixed_precision,
    move_towards,
    rates_as_tensors,
    restore_optimizer,
)

AgentT = TypeVar("AgentT", bound=Agent)
AGENT, NEWEST = "agent.", "newest."


class Part(Protocol):
    """Something beside the agent's weights that is part of a learner's state: value learners, above all."""

    def state(self) -> dict[str, torch.Tensor]:
        """Flat and named."""
        ...

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave, found in the state of the whole."""
        ...


class RunningAverage:
    """Of a module's parameters: what acts, while the newest ones are trained.

    Args:
        module: one of an agent's.
        name: of the module in the agent.

    Attributes:
        weights: the average, by the module's own names.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module = module
        self.name = name
        self.weights = {key: value.detach().clone() for key, value in module.named_parameters()}

    def move(self, share: torch.Tensor) -> None:
        """average ← average + share · (newest − average)."""
        newest = dict(self.module.named_parameters())
        move_towards(list(self.weights.values()), [newest[key].detach() for key in self.weights], share)

    def of_agent(self) -> dict[str, torch.Tensor]:
        """The average by the agent's names."""
        return {f"{self.name}.{key}": value.clone() for key, value in self.weights.items()}

    def state(self) -> dict[str, torch.Tensor]:
        """The newest weights; the average is the agent's."""
        return {NEWEST + key: value.detach().clone() for key, value in self.module.named_parameters()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores both."""
        for key, parameter in self.module.named_parameters():
            self.weights[key] = state[f"{AGENT}{self.name}.{key}"].clone().to(parameter.device)
            parameter.copy_(state[NEWEST + key])


class AgentLearner(Generic[AgentT]):
    """Owns an agent and its optimisers; a family's learner adds `update`.

    Args:
        agent: trained in place.
        config: the run's configuration.
        average_gradients: the learner group's all-reduce; identity for a lone learner.
        shard: (rank, number of learners): which share of a whole batch this learner is given.

    Attributes:
        device: of the agent.
        graphed: updates are recorded and replayed (`system.models.graphed_step`).
        optimizers: by their names in checkpoints.
        parts: what else is state.
        averages: what acts in place of the newest weights, of the modules that have one.
    """

    def __init__(
        self,
        agent: AgentT,
        config: RunConfig,
        *,
        average_gradients: AverageGradients = keep_gradients,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.agent = agent
        self.config = config
        self.average_gradients = average_gradients
        self.shard = shard
        self.device: torch.device = agent.device
        self.graphed = records_updates(self.device, average_gradients, deterministic=config.deterministic)
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.parts: list[Part] = []
        self.averages: list[RunningAverage] = []
        self._repeated: list[EagerStep] = []

    @cached_property
    def autocast(self) -> AbstractContextManager[Any]:
        """The context of forward passes."""
        return mixed_precision(self.config.precision, self.device)

    def state(self) -> dict[str, torch.Tensor]:
        """Weights that act (`agent.*`) and are trained (`newest.*`, where these are others), moments, parts."""
        state = {AGENT + name: value for name, value in self.weights().items()}
        for name, optimizer in self.optimizers.items():
            state |= flatten_optimizer(optimizer, name)
        for part in [*self.parts, *self.averages]:
            state |= part.state()
        return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        weights = {name[len(AGENT) :]: value for name, value in state.items() if name.startswith(AGENT)}
        self.agent.load_state_dict(weights)
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, name, state)
        for part in [*self.parts, *self.averages]:
            part.load_state(state)
        for step in self._repeated:
            step.forget()

    def weights(self) -> dict[str, torch.Tensor]:
        """What acting needs: the average of what is averaged, and the newest of all others."""
        weights = {name: value.detach().clone() for name, value in self.agent.state_dict().items()}
        for average in self.averages:
            weights |= average.of_agent()
        return weights

    def make_optimizer(
        self,
        name: str,
        kind: type[torch.optim.AdamW] | type[torch.optim.Adam],
        parameters: Iterable[Any],
        rate: float,
        *,
        is_scheduled: bool = True,
        **options: Any,
    ) -> torch.optim.Optimizer:
        """An optimiser whose steps can be left undone where a gradient is not finite, and be recorded.

        Args:
            name: in checkpoints.
            kind: of it.
            parameters: or groups of them.
            rate: to begin with.
            is_scheduled: the rate will be changed.
            options: others of the kind.
        """
        fused = has_fused_steps(self.device)
        optimizer = kind(parameters, lr=rate, fused=fused, capturable=self.graphed, **options)
        if self.graphed and is_scheduled:
            rates_as_tensors(optimizer, self.device)
        self.optimizers[name] = optimizer
        return optimizer

    def repeated(self, work: Work) -> EagerStep:
        """Work that is done at every update; recordings of it are dropped when a state is loaded."""
        step = repeated_step(work, self.device, graphed=self.graphed)
        self._repeated.append(step)
        return step

    def own_rows(self, drawn: torch.Tensor) -> torch.Tensor:
        """Of what was drawn for the rows of the whole batch, this shard's: sharding does not change the draw."""
        rank, number = self.shard
        rows = len(drawn) // number
        return drawn[rank * rows : (rank + 1) * rows]
