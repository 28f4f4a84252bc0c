"""Evaluators as Ray actors: each measures one policy, or imagines one chunk of a dataset, at a time.

What a lost one was at is asked of another: answers depend on what was asked alone.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from system.config import RunConfig
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.store.episodes import EpisodeStore
from system.distributed.calls import answer, describe
from system.distributed.cluster import cluster_session
from system.distributed.placement import (
    ReservedPlaces,
    evaluator_bundle,
    refuse_to_wait_longer,
    see_own_gpus,
    spread_options,
)
from system.errors import WorkerLost
from system.families.building import build_agent
from system.training.evaluator import Evaluator
from system.training.protocols import EvaluationRequest, EvaluationResult, ImaginedChunk, Weights
from system.types import TaskSpec

WAIT_SECONDS = 1.0
MOST_LOSSES_IN_A_ROW = 5


class EvaluatorActor:
    """The actor's class: an evaluator that is given the weights together with the request.

    Args:
        tasks, config: of the evaluator.
    """

    def __init__(self, tasks: Sequence[TaskSpec], config: RunConfig) -> None:
        self.evaluator = Evaluator(build_agent(tasks[0], config).eval(), tasks, config)
        self.version = -1

    def process_id(self) -> int:
        """Of this actor."""
        return os.getpid()

    def measure(self, request: EvaluationRequest, weights: Weights, version: int) -> EvaluationResult:
        """Answers one request with these weights."""
        self._take(weights, version)
        return self.evaluator.measure(request)

    def imagine(
        self, chunk: ImaginedChunk, store: EpisodeStore, weights: Weights, version: int
    ) -> ImaginedRollouts:
        """Imagines one chunk with these weights."""
        self._take(weights, version)
        return self.evaluator.imagine(store, chunk)

    def _take(self, weights: Weights, version: int) -> None:
        if version != self.version:
            self.evaluator.agent.load_state_dict({name: value.clone() for name, value in weights.items()})
            self.version = version


@dataclass
class _Member:
    """One evaluator.

    Attributes:
        actor: its handle.
        process_id: call whose answer is its process id, once it has started.
        has_started: it was seen to be there; until then it may be waiting for room.
        result: of the call it is at, whose index is `call`; None while it is idle.
        losses_in_a_row: of those in its place since one of them answered.
    """

    actor: Any
    process_id: ray.ObjectRef
    has_started: bool = False
    result: ray.ObjectRef | None = None
    call: int = -1
    losses_in_a_row: int = 0


class EvaluatorGroup:
    """`Evaluators` over n actors. The first one's place is kept while this object lives, whatever else waits for
    room; where there is none for one of the others, the rest go on without it.

    Args:
        tasks, config: of every evaluator; `config.evaluators` is n, at least 1.

    Attributes:
        num_lost: evaluators lost so far.

    Raises:
        ClusterLost: for `placement.wait_seconds` there was no room for the first.
    """

    def __init__(self, tasks: Sequence[TaskSpec], config: RunConfig) -> None:
        self.config = config
        self.num_lost = 0
        self._tasks = tuple(tasks)
        self._weights: ray.ObjectRef | None = None
        self._version = -1
        self._places = ReservedPlaces(
            "evaluator", [evaluator_bundle(config)], "pack", config.placement.wait_seconds
        )
        self._members = [self._start(number) for number in range(config.evaluators)]

    def set_weights(self, weights: Weights, version: int) -> None:
        """Puts the weights where every evaluator gets them with its next call."""
        self._weights, self._version = ray.put(dict(weights)), version

    def measure(
        self, requests: Sequence[EvaluationRequest], pause: Callable[[], None]
    ) -> Iterator[tuple[int, EvaluationResult]]:
        """Answers requests as they are finished; `pause` is called about once a second.

        Raises:
            WorkerLost: an evaluator and every replacement of it were lost.
            ClusterLost: for `placement.wait_seconds` there was no room for any evaluator.
            SystemFailure: an evaluator failed for a reason that a new one would not mend.
        """
        yield from self._answers("measure", [(request,) for request in requests], pause)

    def imagine(
        self, store: EpisodeStore, chunks: Sequence[ImaginedChunk], pause: Callable[[], None]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        """Imagines chunks as they are finished; `pause` is called about once a second.

        Raises:
            WorkerLost, ClusterLost, SystemFailure: as of `measure`.
        """
        shared = ray.put(store)  # kept here: evaluators that are started anew are given it too
        yield from self._answers("imagine", [(chunk, shared) for chunk in chunks], pause)

    def _answers(
        self, method: str, calls: Sequence[tuple[Any, ...]], pause: Callable[[], None]
    ) -> Iterator[tuple[int, Any]]:
        """(index of a call, answer), as they come."""
        waiting = deque(range(len(calls)))
        for member in self._members:
            member.result = None  # of an earlier call that was stopped
        alone_since = time.monotonic()
        while waiting or any(member.result is not None for member in self._members):
            pause()
            self._hand_out(method, calls, waiting)
            playing = {member.result: number for number, member in enumerate(self._members) if member.result}
            if not playing:
                self._wait_for_anyone(alone_since)
                continue
            alone_since = time.monotonic()
            for result in ray.wait(list(playing), timeout=WAIT_SECONDS)[0]:
                number = playing[result]
                index = self._members[number].call
                try:
                    found = answer(result)
                except RayActorError as error:
                    self._replace(number, error)
                    waiting.appendleft(index)
                    continue
                self._members[number].result, self._members[number].losses_in_a_row = None, 0
                yield index, found

    def process_ids(self) -> dict[int, int]:
        """Evaluator → process id, of those that have started."""
        found = {}
        for number, member in enumerate(self._members):
            if self._has_started(number):
                try:
                    found[number] = answer(member.process_id)
                except RayActorError:
                    continue  # lost since; its next request tells
        return found

    def close(self) -> None:
        """Ends every evaluator."""
        for member in self._members:
            ray.kill(member.actor)
        self._places.close()

    def _hand_out(self, method: str, calls: Sequence[tuple[Any, ...]], waiting: deque[int]) -> None:
        """Gives every idle evaluator that is there the next call."""
        for number, member in enumerate(self._members):
            if waiting and member.result is None and self._has_started(number):
                member.call = waiting.popleft()
                asked = getattr(member.actor, method)
                member.result = asked.remote(*calls[member.call], self._weights, self._version)

    def _has_started(self, number: int) -> bool:
        member = self._members[number]
        if not member.has_started and ray.wait([member.process_id], timeout=0)[0]:
            try:
                answer(member.process_id)
                member.has_started = True
            except RayActorError as error:
                self._replace(number, error)
        return member.has_started

    def _wait_for_anyone(self, since: float) -> None:
        """Up to a second, for any evaluator; gives up where for too long nobody was there."""
        who = f"none of {len(self._members)} evaluators"
        refuse_to_wait_longer(self.config, since, who, evaluator_bundle(self.config))
        ray.wait([member.process_id for member in self._members], timeout=WAIT_SECONDS)

    def _replace(self, number: int, error: RayActorError) -> None:
        """A new evaluator in a lost one's place."""
        lost = self._members[number]
        ray.kill(lost.actor)  # one that was only out of reach need not go on
        self.num_lost += 1
        if lost.losses_in_a_row == MOST_LOSSES_IN_A_ROW:
            raise WorkerLost("evaluator", f"{MOST_LOSSES_IN_A_ROW + 1} times in a row: {describe(error)}")
        self._members[number] = self._start(number)
        self._members[number].losses_in_a_row = lost.losses_in_a_row + 1

    def _start(self, number: int) -> _Member:
        options = spread_options(evaluator_bundle(self.config)) if number else self._places.options(0)
        options = see_own_gpus(options, self.config)
        actor = ray.remote(EvaluatorActor).options(**options).remote(self._tasks, self.config)
        return _Member(actor, actor.process_id.remote())


@contextmanager
def evaluators_over_ray(
    weights: Weights, tasks: Sequence[TaskSpec], config: RunConfig, address: str | None
) -> Iterator[EvaluatorGroup]:
    """Evaluators that begin and end here.

    Args:
        weights: of the agent.
        tasks, config: as for `EvaluatorGroup`.
        address: of a running cluster; None starts one for them.

    Raises:
        ClusterLost: the cluster does not answer or has no room.
    """
    cpus = evaluator_bundle(config)["CPU"]
    with cluster_session(address, num_cpus=cpus * config.evaluators, least_cpus=cpus):
        with closing(EvaluatorGroup(tasks, config)) as group:
            group.set_weights({name: value.cpu() for name, value in weights.items()}, 0)
            yield group
