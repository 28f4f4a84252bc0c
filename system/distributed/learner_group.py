"""Learners as Ray actors with equal weights: each takes its share of a batch, gradients are averaged."""

import os
import socket
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal

import ray
import torch
import torch.distributed
from ray.exceptions import RayActorError
from torch import nn

from system.config import RunConfig
from system.distributed.calls import answer, describe
from system.distributed.placement import ReservedPlaces, learner_bundle, see_own_gpus
from system.errors import WorkerLost
from system.families.building import Foundation
from system.models.optimizer_state import keep_gradients
from system.training.learner_worker import LearnerWorker
from system.training.protocols import Metrics, Replay, UpdateRequest, Weights
from system.types import TaskSpec

COLLECTIVE_TIMEOUT = timedelta(seconds=120)


class LearnerActor:
    """The actor's class: one rank, around a `LearnerWorker`.

    Args:
        task, config, foundation, replay: of the worker.
        rank, world: place in the group.
    """

    def __init__(
        self,
        task: TaskSpec,
        config: RunConfig,
        foundation: Foundation,
        replay: Replay,
        rank: int,
        world: int,
    ) -> None:
        self.worker = LearnerWorker(
            task,
            config,
            foundation,
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

    def join(self, address: str, backend: Literal["gloo", "nccl"]) -> None:
        """Joins the group; every member calls it, and it returns once all have."""
        rank, world = self.worker.shard
        torch.distributed.init_process_group(
            backend, init_method=address, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT
        )

    def update(self, request: UpdateRequest) -> Metrics:
        """Makes the updates on this member's share."""
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
    """Replaces every gradient by its mean over the group, in one all-reduce.

    Raises:
        WorkerLost: a member is gone, which those left notice by the end of their connection.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    try:
        torch.distributed.all_reduce(flat)
    except RuntimeError as error:
        raise WorkerLost("learner", "the connection to another learner ended") from error
    flat /= torch.distributed.get_world_size()
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


class LearnerGroup:
    """`Learners` over n actors.

    Args:
        task, config, foundation, replay: of every member; `config.learners` is n, at least 1.

    Raises:
        WorkerLost: a member died while it started.
        ClusterLost: there was no room for all of them in `placement.wait_seconds`.
    """

    def __init__(self, task: TaskSpec, config: RunConfig, foundation: Foundation, replay: Replay) -> None:
        world = config.learners
        bundle = learner_bundle(config, ray.cluster_resources().get("GPU", 0.0))
        placement = config.placement
        strategy = placement.learners.strategy
        self._places = ReservedPlaces("learners", [bundle] * world, strategy, placement.wait_seconds)
        self._actors = [
            ray.remote(LearnerActor)
            .options(**see_own_gpus(self._places.options(rank), config))
            .remote(task, config, foundation, replay, rank, world)
            for rank in range(world)
        ]
        self.process_ids: list[int] = self._ask(*(each.process_id.remote() for each in self._actors))
        if world > 1:
            address = self._ask(self._actors[0].free_address.remote())[0]
            backend = "nccl" if bundle["GPU"] == 1 else "gloo"  # nccl needs a GPU for every member
            self._ask(*(each.join.remote(address, backend) for each in self._actors))

    def update(self, request: UpdateRequest) -> Metrics:
        """The members' mean metrics.

        Raises:
            WorkerLost: a member died; the others have been ended.
        """
        answers = self._ask(*(actor.update.remote(request) for actor in self._actors))
        return {name: sum(each[name] for each in answers) / len(answers) for name in answers[0]}

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

    def close(self) -> None:
        """Ends every member."""
        for actor in self._actors:
            ray.kill(actor)
        self._places.close()

    def _ask(self, *calls: ray.ObjectRef) -> list[Any]:
        """Answers in order of the calls; one member lost is all lost, for the others would wait for it."""
        answers: dict[ray.ObjectRef, Any] = {}
        try:
            while len(answers) < len(calls):
                ready, _ = ray.wait([call for call in calls if call not in answers])
                answers[ready[0]] = answer(ready[0])
        except RayActorError as error:
            self.close()
            raise WorkerLost("learner", describe(error)) from None
        except WorkerLost:
            self.close()
            raise
        return [answers[call] for call in calls]
