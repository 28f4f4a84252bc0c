"""The model families: what each brings to workers and loops, which know none of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import torch

from system.config import RunConfig
from system.data.replay.sampling import Windows
from system.data.store.statistics import DatasetStatistics
from system.errors import ConfigError
from system.evaluation.policies import Agent
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.learner import M3PCLearner
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.learner import WorldActionLearner
from system.training.protocols import Replay, Weights
from system.types import SegmentBatch, TaskSpec, TransitionBatch

Foundation = DatasetStatistics | Weights
"""What of the training data is fixed before the first update and travels with the weights from then on: the
statistics that inputs are standardised with, or the weights of the frame tokenizer."""


class Learner(Protocol):
    """Owns an agent and its optimisers."""

    def update(
        self, segments: SegmentBatch, transitions: list[TransitionBatch], *, stage: str, step: int
    ) -> dict[str, torch.Tensor]:
        """One update step; returns scalars by name."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, moments and duals, flat and named."""
        ...

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` gave."""
        ...

    def weights(self) -> dict[str, torch.Tensor]:
        """What acting needs."""
        ...


@dataclass(frozen=True)
class Family:
    """One model family.

    Attributes:
        build: (task, config) → an agent with the run's initial weights.
        found: (agent, foundation): gives the agent what the training data say.
        learn: (agent, config, average_gradients=, shard=) → its learner.
        segments_per_step: rows of a batch of windows, over all learners.
        transition_batches_per_step: batches of transitions that an update step takes beside the windows.
        windows: what its learner is given: as in `SampleRequest`.
        refresh: (agent, replay, visible episodes): takes in what the replay has learnt, after online updates.
    """

    build: Callable[[TaskSpec, RunConfig], Agent]
    found: Callable[[Any, Any], None]
    learn: Callable[..., Learner]
    segments_per_step: Callable[[RunConfig], int]
    transition_batches_per_step: Callable[[RunConfig], int]
    windows: Windows
    refresh: Callable[[Any, Replay, int | None], None]


def family_of(config: RunConfig) -> Family:
    """The family of the configured algorithm."""
    return FAMILIES[config.algorithm]


def resolve_device(config: RunConfig) -> torch.device:
    """The device to learn and plan on: as configured, or CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for, and this process finds none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda, but torch finds none here; auto takes what there is")
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_agent(task: TaskSpec, config: RunConfig, foundation: Foundation | None = None) -> Agent:
    """An agent with the run's initial weights, on the run's device.

    Args:
        task: dimensions; of several games any one.
        config: algorithm, sizes and seed.
        foundation: None if weights that carry it will be loaded.
    """
    family = family_of(config)
    agent = family.build(task, config)
    if foundation is not None:
        family.found(agent, foundation)
    return agent.to(resolve_device(config))


def _raise_target_returns(agent: TrajectoryAgent, replay: Replay, visible_episodes: int | None) -> None:
    """Asks for what the best online episodes reached, once they are better than the offline ones."""
    table = torch.from_numpy(replay.target_returns(visible_episodes).copy())
    agent.target_returns.copy_(torch.maximum(agent.target_returns, table.to(agent.target_returns)))


def _keep(agent: WorldActionAgent, replay: Replay, visible_episodes: int | None) -> None:
    """The world-action model asks for nothing that the replay knows."""


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "m3pc": Family(
            build=TrajectoryAgent,
            found=TrajectoryAgent.set_statistics,
            learn=M3PCLearner,
            segments_per_step=lambda config: config.trajectory.batch_size,
            transition_batches_per_step=lambda config: config.critic.updates_per_step,
            windows="ending",
            refresh=_raise_target_returns,
        ),
        "jowa": Family(
            build=WorldActionAgent,
            found=WorldActionAgent.set_tokenizer,
            learn=WorldActionLearner,
            segments_per_step=lambda config: config.jowa.batch_size,
            transition_batches_per_step=lambda config: 0,
            windows="touching",
            refresh=_keep,
        ),
    }
)
