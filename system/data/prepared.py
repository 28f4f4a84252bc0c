"""The data of a run: what is trained on, what is held out, and what a person should know of both."""

from dataclasses import dataclass
from typing import Any

from system.data.store.episodes import EpisodeStore
from system.types import TaskSpec


@dataclass(frozen=True)
class PreparedData:
    """What is trained on, and what is held out.

    Attributes:
        tasks: the environment, with the reference scores; several games where several datasets are merged.
        training, validation: the two parts of the dataset; validation may have no episodes.
        foundation: what of the training part travels with the weights.
        frames: what the tokens of the validation part were made from; None where there are no frames.
        num_dropped: episodes left out as unfit.
        notes: lines that a person should see of how the data were divided.
        description: id, digest, episodes, steps and returns of the whole dataset, for the summary.
    """

    tasks: tuple[TaskSpec, ...]
    training: EpisodeStore
    validation: EpisodeStore
    foundation: Any
    num_dropped: int
    description: dict[str, Any]
    frames: EpisodeStore | None = None
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> TaskSpec:
        """The first of the tasks; all have the same dimensions."""
        return self.tasks[0]
