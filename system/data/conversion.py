"""Makes a Minari dataset of somebody's files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from system.data.opening import OpenedDataset
from system.data.raw_episode import RawEpisode
from system.data.validation import find_faults
from system.data.writer import write_dataset
from system.errors import DataError
from system.types import TaskSpec


@dataclass
class Conversion:
    """What became of a file.

    Attributes:
        folder: of the dataset.
        num_episodes: written.
        dropped: a line for each episode left out.
        notes: lines that a person should see.
    """

    folder: Path
    num_episodes: int = 0
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert(
    opened: OpenedDataset,
    dataset_id: str,
    *,
    root: Path,
    environment_specification: str,
    drop: bool = False,
) -> Conversion:
    """Writes a dataset that loads with the very arrays that the files themselves would have given.

    Args:
        opened: a file or folder of a layout that is known.
        dataset_id: of the new dataset.
        root: Minari's root.
        environment_specification: as for `write_dataset`.
        drop: leaves out episodes that are unfit, instead of refusing them all.

    Raises:
        DataError: an episode is unfit, or the dataset is there already.
    """
    path, task, facts = opened.path, opened.task, opened.facts
    conversion = Conversion(root / dataset_id, notes=list(facts.notes))
    write_dataset(
        root,
        dataset_id,
        _fit(path, opened.episodes(), task, conversion, drop=drop),
        task=task,
        environment_specification=environment_specification,
        author=f"converted from {path.name}",
        algorithm_name="unknown",
        description="; ".join([f"{opened.source.name} layout", *facts.notes]),
    )
    return conversion


def _fit(
    path: Path, episodes: Iterator[RawEpisode], task: TaskSpec, conversion: Conversion, *, drop: bool
) -> Iterator[RawEpisode]:
    for raw in episodes:
        faults = find_faults(raw, task)
        if faults and not drop:
            raise DataError(f"dataset {path}: {faults[0]} (dataset.on_bad_episode=drop leaves such episodes out)")
        if faults:
            conversion.dropped.append(str(faults[0]))
            continue
        conversion.num_episodes += 1
        if raw.note:
            conversion.notes.append(raw.note)
        yield raw
