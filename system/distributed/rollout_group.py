"""Rollout workers as Ray actors; one that is lost is replaced, and nothing that it sent is lost."""

import os
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from system.config import RunConfig
from system.training.protocols import Replay, RolloutRequest, RolloutResult, Weights
from system.training.rollout_worker import RolloutWorker
from system.types import TaskSpec

WAIT_SECONDS = 1.0


class RolloutActor(RolloutWorker):
    """The actor's class: a `RolloutWorker` that knows its process."""

    def process_id(self) -> int:
        """Of this actor."""
        return os.getpid()

    def take_weights(self, weights: Weights, version: int) -> None:
        """As `set_weights`; what came through the object store is copied, for it is shared and read-only."""
        self.set_weights({name: value.clone() for name, value in weights.items()}, version)


@dataclass
class _Member:
    """One worker and what it is doing.

    Attributes:
        actor: its handle.
        epoch: incarnation; part of its episodes' keys.
        next_sequence: of the next episode it will be asked for.
        request, answer: of the round it is playing; None while it is idle.
    """

    actor: Any
    epoch: int
    next_sequence: int = 0
    request: RolloutRequest | None = None
    answer: Any = None


@dataclass
class RolloutGroup:
    """`Rollouts` over n actors.

    A lost worker is replaced by one of the next epoch, and its unfinished round is given up. In
    deterministic mode the epoch stays and the same round is played again, to the same bytes.

    Args:
        task, config, replay: of every worker; `config.rollout_workers` is n, at least 1.
        epoch: of the first incarnations.
    """

    task: TaskSpec
    config: RunConfig
    replay: Replay
    epoch: int
    num_lost: int = 0
    _members: list[_Member] = field(default_factory=list)
    _weights: Any = None
    _version: int = -1

    def __post_init__(self) -> None:
        self._members = [_Member(self._start(index, self.epoch), self.epoch) for index in range(self.config.rollout_workers)]

    def set_weights(self, weights: Weights, version: int) -> None:
        """Puts the weights where every worker gets them before its next round."""
        self._weights, self._version = ray.put(dict(weights)), version
        for member in self._members:
            member.actor.take_weights.remote(self._weights, version)

    def submit(self, target_return_ratio: float) -> None:
        """Gives every idle worker one round."""
        count = self.config.online.episodes_per_round
        for member in self._members:
            if member.request is None:
                request = RolloutRequest(count, member.next_sequence, self._version, target_return_ratio)
                member.next_sequence += count
                member.request, member.answer = request, member.actor.collect.remote(request)

    def collect(self, *, wait: bool) -> list[RolloutResult]:
        """Finished rounds; with `wait`, pending ones get up to a second to finish."""
        pending = {member.answer: index for index, member in enumerate(self._members) if member.request is not None}
        if not pending:
            return []
        ready, rest = ray.wait(list(pending), num_returns=1, timeout=WAIT_SECONDS if wait else 0)
        if rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        results = []
        for answer in ready:
            index = pending[answer]
            try:
                results.append(ray.get(answer))
            except RayActorError:
                self._replace(index)
                continue
            self._members[index].request = self._members[index].answer = None
        return sorted(results, key=lambda result: result.worker)

    def num_pending(self) -> int:
        """Rounds submitted and not yet returned."""
        return sum(member.request is not None for member in self._members)

    def position(self) -> dict[str, int]:
        """First sequence number of each worker that has not been returned yet."""
        return {
            str(index): member.request.first_sequence if member.request else member.next_sequence
            for index, member in enumerate(self._members)
        }

    def seek(self, position: dict[str, int]) -> None:
        """Goes on from a checkpoint's position; rounds being played are no longer waited for."""
        for index, member in enumerate(self._members):
            member.request = member.answer = None
            member.next_sequence = position.get(str(index), 0)

    def process_ids(self) -> list[int | None]:
        """Of every worker; None for one that has just died."""
        ids: list[int | None] = []
        for member in self._members:
            try:
                ids.append(ray.get(member.actor.process_id.options(concurrency_group="control").remote()))
            except RayActorError:
                ids.append(None)
        return ids

    def close(self) -> None:
        """Ends every worker."""
        for member in self._members:
            ray.kill(member.actor)

    def _start(self, index: int, epoch: int) -> Any:
        actor = ray.remote(concurrency_groups={"control": 1})(RolloutActor).options(num_cpus=1)
        return actor.remote(index, epoch, self.task, self.config, self.replay)

    def _replace(self, index: int) -> None:
        """A new worker in a lost one's place."""
        self.num_lost += 1
        member = self._members[index]
        if not self.config.deterministic:
            member.epoch += 1
        member.actor = self._start(index, member.epoch)
        if self._weights is not None:
            member.actor.take_weights.remote(self._weights, self._version)
        if self.config.deterministic:
            member.answer = member.actor.collect.remote(member.request)
        else:
            member.request = member.answer = None
