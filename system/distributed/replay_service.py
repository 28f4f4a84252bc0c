"""The replay as a Ray actor that comes back from its log, and the client that waits for it."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from jaxtyping import Float32
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from system.data.replay.buffer import ReplayBuffer
from system.data.replay.episode_log import EpisodeLog
from system.data.replay.sampling import ReplayStats, SampleRequest
from system.data.store.episodes import EpisodeStore
from system.distributed.calls import answer, describe
from system.errors import WorkerLost
from system.types import Episode, SegmentBatch, TransitionBatch

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.2

Answer = TypeVar("Answer")


class ReplayService:
    """The actor's class: a `ReplayBuffer` over memory-mapped data and a log that outlives the process.

    Args:
        offline_folder: an `EpisodeStore`.
        log_folder: an `EpisodeLog`; opening it fences any earlier incarnation.
        context_length, max_episode_steps: as in `ReplayBuffer`.
    """

    def __init__(
        self, offline_folder: Path, log_folder: Path, context_length: int, max_episode_steps: int
    ) -> None:
        self.log = EpisodeLog.open(log_folder)
        self.buffer = ReplayBuffer(
            EpisodeStore.open(offline_folder),
            context_length=context_length,
            max_episode_steps=max_episode_steps,
            log=self.log,
        )

    def call(self, method: str, *arguments: Any) -> Any:
        """Any method of the buffer."""
        return getattr(self.buffer, method)(*arguments)

    def identity(self) -> tuple[int, int]:
        """(process id, generation of the log): the generation rises with every incarnation."""
        return os.getpid(), self.log.generation


class ReplayClient:
    """`Replay` over the actor; calls are repeated while it is being restarted, which they all allow.

    Args:
        handle: of a `ReplayService` actor.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def add_episodes(self, episodes: Sequence[Episode]) -> int:
        """Stores episodes durably before returning; returns how many were new (idempotent by key)."""
        return self._call("add_episodes", list(episodes))

    def sample_segments(self, request: SampleRequest) -> SegmentBatch:
        """A batch of windows."""
        return self._call("sample_segments", request)

    def sample_transitions(self, request: SampleRequest) -> TransitionBatch:
        """A batch of steps."""
        return self._call("sample_transitions", request)

    def target_returns(self, visible_episodes: int | None) -> Float32[np.ndarray, "steps"]:
        """The best return-to-go seen at each step."""
        return self._call("target_returns", visible_episodes)

    def online_episodes(self, first: int, last: int) -> list[Episode]:
        """Some of the online episodes."""
        return self._call("online_episodes", first, last)

    def stats(self) -> ReplayStats:
        """Counters."""
        return self._call("stats")

    def identity(self) -> tuple[int, int]:
        """(process id, generation)."""
        return patiently(lambda: answer(self.handle.identity.remote()))

    def close(self) -> None:
        """Ends the actor for good; everything acknowledged is on disk."""
        ray.kill(self.handle)

    def _call(self, method: str, *arguments: Any) -> Any:
        return patiently(lambda: answer(self.handle.call.remote(method, *arguments)))


def patiently(call: Callable[[], Answer]) -> Answer:
    """Repeats a call while the actor behind it is away.

    Raises:
        WorkerLost: it did not come back in `PATIENCE_SECONDS`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except RayActorError as error:
            if time.monotonic() > deadline:
                raise WorkerLost("replay", describe(error)) from None
            time.sleep(PAUSE_SECONDS)


def start_replay_service(
    offline_folder: Path, log_folder: Path, context_length: int, max_episode_steps: int
) -> ReplayClient:
    """Starts the actor on this process's node, where its folders are; Ray restarts it whenever it dies.

    Args:
        offline_folder, log_folder: absolute.
        context_length, max_episode_steps: as in `ReplayBuffer`.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(ReplayService).options(max_restarts=-1, num_cpus=0, scheduling_strategy=here)
    return ReplayClient(actor.remote(offline_folder, log_folder, context_length, max_episode_steps))
