"""Minari datasets as a source: where they lie, what they are of, their episodes."""

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from system.config import DatasetConfig
from system.data.raw_episode import RawEpisode
from system.data.sources.hdf5_reader import LARGEST_TOTAL_BYTES_OF_FRAMES, Hdf5Episodes
from system.data.sources.minari_hub import download_dataset
from system.data.sources.minari_layout import (
    MAIN_FILE,
    METADATA_FILE,
    PATH_VARIABLE,
    SHIPPED_PREFIX,
    BoxBounds,
    DiscreteSpace,
    ImageSpace,
    check_dataset_id,
    find_dataset,
    read_metadata,
    search_roots,
)
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.data.validation import ACTION_TOLERANCE
from system.errors import DataError
from system.types import TaskSpec

MOST_NAMED = 4  # environments that an error about an unknown one suggests


def locate_dataset(config: DatasetConfig) -> Path:
    """The dataset's `data` folder, downloaded first where that is allowed and needed.

    Raises:
        DataError: the id is malformed, or the dataset is nowhere.
    """
    dataset_id = check_dataset_id(config.name)
    roots = search_roots(dataset_id, config.path)
    folder = find_dataset(dataset_id, roots)
    reason = ""
    if folder is None and config.download and not dataset_id.startswith(SHIPPED_PREFIX):
        reason = download_dataset(dataset_id, roots[0])
        folder = find_dataset(dataset_id, roots)
    if folder is None:
        places = " or ".join(str(root) for root in roots)
        cause = f"; download failed: {reason}" if reason else ""
        raise DataError(
            f"dataset {dataset_id} is not in {places}{cause}; set {PATH_VARIABLE} or dataset.path to the folder "
            f"of local datasets, make one with `o2o collect`, or name a file (dataset.file); datasets of Minari's "
            "hub are downloaded where the extra hub is installed (pip install 'offline-to-online[hub]')"
        )
    return folder


def dataset_task(dataset_id: str, metadata: SourceFacts, environments: Mapping[str, TaskSpec]) -> TaskSpec:
    """The known environment's task, with the dataset's reference scores where it has them.

    Raises:
        DataError: the environment is not a known one, or its spaces are not the dataset's.
    """
    if metadata.environment_id is None:
        raise DataError(f"dataset {dataset_id}: says nothing of its environment")
    task = environments.get(metadata.environment_id)
    if task is None:
        named = metadata.environment_id[:80]
        nearest = difflib.get_close_matches(named, environments, n=MOST_NAMED, cutoff=0.0)
        known = ", ".join(nearest) + (", …" if len(environments) > MOST_NAMED else "")
        raise DataError(
            f"dataset {dataset_id}: environment {ascii(metadata.environment_id)[:60]} is not one of {known}"
        )
    _check_spaces(dataset_id, metadata, task)
    if metadata.reference_min is None:
        return task
    return replace(task, reference_min=metadata.reference_min, reference_max=metadata.reference_max)


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """What the metadata declare."""
    return SourceFacts(**vars(read_metadata(options.name or str(path), data_folder(path))))


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """The episodes, in the order of their numbers; frames may be more than fit into memory."""
    name, file = options.name or str(path), data_folder(path) / MAIN_FILE
    if task.frame_shape is None:
        return iter(Hdf5Episodes(file, name))
    return iter(Hdf5Episodes(file, name, LARGEST_TOTAL_BYTES_OF_FRAMES))


def recognises(path: Path) -> bool:
    """A folder with `data/metadata.json`, or the folder `data` itself."""
    return (data_folder(path) / METADATA_FILE).is_file()


def data_folder(path: Path) -> Path:
    """Where metadata and episodes are, of a dataset's folder."""
    return path if (path / METADATA_FILE).is_file() else path / "data"


def _check_spaces(dataset_id: str, metadata: SourceFacts, task: TaskSpec) -> None:
    """A space that is missing is taken to be the environment's."""
    if metadata.observation_space is not None:
        _check_observations(f"dataset {dataset_id}:", metadata.observation_space, task)
    if metadata.action_space is not None:
        _check_actions(f"dataset {dataset_id}:", metadata.action_space, task)


def _check_observations(dataset: str, space: BoxBounds | ImageSpace, task: TaskSpec) -> None:
    """Of frames only that they are some: the metadata may declare those of the raw environment."""
    if isinstance(space, ImageSpace):
        if task.frame_shape is None:
            dimensions = f"{task.observation_dim} observation dimensions"
            raise DataError(f"{dataset} frames of shape {space.shape}, but {task.environment_id} has {dimensions}")
    elif task.frame_shape is not None:
        raise DataError(f"{dataset} {space.dim} observation dimensions, but {task.environment_id} shows frames")
    elif space.dim != task.observation_dim:
        raise DataError(
            f"{dataset} {space.dim} observation dimensions, but {task.environment_id} has {task.observation_dim}"
        )


def _check_actions(dataset: str, space: BoxBounds | DiscreteSpace, task: TaskSpec) -> None:
    where = f"but {task.environment_id} has"
    kind = "discrete actions" if task.is_discrete else "action dimensions"
    if isinstance(space, DiscreteSpace):
        if not task.is_discrete or space.count != task.action_dim:
            raise DataError(f"{dataset} {space.count} discrete actions, {where} {task.action_dim} {kind}")
        return
    if task.is_discrete or space.dim != task.action_dim:
        raise DataError(f"{dataset} {space.dim} action dimensions, {where} {task.action_dim} {kind}")
    for bound, expected in ((space.low, task.action_low), (space.high, task.action_high)):
        if bound is None or not math.isclose(bound, expected, abs_tol=ACTION_TOLERANCE):
            raise DataError(
                f"{dataset} action bounds [{space.low}, {space.high}], {where} "
                f"[{task.action_low:g}, {task.action_high:g}]"
            )


SOURCE = Source(
    name="Minari",
    looks_like="the folder of a Minari dataset",
    recognises=recognises,
    describe=describe,
    read=read,
    files=lambda path: [data_folder(path) / MAIN_FILE],
)
