"""Loads a Minari dataset into an `EpisodeStore`, refusing or dropping what is unfit."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from system.config import DatasetConfig
from system.data.episodes import FORMAT_VERSION, EpisodeStore
from system.data.hdf5_reader import Hdf5Episodes
from system.data.minari_hub import download_dataset
from system.data.minari_layout import (
    MAIN_FILE,
    PATH_VARIABLE,
    SHIPPED_PREFIX,
    DatasetMetadata,
    check_dataset_id,
    find_dataset,
    read_metadata,
    search_roots,
)
from system.data.validation import ACTION_TOLERANCE, Fault, find_faults, to_episode
from system.errors import DataError
from system.types import Episode, TaskSpec


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
        cache_folder: where the columns are kept, so that the next call memory-maps them; None keeps nothing.

    Raises:
        DataError: the dataset is missing, unsafe, of another environment, or unfit.
    """
    folder = locate_dataset(config)
    metadata = read_metadata(config.id, folder)
    task = dataset_task(config.id, metadata, environments)
    file = folder / MAIN_FILE
    digest = _file_digest(config.id, file)
    cached = None
    if cache_folder is not None:
        cached = cache_folder / _cache_key(digest, config, metadata, task, discount)
        known = _open_cache(cached)
        if known is not None:
            return LoadedDataset(config.id, known[0], task, known[1], digest)
    episodes, dropped = _read_episodes(config, file, metadata, task)
    store = EpisodeStore.from_episodes(episodes, discount=discount)
    if cached is not None:
        _write_cache(cached, store, dropped)
    return LoadedDataset(config.id, store, task, dropped, digest)


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
        known = ", ".join(sorted(environments))
        raise DataError(
            f"dataset {dataset_id}: environment {ascii(metadata.environment_id)[:60]} is not one of {known}"
        )
    _check_spaces(dataset_id, metadata, task)
    if metadata.reference_min is None:
        return task
    return replace(task, reference_min=metadata.reference_min, reference_max=metadata.reference_max)


def episode_count_problem(metadata: DatasetMetadata, total: int) -> str | None:
    """One line if the file holds another number of episodes than its metadata declare."""
    if metadata.total_episodes in (None, total):
        return None
    return f"the metadata declare {metadata.total_episodes} episodes, {MAIN_FILE} has {total}"


def _check_spaces(dataset_id: str, metadata: DatasetMetadata, task: TaskSpec) -> None:
    observations, actions = metadata.observation_space, metadata.action_space
    where = f"but {task.environment_id} has"
    if observations is not None and observations.dim != task.observation_dim:
        raise DataError(
            f"dataset {dataset_id}: {observations.dim} observation dimensions, {where} {task.observation_dim}"
        )
    if actions is None:
        return
    if actions.dim != task.action_dim:
        raise DataError(f"dataset {dataset_id}: {actions.dim} action dimensions, {where} {task.action_dim}")
    for bound, expected in ((actions.low, task.action_low), (actions.high, task.action_high)):
        if bound is None or not math.isclose(bound, expected, abs_tol=ACTION_TOLERANCE):
            raise DataError(
                f"dataset {dataset_id}: action bounds [{actions.low}, {actions.high}], {where} "
                f"[{task.action_low:g}, {task.action_high:g}]"
            )


def _read_episodes(
    config: DatasetConfig, file: Path, metadata: DatasetMetadata, task: TaskSpec
) -> tuple[list[Episode], list[str]]:
    """Fit episodes, and a line for each other one; in strict mode the first unfit one raises."""
    episodes: list[Episode] = []
    dropped: list[str] = []
    total = 0
    for raw in Hdf5Episodes(file, config.id):
        total += 1
        faults = find_faults(raw, task)
        if not faults:
            episodes.append(to_episode(raw, task))
        elif config.on_bad_episode == "refuse":
            raise DataError(_refusal(config.id, faults[0]))
        else:
            dropped.append(str(faults[0]))
    mismatch = episode_count_problem(metadata, total)
    if mismatch and config.on_bad_episode == "refuse":
        raise DataError(f"dataset {config.id}: {mismatch}")
    if mismatch:
        dropped.append(mismatch)
    if not episodes:
        raise DataError(f"dataset {config.id}: none of its {total} episodes is fit for training")
    return episodes, dropped


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
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _open_cache(folder: Path) -> tuple[EpisodeStore, list[str]] | None:
    """What an earlier call kept; None where that is missing or damaged, and is made again."""
    try:
        dropped = json.loads(_dropped_file(folder).read_text())
        return EpisodeStore.open(folder), [str(line) for line in dropped]
    except (OSError, ValueError, TypeError, DataError):
        return None


def _write_cache(folder: Path, store: EpisodeStore, dropped: list[str]) -> None:
    """The cache is a convenience: a full or read-only disk costs the next call its speed, nothing else."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = _dropped_file(folder).with_suffix(".aside")
        aside.write_text(json.dumps(dropped))
        aside.replace(_dropped_file(folder))
        store.save(folder)
    except OSError:
        return


def _dropped_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.dropped.json")
