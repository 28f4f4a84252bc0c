"""What the training loops ask of the things they drive.

Every protocol has an in-process implementation and one over Ray actors; the loops cannot tell which.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float32

from system.data.imagined_rollouts import ImaginedRollouts
from system.data.replay.sampling import ReplayStats, SampleRequest
from system.data.store.episodes import EpisodeStore
from system.types import Episode, Measurement, SegmentBatch, TransitionBatch, UtilityRanking

Weights = Mapping[str, torch.Tensor]
Metrics = dict[str, float]
SKIPPED = "skipped_updates"
"""Among a learner's metrics: how many of the updates were left out, their gradients not being finite."""


class Replay(Protocol):
    """Immutable offline data plus a growing, durable log of online episodes."""

    def add_episodes(self, episodes: Sequence[Episode]) -> int:
        """Stores episodes durably before returning; returns how many were new (idempotent by key)."""
        ...

    def sample_segments(self, request: SampleRequest) -> SegmentBatch: ...

    def sample_transitions(self, request: SampleRequest) -> TransitionBatch: ...

    def target_returns(self, visible_episodes: int | None) -> Float32[np.ndarray, "steps"]:
        """The best known return-to-go at each step, over offline and visible online episodes."""
        ...

    def online_episodes(self, first: int, last: int) -> list[Episode]:
        """Online episodes number `first` to `last` − 1, in the order in which they were acknowledged."""
        ...

    def stats(self) -> ReplayStats: ...


@dataclass(frozen=True)
class UpdateRequest:
    """A run of consecutive updates for the learners.

    Attributes:
        stage: `offline` or `online`; learning-rate schedules and seeds depend on it.
        first_step: update step (of that stage) of the first update.
        num_steps: how many updates to make.
        offline_fraction, visible_episodes: as in SampleRequest.
    """

    stage: str
    first_step: int
    num_steps: int
    offline_fraction: float = 1.0
    visible_episodes: int | None = None


class Learners(Protocol):
    """One or more learners that hold equal weights."""

    def update(self, request: UpdateRequest) -> Metrics:
        """Makes the updates and returns their mean metrics. Raises WorkerLost("learner")."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on exactly: weights, optimiser moments, duals."""
        ...

    def load_state(self, state: Weights) -> None: ...

    def weights(self) -> dict[str, torch.Tensor]:
        """What acting needs: the networks' parameters and buffers."""
        ...


@dataclass(frozen=True)
class Exploration:
    """How rollout workers act.

    Attributes:
        policy: one of the family's policies that plan; candidates are drawn in proportion
            to their utility.
        target_return_ratio: asked of it.
    """

    policy: str
    target_return_ratio: float


@dataclass(frozen=True)
class RolloutRequest:
    """A round of exploration by one worker.

    Attributes:
        num_episodes: whole episodes to collect.
        most_env_steps: once so many steps were made no further one of them begins; None: all of them do.
        first_sequence: key.sequence of the first of them.
        version: version of the weights to act with.
        exploration: how to act.
    """

    num_episodes: int
    first_sequence: int
    version: int
    exploration: Exploration
    most_env_steps: int | None = None


@dataclass(frozen=True)
class RolloutResult:
    """What a round brought; the episodes are in the replay already.

    Attributes:
        worker: index of the worker.
        returns: of each episode, in order of sequence.
        lengths: in env steps.
        mean_utility: of the first decision of each episode, for comparison with `returns`.
        decision_seconds: wall-clock time of each batched decision.
        version: of the weights that acted.
        num_dropped: episodes lost to environment errors.
        num_fallbacks: decisions whose search came to nothing that could be used.
    """

    worker: int
    returns: list[float]
    lengths: list[int]
    first_utilities: list[float]
    decision_seconds: list[float]
    version: int
    num_dropped: int = 0
    num_fallbacks: int = 0


class Rollouts(Protocol):
    """One or more rollout workers that send whole episodes to the replay."""

    def set_weights(self, weights: Weights, version: int) -> None:
        """Makes new weights available to every worker's next round."""
        ...

    def submit(
        self, exploration: Exploration, num_episodes: int, *, most_env_steps: int | None = None
    ) -> None:
        """Gives every idle worker one round to do (in process: nothing happens yet).

        Args:
            exploration, num_episodes, most_env_steps: of each of these rounds, as in `RolloutRequest`.
        """
        ...

    def collect(self, *, wait: bool) -> list[RolloutResult]:
        """Finished rounds; with `wait`, pending ones get up to a second to finish (in process: plays one now)."""
        ...

    def num_pending(self) -> int:
        """Rounds submitted and not yet returned."""
        ...

    def num_idle(self) -> int:
        """Workers that could be given a round now."""
        ...

    def position(self) -> dict[str, int]:
        """Next sequence number of each worker, for the checkpoint."""
        ...

    def seek(self, position: dict[str, int]) -> None:
        """Goes on from a checkpoint's position."""
        ...


@dataclass(frozen=True)
class EvaluationRequest:
    """A policy to be measured.

    Attributes:
        environment: id of the task that it plays.
        policy: one of the family's.
        purpose: `report` plays the reported episodes, times decisions and ranks a planner's utilities;
            `schedule` plays those of the online stage's scheduled evaluations.
        target_return_ratio: asked of it; with None a report chooses the one that does best on episodes of its own.
    """

    environment: str
    policy: str
    purpose: Literal["report", "schedule"]
    target_return_ratio: float | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """What came of a request.

    Attributes:
        measured: the episodes.
        ratio_curve: target-return ratio → mean return where one was chosen; else empty.
        ranking: of a planner's utilities; None where none was asked for.
    """

    measured: Measurement
    ratio_curve: Mapping[float, float]
    ranking: UtilityRanking | None = None


ImaginedChunk = tuple[tuple[str | int, ...], Sequence[int]]
"""What is imagined at once: a path within the run's seed, and the episodes to imagine from."""


class Evaluators(Protocol):
    """One or more that play policies of the weights given last, and imagine with them."""

    def set_weights(self, weights: Weights, version: int) -> None:
        """Makes the weights those of the next measurements and imagined chunks."""
        ...

    def measure(
        self, requests: Sequence[EvaluationRequest], pause: Callable[[], None]
    ) -> Iterator[tuple[int, EvaluationResult]]:
        """Answers requests, in whatever order they are finished.

        Args:
            requests: what to measure; an answer depends on its request and the weights alone.
            pause: called again and again meanwhile; may raise to stop.

        Yields:
            Index of a request, and what came of it.
        """
        ...

    def imagine(
        self, store: EpisodeStore, chunks: Sequence[ImaginedChunk], pause: Callable[[], None]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        """Imagines from episodes of a store, chunk by chunk, in whatever order they are finished.

        Args:
            store: what is imagined from.
            chunks: an answer depends on its chunk, the weights and the store alone.
            pause: as of `measure`.

        Yields:
            Index of a chunk, and what was imagined.
        """
        ...


class Workers(Protocol):
    """Everything that works for a run: in this process, or as Ray actors."""

    @property
    def replay(self) -> Replay:
        """Offline data and the log of online episodes."""
        ...

    @property
    def learners(self) -> Learners:
        """One or more."""
        ...

    @property
    def rollouts(self) -> Rollouts:
        """One or more."""
        ...

    @property
    def evaluators(self) -> Evaluators:
        """One or more."""
        ...

    def take_losses(self) -> dict[str, int]:
        """Worker losses survived since the last call, by name of the counter in `Faults`."""
        ...

    def processes(self) -> dict[str, int]:
        """Role → process id, the driver's included."""
        ...

    def restart_learners(self) -> None:
        """Replaces all learners after one was lost; their state is the caller's to load."""
        ...

    def close(self) -> None:
        """Ends every process that was started."""
        ...


@dataclass(frozen=True)
class Artifact:
    """A file for the tracker: a figure, table or JSON document."""

    path: Path
    folder: str = ""


class Tracker(Protocol):
    """Where progress and results go; never raises and never blocks training."""

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """How far a stage is, for a person who waits."""
        ...

    def note(self, message: str) -> None:
        """One line that a person should see: resumed, rolled back, worker lost."""
        ...

    def log_parameters(self, parameters: Mapping[str, object]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None: ...

    def log_dataset(self, name: str, digest: str, profile: Mapping[str, object]) -> None:
        """What is learnt from: id or path, digest of the files, and a few facts about it."""
        ...

    def log_artifact(self, artifact: Artifact) -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def state(self) -> dict[str, str]:
        """What a resumed run needs to go on in the same place (for example an MLflow run id)."""
        ...

    def close(self, status: str = "FINISHED") -> None: ...
