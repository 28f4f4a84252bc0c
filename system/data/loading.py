"""Loads data into an `EpisodeStore`, refusing or dropping what is unfit."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from system.config import DatasetConfig
from system.data.dataset_task import Environments
from system.data.opening import OpenedDataset, open_dataset
from system.data.store.column_files import FORMAT_VERSION
from system.data.store.episodes import EpisodeStore
from system.data.store.returns import EndReadings
from system.data.validation import Fault, find_faults, is_missing, to_episode
from system.errors import DataError
from system.types import Episode, TaskSpec


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset that is fit for training.

    Attributes:
        id: as asked for, or the path of a file.
        store: every fit episode.
        task: of the environment that the data were collected in, with the dataset's own reference scores.
        dropped: a line for each episode left out (`on_bad_episode: drop`).
        digest: sha256 of the data file, or of the digests of several.
        notes: lines that a person should see of what the data lack.
    """

    id: str
    store: EpisodeStore
    task: TaskSpec
    dropped: list[str]
    digest: str
    notes: tuple[str, ...] = ()


def load_dataset(
    config: DatasetConfig,
    *,
    environments: Environments,
    environment_id: str | None = None,
    max_episode_steps: int | None = None,
    discount: float,
    cache_folder: Path | None = None,
) -> LoadedDataset:
    """Finds, checks and loads a dataset.

    Args:
        config: which, where and how strict.
        environments, environment_id, max_episode_steps: as for `open_dataset`.
        discount: γ of the returns-to-go.
        cache_folder: where the columns are kept, one episode after the other, and memory-mapped from there;
            None keeps nothing and holds them in memory.

    Raises:
        DataError: the dataset is missing, unsafe, of another environment, or unfit.
    """
    opened = open_dataset(config, environments, environment_id, max_episode_steps=max_episode_steps)
    digest = _digest(opened)
    readings = EndReadings(config.limit_ends, config.cut_episodes)
    dropped: list[str] = []
    store = None
    if cache_folder is not None:
        cached = cache_folder / _cache_key(digest, config, opened, discount)
        known = _open_cache(cached)
        if known is not None:
            return LoadedDataset(opened.name, known[0], opened.task, known[1], digest, opened.facts.notes)
        store = _write_cache(cached, _read_episodes(config, opened, dropped), dropped, discount, readings)
    if store is None:
        dropped.clear()
        episodes = _read_episodes(config, opened, dropped)
        store = EpisodeStore.from_episodes(episodes, discount=discount, readings=readings)
    return LoadedDataset(opened.name, store, opened.task, dropped, digest, opened.facts.notes)


def load_datasets(
    config: DatasetConfig,
    *,
    environments: Environments,
    environment_id: str | None = None,
    max_episode_steps: int | None = None,
    discount: float,
    cache_folder: Path | None = None,
) -> list[LoadedDataset]:
    """Loads the configured dataset and those that it is trained on together with (`dataset.also`).

    Args:
        config, environments, environment_id, max_episode_steps, discount, cache_folder: as for `load_dataset`.

    Returns:
        One or more datasets whose episodes can be in one store; several only of discrete tasks that show
        frames of the same shape.

    Raises:
        DataError: a dataset is named twice, unfit, or does not go together with the first.
    """
    if not config.also:
        return [
            load_dataset(
                config,
                environments=environments,
                environment_id=environment_id,
                max_episode_steps=max_episode_steps,
                discount=discount,
                cache_folder=cache_folder,
            )
        ]
    ids = (config.name, *config.also)
    for dataset_id in ids:
        if ids.count(dataset_id) > 1:
            raise DataError(f"dataset.also: {dataset_id} is named twice")
    loaded = [
        load_dataset(
            replace(config, id=dataset_id, also=()),
            environments=environments,
            environment_id=environment_id,
            max_episode_steps=max_episode_steps,
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
                f"{config.name} of {first.environment_id}; only Atari games can"
            )
    return loaded


def _read_episodes(config: DatasetConfig, opened: OpenedDataset, dropped: list[str]) -> Iterator[Episode]:
    """Fit episodes one by one; a line for each other one is added to `dropped`, or in strict mode it raises."""
    total = fit = 0
    for raw in opened.episodes():
        total += 1
        faults = find_faults(raw, opened.task, incomplete=config.incomplete != "refuse")
        if not faults and config.incomplete == "drop" and (is_missing(raw.actions) or is_missing(raw.rewards)):
            dropped.append(f"episode {raw.number}: its actions or rewards are not recorded")
        elif not faults:
            fit += 1
            yield to_episode(raw, opened.task)
        elif config.on_bad_episode == "refuse":
            raise DataError(_refusal(opened.name, faults[0]))
        else:
            dropped.append(str(faults[0]))
    mismatch = opened.count_problem(total)
    if mismatch and config.on_bad_episode == "refuse":
        raise DataError(f"dataset {opened.name}: {mismatch}")
    if mismatch:
        dropped.append(mismatch)
    if not fit:
        raise DataError(f"dataset {opened.name}: none of its {total} episodes is fit for training")


def _refusal(dataset_id: str, fault: Fault) -> str:
    return (
        f"dataset {dataset_id}: {fault} (`o2o data check {dataset_id}` lists every fault; "
        "dataset.on_bad_episode=drop leaves such episodes out)"
    )


def _digest(opened: OpenedDataset) -> str:
    """Of the one file that is read, or of the digests of several in their order."""
    digests = [_file_digest(opened.name, file) for file in opened.files()]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _file_digest(dataset_id: str, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"dataset {dataset_id}: {file} cannot be read ({error.strerror})") from error


def _cache_key(digest: str, config: DatasetConfig, opened: OpenedDataset, discount: float) -> str:
    """Everything that the columns and the list of dropped episodes depend on."""
    task, options = opened.task, opened.options
    parts = [
        FORMAT_VERSION,
        digest,
        opened.source.name,
        options.observation_keys,
        options.max_steps,
        discount,
        config.on_bad_episode,
        *([config.incomplete] if config.incomplete != "refuse" else []),
        opened.facts.total_episodes,
        task.observation_dim,
        task.action_dim,
        task.action_low,
        task.action_high,
        task.action_start,
        config.limit_ends,
        config.cut_episodes,
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
    folder: Path, episodes: Iterator[Episode], dropped: list[str], discount: float, readings: EndReadings
) -> EpisodeStore | None:
    """The cache is a convenience: a full or read-only disk costs memory and time, nothing else."""
    try:
        EpisodeStore.write(folder, episodes, discount=discount, readings=readings)
        aside = _dropped_file(folder).with_suffix(".aside")
        aside.write_text(json.dumps(dropped))
        aside.replace(_dropped_file(folder))
        return EpisodeStore.open(folder)
    except OSError:
        return None


def _dropped_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.dropped.json")
