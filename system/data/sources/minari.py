"""Loads a Minari dataset into an `EpisodeStore`, refusing or dropping what is unfit."""

import difflib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from system.config import DatasetConfig
from system.data.sources.hdf5_reader import LARGEST_TOTAL_BYTES_OF_FRAMES, Hdf5Episodes
from system.data.sources.minari_hub import download_dataset
from system.data.sources.minari_layout import (
    MAIN_FILE,
    PATH_VARIABLE,
    SHIPPED_PREFIX,
    BoxBounds,
    DatasetMetadata,
    DiscreteSpace,
    ImageSpace,
    check_dataset_id,
    find_dataset,
    read_metadata,
    search_roots,
)
from system.data.store.column_files import FORMAT_VERSION
from system.data.store.episodes import EpisodeStore
from system.data.validation import ACTION_TOLERANCE, Fault, find_faults, to_episode
from system.errors import DataError
from system.types import Episode, TaskSpec

MOST_NAMED = 4  # environments that an error about an unknown one suggests


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset that is fit for training.

    Attributes:
        id: as asked for.
        store: every fit episode.
        task: of the environment that the data were collected in, with the dataset's own reference scores.
        dropped: a line for each episode left out (`on_bad_episode: drop`).
        digest: sha256 of the data file.
    """

    id: str
    store: EpisodeStore
    task: TaskSpec
    dropped: list[str]
    digest: str


def load_dataset(
    config: DatasetConfig,
    *,
    environments: Mapping[str, TaskSpec],
    discount: float,
    cache_folder: Path | None = None,
) -> LoadedDataset:
    """Finds, checks and loads a dataset.

    Args:
        config: which, where and how strict.
        environments: the environments that a dataset may name; nothing else is ever built from its metadata.
        discount: γ of the returns-to-go.
        cache_folder: where the columns are kept, one episode after the other, and memory-mapped from there;
            None keeps nothing and holds them in memory.

    Raises:
        DataError: the dataset is missing, unsafe, of another environment, or unfit.
    """
    folder = locate_dataset(config)
    metadata = read_metadata(config.id, folder)
    task = dataset_task(config.id, metadata, environments)
    file = folder / MAIN_FILE
    digest = _file_digest(config.id, file)
    dropped: list[str] = []
    store = None
    if cache_folder is not None:
        cached = cache_folder / _cache_key(digest, config, metadata, task, discount)
        known = _open_cache(cached)
        if known is not None:
            return LoadedDataset(config.id, known[0], task, known[1], digest)
        store = _write_cache(cached, _read_episodes(config, file, metadata, task, dropped), dropped, discount)
    if store is None:
        dropped.clear()
        episodes = _read_episodes(config, file, metadata, task, dropped)
        store = EpisodeStore.from_episodes(episodes, discount=discount)
    return LoadedDataset(config.id, store, task, dropped, digest)


def load_datasets(
    config: DatasetConfig,
    *,
    environments: Mapping[str, TaskSpec],
    discount: float,
    cache_folder: Path | None = None,
) -> list[LoadedDataset]:
    """Loads the configured dataset and those that it is trained on together with (`dataset.also`).

    Args:
        config, environments, discount, cache_folder: as for `load_dataset`.

    Returns:
        One or more datasets whose episodes can be in one store; several only of discrete tasks that show
        frames of the same shape.

    Raises:
        DataError: a dataset is named twice, unfit, or does not go together with the first.
    """
    ids = (config.id, *config.also)
    for dataset_id in ids:
        if ids.count(dataset_id) > 1:
            raise DataError(f"dataset.also: {dataset_id} is named twice")
    loaded = [
        load_dataset(
            replace(config, id=dataset_id, also=()),
            environments=environments,
            discount=discount,
            cache_folder=cache_folder,
        )
        for dataset_id in ids
    ]
    first = loaded[0].task
    for other in loaded[1:]:
        kinds = [(task.is_discrete, task.frame_shape, task.action_dim) for task in (first, other.task)]
        if kinds[0] != kinds[1] or not first.is_discrete:
            raise DataError(
                f"dataset.also: {other.id} of {other.task.environment_id} can't be trained on together with "
                f"{config.id} of {first.environment_id}; only Atari games can"
            )
    return loaded


def locate_dataset(config: DatasetConfig) -> Path:
    """The dataset's `data` folder, downloaded first where that is allowed and needed.

    Raises:
        DataError: the id is malformed, or the dataset is nowhere.
    """
    check_dataset_id(config.id)
    roots = search_roots(config.id, config.path)
    folder = find_dataset(config.id, roots)
    reason = ""
    if folder is None and config.download and not config.id.startswith(SHIPPED_PREFIX):
        reason = download_dataset(config.id, roots[0])
        folder = find_dataset(config.id, roots)
    if folder is None:
        places = " or ".join(str(root) for root in roots)
        cause = f"; download failed: {reason}" if reason else ""
        raise DataError(
            f"dataset {config.id} is not in {places}{cause}; set {PATH_VARIABLE} or dataset.path to the folder of "
            f"local datasets, or make one with `o2o collect`"
        )
    return folder


def dataset_task(dataset_id: str, metadata: DatasetMetadata, environments: Mapping[str, TaskSpec]) -> TaskSpec:
    """The known environment's task, with the dataset's reference scores where it has them.

    Raises:
        DataError: the environment is not a known one, or its spaces are not the dataset's.
    """
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


def open_episodes(dataset_id: str, file: Path, task: TaskSpec) -> Hdf5Episodes:
    """The file's episodes, to be read one by one; frames may be more than fit into memory."""
    if task.frame_shape is None:
        return Hdf5Episodes(file, dataset_id)
    return Hdf5Episodes(file, dataset_id, LARGEST_TOTAL_BYTES_OF_FRAMES)


def episode_count_problem(metadata: DatasetMetadata, total: int) -> str | None:
    """One line if the file holds another number of episodes than its metadata declare."""
    if metadata.total_episodes in (None, total):
        return None
    return f"the metadata declare {metadata.total_episodes} episodes, {MAIN_FILE} has {total}"


def _check_spaces(dataset_id: str, metadata: DatasetMetadata, task: TaskSpec) -> None:
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


def _read_episodes(
    config: DatasetConfig, file: Path, metadata: DatasetMetadata, task: TaskSpec, dropped: list[str]
) -> Iterator[Episode]:
    """Fit episodes one by one; a line for each other one is added to `dropped`, or in strict mode it raises."""
    total = fit = 0
    for raw in open_episodes(config.id, file, task):
        total += 1
        faults = find_faults(raw, task)
        if not faults:
            fit += 1
            yield to_episode(raw, task)
        elif config.on_bad_episode == "refuse":
            raise DataError(_refusal(config.id, faults[0]))
        else:
            dropped.append(str(faults[0]))
    mismatch = episode_count_problem(metadata, total)
    if mismatch and config.on_bad_episode == "refuse":
        raise DataError(f"dataset {config.id}: {mismatch}")
    if mismatch:
        dropped.append(mismatch)
    if not fit:
        raise DataError(f"dataset {config.id}: none of its {total} episodes is fit for training")


def _refusal(dataset_id: str, fault: Fault) -> str:
    return (
        f"dataset {dataset_id}: {fault} (`o2o data check {dataset_id}` lists every fault; "
        "dataset.on_bad_episode=drop leaves such episodes out)"
    )


def _file_digest(dataset_id: str, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"dataset {dataset_id}: {file} cannot be read ({error.strerror})") from error


def _cache_key(
    digest: str, config: DatasetConfig, metadata: DatasetMetadata, task: TaskSpec, discount: float
) -> str:
    """Everything that the columns and the list of dropped episodes depend on."""
    parts = [
        FORMAT_VERSION,
        digest,
        discount,
        config.on_bad_episode,
        metadata.total_episodes,
        task.observation_dim,
        task.action_dim,
        task.action_low,
        task.action_high,
        task.max_episode_steps,
        task.frame_shape,
        task.valid_actions,
        task.game,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _open_cache(folder: Path) -> tuple[EpisodeStore, list[str]] | None:
    """What an earlier call kept; None where that is missing or damaged, and is made again."""
    try:
        dropped = json.loads(_dropped_file(folder).read_text())
        return EpisodeStore.open(folder), [str(line) for line in dropped]
    except (OSError, ValueError, TypeError, DataError):
        return None


def _write_cache(
    folder: Path, episodes: Iterator[Episode], dropped: list[str], discount: float
) -> EpisodeStore | None:
    """The cache is a convenience: a full or read-only disk costs memory and time, nothing else."""
    try:
        EpisodeStore.write(folder, episodes, discount=discount)
        aside = _dropped_file(folder).with_suffix(".aside")
        aside.write_text(json.dumps(dropped))
        aside.replace(_dropped_file(folder))
        return EpisodeStore.open(folder)
    except OSError:
        return None


def _dropped_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.dropped.json")
