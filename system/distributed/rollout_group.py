"""Rollout workers as Ray actors; one that is lost is replaced, and nothing that it sent is lost."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from system.config import RunConfig
from system.distributed.calls import answer, describe
from system.distributed.metrics import DecisionLatency
from system.distributed.placement import (
    least_rollout_workers,
    refuse_to_wait_longer,
    rollout_bundle,
    see_own_gpus,
    spread_options,
)
from system.errors import WorkerLost
from system.training.protocols import Exploration, Replay, RolloutRequest, RolloutResult, Weights
from system.training.rollout_worker import RolloutWorker
from system.types import TaskSpec

WAIT_SECONDS = 1.0
MOST_LOSSES_IN_A_ROW = 5


class MeasuredRolloutWorker(RolloutWorker):
    """A `RolloutWorker` whose decisions are measured for the cluster's metrics.

    Args:
        index, epoch, task, config, replay: of the worker.
        run: name of the run.
    """

    def __init__(
        self, index: int, epoch: int, task: TaskSpec, config: RunConfig, replay: Replay, run: str
    ) -> None:
        super().__init__(index, epoch, task, config, replay)
        self.latency = DecisionLatency(run, task.environment_id)

    def collect(self, request: RolloutRequest) -> RolloutResult:
        """As any worker."""
        result = super().collect(request)
        self.latency.observe(result.decision_seconds)
        return result


class RolloutActor(MeasuredRolloutWorker):
    """The actor's class: a rollout worker that is given the weights together with the round."""

    def process_id(self) -> int:
        """Of this actor."""
        return os.getpid()

    def play(self, request: RolloutRequest, weights: Weights) -> RolloutResult:
        """As `collect`, with these weights, whose version the request names."""
        if request.version != self.version:
            self.set_weights(weights, request.version)
        return self.collect(request)


@dataclass
class _Member:
    """One worker and what it is doing.

    Attributes:
        actor: its handle.
        process_id: call whose answer is its process id, once it has started.
        epoch: incarnation; part of its episodes' keys.
        has_started: it was seen to be there; until then it may be waiting for room.
        next_sequence: of the next episode it will be asked for.
        request, result: of the round it is playing; None while it is idle.
        losses_in_a_row: incarnations lost since the last finished round.
    """

    actor: Any
    process_id: ray.ObjectRef
    epoch: int
    has_started: bool = False
    next_sequence: int = 0
    request: RolloutRequest | None = None
    result: ray.ObjectRef | None = None
    losses_in_a_row: int = 0


class RolloutGroup:
    """`Rollouts` over n actors.

    A lost worker is replaced by one of the next epoch, and its unfinished round is given up. In
    deterministic mode the epoch stays and the same round is played again, to the same bytes. Where there is no
    room for a worker, the others go on without it, and it joins them when there is.

    Args:
        tasks: of which worker i plays the one at i modulo their number.
        config, replay: of every worker; `config.rollout_workers` is n, at least 1.
        epoch: of the first incarnations.
        run: name of the run, in the cluster's metrics.

    Attributes:
        num_lost: workers lost so far.
    """

    def __init__(
        self, tasks: Sequence[TaskSpec], config: RunConfig, replay: Replay, epoch: int, run: str = ""
    ) -> None:
        self.config = config
        self.num_lost = 0
        self._arguments = (tuple(tasks), config, replay, run)
        self._members = [self._start(index, epoch) for index in range(config.rollout_workers)]
        self._weights: ray.ObjectRef | None = None
        self._version = -1
        self._alone_since: float | None = None

    def wait_until_started(self) -> None:
        """Returns once as many workers can play as the run begins with.

        Raises:
            SystemFailure: one could not be built.
            WorkerLost: one and every replacement of it were lost.
            ClusterLost: there was no room for them in `placement.wait_seconds`.
        """
        began = time.monotonic()
        while self.num_started() < least_rollout_workers(self.config):
            self._refuse_to_wait_longer_than_allowed(began)
            self._wait_for_starts()

    def num_started(self) -> int:
        """Workers that are there, as far as is known; looks for such as had to wait for room."""
        return sum(self._has_started(index) for index in range(len(self._members)))

    def num_idle(self) -> int:
        """Those of them with nothing to do."""
        return sum(
            self._has_started(index) and self._members[index].request is None
            for index in range(len(self._members))
        )

    def set_weights(self, weights: Weights, version: int) -> None:
        """Puts the weights where every worker gets them with its next round."""
        self._weights, self._version = ray.put(dict(weights)), version

    def submit(
        self, exploration: Exploration, num_episodes: int, *, most_env_steps: int | None = None
    ) -> None:
        """Gives every idle worker one round; one that waits for room would play it with old weights."""
        for index in range(len(self._members)):
            started, member = self._has_started(index), self._members[index]
            if started and member.request is None:
                member.request = RolloutRequest(
                    num_episodes, member.next_sequence, self._version, exploration, most_env_steps
                )
                member.result = member.actor.play.remote(member.request, self._weights)
                member.next_sequence += num_episodes

    def collect(self, *, wait: bool) -> list[RolloutResult]:
        """Finished rounds; with `wait`, pending ones get up to a second to finish.

        Raises:
            WorkerLost: a worker and every replacement of it were lost.
            ClusterLost: for `placement.wait_seconds` there was no room for any worker.
            SystemFailure: a worker failed for a reason that a new one would not mend.
        """
        pending = {member.result: index for index, member in enumerate(self._members) if member.result is not None}
        if not pending:
            self._look_for_anyone(wait=wait)
            return []
        ready, rest = ray.wait(list(pending), num_returns=1, timeout=WAIT_SECONDS if wait else 0)
        if rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        results = []
        for call in sorted(ready, key=pending.__getitem__):
            result = self._hear(pending[call], call)
            if result is not None:
                member = self._members[pending[call]]
                member.request, member.result, member.losses_in_a_row = None, None, 0
                results.append(result)
        return results

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
            member.request = member.result = None
            member.next_sequence = position.get(str(index), 0)

    def process_ids(self) -> dict[int, int]:
        """Worker → process id, of those that have started."""
        found = {}
        for index, member in enumerate(self._members):
            if ray.wait([member.process_id], timeout=0)[0]:
                process_id = self._hear(index, member.process_id)
                if process_id is not None:
                    found[index] = process_id
        return found

    def close(self) -> None:
        """Ends every worker."""
        for member in self._members:
            ray.kill(member.actor)

    def _start(self, index: int, epoch: int) -> _Member:
        tasks, config, replay, run = self._arguments
        actor = (
            ray.remote(RolloutActor)
            .options(**see_own_gpus(spread_options(rollout_bundle(config)), config))
            .remote(index, epoch, tasks[index % len(tasks)], config, replay, run)
        )
        return _Member(actor, actor.process_id.remote(), epoch)

    def _has_started(self, index: int) -> bool:
        member = self._members[index]
        if not member.has_started and ray.wait([member.process_id], timeout=0)[0]:
            member.has_started = self._hear(index, member.process_id) is not None
        return member.has_started

    def _wait_for_starts(self) -> None:
        """Up to a second, for any worker that is not there yet."""
        waiting = [member.process_id for member in self._members if not member.has_started]
        if waiting:
            ray.wait(waiting, timeout=WAIT_SECONDS)

    def _look_for_anyone(self, *, wait: bool) -> None:
        """Nobody is playing: gives up where for too long nobody was there."""
        if self.num_started():
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        self._refuse_to_wait_longer_than_allowed(self._alone_since)
        if wait:
            self._wait_for_starts()

    def _refuse_to_wait_longer_than_allowed(self, began: float) -> None:
        who = f"{self.num_started()} of {len(self._members)} rollout workers"
        refuse_to_wait_longer(self.config, began, who, rollout_bundle(self.config))

    def _hear(self, index: int, call: ray.ObjectRef) -> Any:
        """The answer of a worker; None if it was lost, and another has taken its place."""
        try:
            return answer(call)
        except RayActorError as error:
            self._replace(index, error)
            return None

    def _replace(self, index: int, error: RayActorError) -> None:
        """A new worker in a lost one's place."""
        lost = self._members[index]
        ray.kill(lost.actor)  # one that was only out of reach must not go on beside its successor
        self.num_lost += 1
        if lost.losses_in_a_row == MOST_LOSSES_IN_A_ROW:
            raise WorkerLost("rollout_worker", f"{MOST_LOSSES_IN_A_ROW + 1} times in a row: {describe(error)}")
        member = self._start(index, lost.epoch + (0 if self.config.deterministic else 1))
        member.next_sequence, member.losses_in_a_row = lost.next_sequence, lost.losses_in_a_row + 1
        if self.config.deterministic and lost.request is not None:
            member.request, member.result = lost.request, member.actor.play.remote(lost.request, self._weights)
        self._members[index] = member
