"""Imaginers as Ray actors: each imagines one chunk at a time; Ray starts a lost one again, and its chunk with it.

Chunks are pure, so that making one again does no harm; what is finished is written by the caller, once.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError

from system.config import RunConfig
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.store.episodes import EpisodeStore
from system.distributed.calls import answer, describe
from system.distributed.cluster import cluster_session
from system.distributed.placement import evaluator_bundle, see_own_gpus, spread_options
from system.errors import WorkerLost
from system.families.building import build_agent
from system.families.registry import Agent
from system.models.devices import prepare_process
from system.training.imagining import LocalImaginers, Seed
from system.training.protocols import Weights
from system.types import TaskSpec

WAIT_SECONDS = 1.0
MOST_RESTARTS = 5


class ImaginerActor:
    """The actor's class: `LocalImaginers` of one chunk after the other.

    Args:
        task, config: of the agent.
        weights: its own.
        store: what is imagined from.
    """

    def __init__(self, task: TaskSpec, config: RunConfig, weights: Weights, store: EpisodeStore) -> None:
        prepare_process(config)
        agent = build_agent(task, config).eval()
        agent.load_state_dict({name: value.clone() for name, value in weights.items()})
        self.imaginers = LocalImaginers(agent, store, config)

    def process_id(self) -> int:
        """Of this actor."""
        return os.getpid()

    def imagine(self, seed: Seed, episodes: Sequence[int]) -> ImaginedRollouts:
        """One chunk."""
        ((_, rollouts),) = self.imaginers.imagine([(seed, episodes)], lambda: None)
        return rollouts


class ImaginerGroup:
    """`Imaginers` over n actors.

    Args:
        weights, task, store, config: of every one of them.
        number: n, at least 1.
    """

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        task: TaskSpec,
        store: EpisodeStore,
        config: RunConfig,
        number: int,
    ) -> None:
        options: dict[str, Any] = see_own_gpus(spread_options(evaluator_bundle(config)), config)
        options |= {"max_restarts": MOST_RESTARTS, "max_task_retries": MOST_RESTARTS}
        self._shared = ray.put(dict(weights)), ray.put(store)  # kept: restarted actors are given them again
        actor = ray.remote(ImaginerActor).options(**options)
        self._actors = [actor.remote(task, config, *self._shared) for _ in range(number)]

    def imagine(
        self, chunks: Sequence[tuple[Seed, Sequence[int]]], pause: Callable[[], None]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        """Chunks as they are finished; `pause` is called about once a second.

        Raises:
            WorkerLost: an actor was lost again and again.
        """
        waiting, idle = deque(range(len(chunks))), deque(self._actors)
        working: dict[ray.ObjectRef, tuple[int, Any]] = {}
        while waiting or working:
            pause()
            while waiting and idle:
                index, actor = waiting.popleft(), idle.popleft()
                working[actor.imagine.remote(*chunks[index])] = index, actor
            for call in ray.wait(list(working), timeout=WAIT_SECONDS)[0]:
                index, actor = working.pop(call)
                try:
                    rollouts = answer(call)
                except RayActorError as error:
                    raise WorkerLost("imaginer", describe(error)) from None
                idle.append(actor)
                yield index, rollouts

    def process_ids(self) -> list[int]:
        """Of every actor, once all of them have started."""
        return [answer(actor.process_id.remote()) for actor in self._actors]

    def close(self) -> None:
        """Ends every actor."""
        for actor in self._actors:
            ray.kill(actor)


@contextmanager
def imaginer_group(
    agent: Agent, task: TaskSpec, store: EpisodeStore, config: RunConfig, number: int, address: str | None
) -> Iterator[ImaginerGroup]:
    """Imaginers that begin and end here.

    Args:
        agent: whose weights they have.
        task, store, config, number: as for `ImaginerGroup`.
        address: of a running cluster; None starts one.

    Raises:
        ClusterLost: the cluster does not answer or has no room.
    """
    cpus = evaluator_bundle(config)["CPU"]
    with cluster_session(address, num_cpus=cpus * number, least_cpus=cpus):
        weights = {name: value.cpu() for name, value in agent.state_dict().items()}
        group = ImaginerGroup(weights, task, store, config, number)
        try:
            yield group
        finally:
            group.close()
