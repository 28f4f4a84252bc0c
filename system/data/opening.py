"""Finds the data that a configuration names, whatever their layout, and says what task they are of."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from system.config import NO_ENVIRONMENT, DatasetConfig
from system.data.dataset_task import Environments, dataset_task, task_of_data
from system.data.raw_episode import RawEpisode
from system.data.sources.minari import SOURCE as MINARI
from system.data.sources.minari import locate_dataset
from system.data.sources.protocol import ReadOptions, Source, SourceFacts, source_of
from system.types import TaskSpec

FILE_SUFFIXES = (".hdf5", ".h5", ".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class OpenedDataset:
    """Data that were found; no episode of them has been read.

    Attributes:
        name: id or path, as they are called in messages and summaries.
        path: file or folder.
        source: its layout.
        options: what is read of it.
        facts: what it says of its task.
        task: that its episodes are of.
    """

    name: str
    path: Path
    source: Source
    options: ReadOptions
    facts: SourceFacts
    task: TaskSpec

    def episodes(self) -> Iterator[RawEpisode]:
        """Every episode, bad ones too, one by one."""
        return self.source.read(self.path, self.task, self.options)

    def files(self) -> list[Path]:
        """All that is read."""
        return self.source.files(self.path)

    def count_problem(self, total: int) -> str | None:
        """One line if there are another number of episodes than are declared."""
        declared = self.facts.total_episodes
        if declared in (None, total):
            return None
        return f"the metadata declare {declared} episodes, {self.files()[0].name} has {total}"


def dataset_called(dataset: str, path: str | None = None, *, download: bool = True) -> DatasetConfig:
    """The configuration of what a person calls a dataset: a path, if there is such a file, else an id.

    Args:
        dataset: a path where it exists, or ends as files of data do.
        path, download: as in `DatasetConfig`.
    """
    is_file = dataset != "" and (dataset.endswith(FILE_SUFFIXES) or os.path.exists(dataset))
    return DatasetConfig(
        id=None if is_file else dataset, file=dataset if is_file else None, path=path, download=download
    )


def open_dataset(
    config: DatasetConfig,
    environments: Environments,
    environment_id: str | None = None,
    *,
    max_episode_steps: int | None = None,
    seed: int = 0,
) -> OpenedDataset:
    """Finds a dataset by its id, downloading it where that is needed and allowed, or a file by its path.

    Args:
        config: which, and where.
        environments: the environments that data may name; nothing else is ever built from what they say.
        environment_id: instead of what the data say, if anything; `none`: they are data alone.
        max_episode_steps: the time limit of data alone, instead of what they say; None for that.
        seed: of the draw from data that are drawn from.

    Raises:
        DataError: there is none, it is unsafe or damaged, or of another environment.
    """
    if config.file is None:
        path, source = locate_dataset(config), MINARI
    else:
        path = Path(config.file)
        source = source_of(path)
    most = config.max_transitions if source.is_drawn_from else None
    options = ReadOptions(name=config.name, observation_keys=config.observation_keys, max_steps=most, seed=seed)
    return open_source(source, path, options, environments, environment_id, max_episode_steps)


def open_source(
    source: Source,
    path: Path,
    options: ReadOptions,
    environments: Environments,
    environment_id: str | None = None,
    max_episode_steps: int | None = None,
) -> OpenedDataset:
    """Says what task a file or folder of a known layout is of.

    Args:
        source, path, options: what is read, and how.
        environments, environment_id, max_episode_steps: as for `open_dataset`.

    Raises:
        DataError: as for `open_dataset`.
    """
    name = options.name or str(path)
    facts = source.describe(path, options)
    if environment_id is not None:
        known = environment_id != NO_ENVIRONMENT
        facts = replace(facts, environment_id=environment_id if known else None, environment_kwargs={})
        facts = replace(facts, max_episode_steps=None) if known else facts
    task = dataset_task(name, facts, environments)
    if task is None:
        if max_episode_steps is not None:
            facts = replace(facts, max_episode_steps=max_episode_steps)
        unknown = TaskSpec(name, 1, 1, 1, has_environment=False)
        task = task_of_data(name, facts, source.read(path, unknown, options))
    if not facts.has_scores:
        task = replace(task, reference_min=None, reference_max=None)
    return OpenedDataset(name, path, source, options, facts, task)
