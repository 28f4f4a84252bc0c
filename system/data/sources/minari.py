"""Minari datasets as a source: where they lie, what they are of, their episodes."""

from collections.abc import Iterator
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
    check_dataset_id,
    find_dataset,
    read_metadata,
    read_observation_parts,
    search_roots,
)
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.errors import DataError
from system.types import TaskSpec


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
            f"dataset.id: {dataset_id} is not in {places}{cause}; set {PATH_VARIABLE} or dataset.path to the "
            "folder of local datasets, make one with `o2o collect`, or name a file (dataset.file); datasets of "
            "Minari's hub are downloaded where the extra hub is installed (pip install 'offline-to-online[hub]')"
        )
    return folder


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """What the metadata declare."""
    return SourceFacts(**vars(read_metadata(options.name or str(path), data_folder(path))))


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """The episodes, in the order of their numbers; frames may be more than fit into memory."""
    name, file = options.name or str(path), data_folder(path) / MAIN_FILE
    if task.frame_shape is None:
        parts = read_observation_parts(name, data_folder(path))
        return iter(Hdf5Episodes(file, name, parts=parts))
    return iter(Hdf5Episodes(file, name, LARGEST_TOTAL_BYTES_OF_FRAMES))


def recognises(path: Path) -> bool:
    """A folder with `data/metadata.json`, or the folder `data` itself."""
    return (data_folder(path) / METADATA_FILE).is_file()


def data_folder(path: Path) -> Path:
    """Where metadata and episodes are, of a dataset's folder."""
    return path if (path / METADATA_FILE).is_file() else path / "data"


SOURCE = Source(
    name="Minari",
    looks_like="the folder of a Minari dataset",
    recognises=recognises,
    describe=describe,
    read=read,
    files=lambda path: [data_folder(path) / MAIN_FILE],
)
