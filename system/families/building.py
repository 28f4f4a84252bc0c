"""Agents of whatever family a configuration names, with initial weights or with a checkpoint's."""

from collections.abc import Mapping
from typing import Any

import torch

from system.config import RunConfig
from system.errors import CheckpointError
from system.families.registry import Agent, family_of
from system.models.devices import resolve_device
from system.types import TaskSpec

Foundation = Any
"""What of the training data is fixed before the first update and travels with the weights from then on, as the
family says: the statistics that inputs are standardised with, or the weights of a tokenizer."""


def build_agent(task: TaskSpec, config: RunConfig, foundation: Foundation | None = None) -> Agent:
    """An agent with the run's initial weights, on the run's device.

    Args:
        task: dimensions; of several games any one.
        config: family, sizes and seed.
        foundation: None if weights that carry it will be loaded.
    """
    family = family_of(config)
    agent: Agent = family.build(task, config)
    if foundation is not None:
        family.found(agent, foundation)
    built: Agent = agent.to(resolve_device(config))
    return built


def load_agent(task: TaskSpec, config: RunConfig, state: Mapping[str, torch.Tensor], source: str) -> Agent:
    """An agent in evaluation mode with the weights of a learner's state.

    Args:
        task, config: dimensions and sizes.
        state: what `Learner.state` gave.
        source: named in errors.

    Raises:
        CheckpointError: a weight is missing, unexpected or of another shape; names it.
    """
    agent = build_agent(task, config)
    weights = {name.removeprefix("agent."): value for name, value in state.items() if name.startswith("agent.")}
    check_weights(agent, weights, source)
    agent.load_state_dict(weights)
    loaded: Agent = agent.eval()
    return loaded


def check_weights(agent: Agent, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Compares names and shapes with an agent's own; it may lack those that its class has under `ADDED_LATER`.

    Raises:
        CheckpointError: naming the first that differs.
    """
    own = agent.state_dict()
    for name in sorted((own.keys() - getattr(agent, "ADDED_LATER", frozenset())) | weights.keys()):
        if name not in weights:
            raise CheckpointError(f"{source}: weight {name} is missing")
        if name not in own:
            raise CheckpointError(f"{source}: weight {name} is unexpected")
        if own[name].shape != weights[name].shape:
            found, expected = tuple(weights[name].shape), tuple(own[name].shape)
            raise CheckpointError(f"{source}: weight {name} has shape {found}, expected {expected}")
