"""One learner: draws its share of each batch from the replay and updates an agent."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from system import fault_points
from system.config import RunConfig
from system.errors import LearningDiverged
from system.families.building import Foundation, build_agent
from system.families.registry import family_of
from system.models.devices import prepare_process
from system.models.optimizer_state import AverageGradients, keep_gradients
from system.seeding import derive_seed
from system.training.process_memory import keep_freed_memory
from system.training.protocols import SKIPPED, Metrics, Replay, SampleRequest, UpdateRequest, Weights
from system.types import SegmentBatch, TaskSpec, TransitionBatch

MOST_SKIPPED_IN_A_ROW = 10

Drawn = TypeVar("Drawn")


class LearnerWorker:
    """A learner and its data; alone it is the in-process `Learners`, in a group it is one rank.

    Args:
        task: dimensions.
        config: the run's configuration.
        foundation: of the training split.
        replay: where batches come from.
        average_gradients: the group's all-reduce.
        shard: (rank, number of learners).
    """

    def __init__(
        self,
        task: TaskSpec,
        config: RunConfig,
        foundation: Foundation,
        replay: Replay,
        *,
        average_gradients: AverageGradients = keep_gradients,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        prepare_process(config)
        keep_freed_memory()
        self.config = config
        self.replay = replay
        self.shard = shard
        self.family = family_of(config)
        self.agent = build_agent(task, config, foundation)
        self.learner = self.family.learn(self.agent, config, average_gradients=average_gradients, shard=shard)
        self._skipped_in_a_row = 0
        if config.compile:
            assert self.family.compile is not None, "checked with the configuration"
            self.family.compile(self.agent)

    def update(self, request: UpdateRequest) -> Metrics:
        """Makes `request.num_steps` updates; returns the mean of each metric over them.

        An update whose gradient is not finite leaves everything as it is; `skipped_updates` counts them, and no
        mean contains them.

        Raises:
            LearningDiverged: the latest updates were all like that; names the metric and the update step.
        """
        self.agent.train()
        sums: dict[str, float] = {}
        skipped = 0
        steps = range(request.first_step, request.first_step + request.num_steps)
        batches = drawn_ahead(
            lambda step: (self._segments(request, step), self._transitions(request, step)), steps
        )
        for step, (segments, transitions) in zip(steps, batches, strict=True):
            fault_points.reach("learner.step")
            made = self.learner.update(segments, transitions, stage=request.stage, step=step)
            # All in one piece: each look at a number waits for the accelerator.
            numbers = torch.stack([value.float() for value in made.values()]).tolist() if made else []
            metrics = dict(zip(made, numbers, strict=True))
            bad = next((name for name, value in metrics.items() if not math.isfinite(value)), None)
            if bad is None:
                self._skipped_in_a_row = 0
                for name, value in metrics.items():
                    sums[name] = sums.get(name, 0.0) + value
                continue
            skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
                raise LearningDiverged(
                    f"{bad} has not been finite in {self._skipped_in_a_row} updates, the latest of them "
                    f"{request.stage} update step {step}; checkpoints are from before"
                )
        if request.stage == "online" and self.family.refresh is not None:
            self.family.refresh(self.agent, self.replay, request.visible_episodes)
        means = {name: total / (request.num_steps - skipped) for name, total in sums.items()}
        return {**means, SKIPPED: float(skipped)}

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on exactly, on the CPU."""
        return {name: value.cpu() for name, value in self.learner.state().items()}

    def load_state(self, state: Weights) -> None:
        """Restores what `state` gave."""
        self.learner.load_state(state)

    def weights(self) -> dict[str, torch.Tensor]:
        """What acting needs, on the CPU."""
        return {name: value.cpu() for name, value in self.learner.weights().items()}

    def _segments(self, request: UpdateRequest, step: int) -> SegmentBatch:
        seed = derive_seed(self.config.seed, "segments", request.stage, step)
        size = self.family.segments_per_step(self.config)
        return self.replay.sample_segments(self._request(request, size, seed))

    def _transitions(self, request: UpdateRequest, step: int) -> list[TransitionBatch]:
        number, size = self.family.transition_batches(self.config, request.stage)
        seeds = [
            derive_seed(self.config.seed, "transitions", request.stage, step, index) for index in range(number)
        ]
        return [self.replay.sample_transitions(self._request(request, size, seed)) for seed in seeds]

    def _request(self, request: UpdateRequest, batch_size: int, seed: int) -> SampleRequest:
        return SampleRequest(
            batch_size=batch_size,
            seed=seed,
            offline_fraction=request.offline_fraction,
            visible_episodes=request.visible_episodes,
            shard=self.shard,
            windows=self.family.windows,
            weighting=self.config.online.segment_weighting if request.stage == "online" else "uniform",
        )


def drawn_ahead(draw: Callable[[int], Drawn], steps: Sequence[int]) -> Iterator[Drawn]:
    """draw(step) of every step, the next one already being drawn while the current one is worked on.

    Args:
        draw: called in order, in a thread of its own.
        steps: arguments.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="replay") as executor:
        following = None
        for step in steps:
            current, following = following, executor.submit(draw, step)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()
