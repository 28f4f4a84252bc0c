"""Learners as Ray actors with equal weights: each takes its share of a batch, gradients are averaged."""

import os
import socket
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from torch import nn

from system import fault_points
from system.algorithms.optimizer_state import keep_gradients
from system.config import RunConfig
from system.data.statistics import DatasetStatistics
from system.errors import SystemFailure, WorkerLost
from system.training.learner_worker import LearnerWorker
from system.training.protocols import Metrics, Replay, UpdateRequest, Weights
from system.types import TaskSpec

COLLECTIVE_TIMEOUT = timedelta(seconds=120)


class LearnerActor:
    """The actor's class: one rank, around a `LearnerWorker`.

    Args:
        task, config, statistics, replay: of the worker.
        rank, world: place in the group.
    """

    def __init__(
        self, task: TaskSpec, config: RunConfig, statistics: DatasetStatistics, replay: Replay, rank: int, world: int
    ) -> None:
        self.worker = LearnerWorker(
            task,
            config,
            statistics,
            replay,
            average_gradients=keep_gradients if world == 1 else average_over_group,
            shard=(rank, world),
        )

    def process_id(self) -> int:
        """Of this actor."""
        return os.getpid()

    def free_address(self) -> str:
        """A TCP address at which this actor's node can be reached by the others."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def join(self, address: str) -> None:
        """Joins the group; every member calls it, and it returns once all have."""
        rank, world = self.worker.shard
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(
            backend, init_method=address, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT
        )

    def update(self, request: UpdateRequest) -> Metrics:
        """Makes the updates on this member's share."""
        fault_points.reach("learner.update")
        return self.worker.update(request)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on."""
        return self.worker.state()

    def load_state(self, state: Weights) -> None:
        """Restores it; what came through the object store is copied, for it is shared and read-only."""
        self.worker.load_state({name: value.clone() for name, value in state.items()})

    def weights(self) -> dict[str, torch.Tensor]:
        """What acting needs."""
        return self.worker.weights()


def average_over_group(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the group, in one all-reduce."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


class LearnerGroup:
    """`Learners` over n actors.

    Args:
        task, config, statistics, replay: of every member; `config.learners` is n, at least 1.
    """

    def __init__(self, task: TaskSpec, config: RunConfig, statistics: DatasetStatistics, replay: Replay) -> None:
        world = config.learners
        actor = ray.remote(LearnerActor).options(num_cpus=1, num_gpus=int(torch.cuda.is_available()))
        self._actors = [actor.remote(task, config, statistics, replay, rank, world) for rank in range(world)]
        if world > 1:
            address = self._ask(self._actors[0].free_address.remote())[0]
            self._ask(*(each.join.remote(address) for each in self._actors))

    def update(self, request: UpdateRequest) -> Metrics:
        """The members' mean metrics.

        Raises:
            WorkerLost: a member died; the others have been ended.
        """
        answers = self._ask(*(actor.update.remote(request) for actor in self._actors))
        return {name: sum(answer[name] for answer in answers) / len(answers) for name in answers[0]}

    def state(self) -> dict[str, torch.Tensor]:
        """Of the first member; all are equal."""
        return self._ask(self._actors[0].state.remote())[0]

    def load_state(self, state: Weights) -> None:
        """Restores every member."""
        shared = ray.put(dict(state))
        self._ask(*(actor.load_state.remote(shared) for actor in self._actors))

    def weights(self) -> dict[str, torch.Tensor]:
        """Of the first member."""
        return self._ask(self._actors[0].weights.remote())[0]

    def process_ids(self) -> list[int]:
        """Of every member, by rank."""
        return self._ask(*(actor.process_id.remote() for actor in self._actors))

    def close(self) -> None:
        """Ends every member."""
        for actor in self._actors:
            ray.kill(actor)

    def _ask(self, *calls: Any) -> list[Any]:
        """Answers in order; a member that dies must not leave the others waiting for it."""
        waiting = list(calls)
        try:
            while waiting:
                ready, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
                ray.get(ready)
            return list(ray.get(list(calls)))
        except (RayActorError, GetTimeoutError) as error:
            self.close()
            raise WorkerLost("learner", str(error).splitlines()[0]) from None
        except RayTaskError as error:
            if isinstance(error.cause, SystemFailure):
                raise error.cause from None
            if len(self._actors) > 1 and isinstance(error.cause, torch.distributed.DistError):
                self.close()
                raise WorkerLost("learner", str(error.cause).splitlines()[0]) from None
            raise
