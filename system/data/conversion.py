"""Makes a Minari dataset of somebody's files."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from system.data.raw_episode import RawEpisode
from system.data.sources.protocol import ReadOptions, source_of
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
    path: Path,
    dataset_id: str,
    *,
    root: Path,
    task: TaskSpec,
    environment_specification: str,
    options: ReadOptions,
    drop: bool = False,
) -> Conversion:
    """Writes a dataset that loads with the very arrays that the files themselves would have given.

    Args:
        path: a file or folder of a layout that is known.
        dataset_id: of the new dataset.
        root: Minari's root.
        task: that the episodes are of.
        environment_specification: as for `write_dataset`.
        options: what is read.
        drop: leaves out episodes that are unfit, instead of refusing them all.

    Raises:
        DataError: the file is of no known layout, an episode is unfit, or the dataset is there already.
    """
    source = source_of(path)
    facts = source.describe(path, options)
    if not facts.has_scores:
        task = replace(task, reference_min=None, reference_max=None)
    conversion = Conversion(root / dataset_id, notes=list(facts.notes))
    write_dataset(
        root,
        dataset_id,
        _fit(path, source.read(path, task, options), task, conversion, drop=drop),
        task=task,
        environment_specification=environment_specification,
        author=f"converted from {path.name}",
        algorithm_name="unknown",
        description="; ".join([f"{source.name} layout", *facts.notes]),
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
