"""From a configuration to the data a run works with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from system.config import RunConfig
from system.data.loading import LoadedDataset, load_datasets
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore, concatenate
from system.data.store.incomplete import lacks_actions, lacks_rewards, recorded_whole, without_recordings
from system.data.store.split import limit_transitions, repeated_episodes, split_by_game
from system.data.store.statistics import compute_statistics
from system.envs.registry import Environments, with_own_settings
from system.errors import ConfigError
from system.families.registry import families_for, family_of
from system.types import TaskSpec


def prepare_data(config: RunConfig, cache_folder: Path) -> PreparedData:
    """Loads, checks and splits the run's dataset, or several games' together.

    Args:
        config: names them.
        cache_folder: where their columns are kept for memory mapping.

    Returns:
        Of frames the foundation is still empty: the family prepares it.

    Raises:
        DataError: a dataset is missing or unfit, or they don't go together.
        ConfigError: there are too few episodes for the configured split, or the family is for other tasks.
    """
    datasets = _load(config, cache_folder)
    tasks = tuple(dataset.task for dataset in datasets)
    _check_family(config, tasks[0])
    whole = datasets[0].store if len(datasets) == 1 else concatenate([dataset.store for dataset in datasets])
    training, validation = split_by_game(whole.game, config.dataset.validation_fraction, config.seed)
    if len(training) == 0:
        raise ConfigError(f"dataset.validation_fraction: leaves none of {whole.num_episodes} episodes to train on")
    training, validation, notes = _without_repetitions(whole, training, validation)
    notes = (*(f"{dataset.id}: {note}" for dataset in datasets for note in dataset.notes), *notes)
    store = whole.select(training)
    most = config.dataset.max_transitions
    if most is not None:
        store = limit_transitions(store, most, config.seed)
        notes += (
            f"trained on {store.num_steps} of {whole.num_steps} transitions, in {store.num_episodes} of "
            f"{whole.num_episodes} episodes (dataset.max_transitions)",
        )
    store, forgotten = _incomplete(store, config)
    notes += forgotten
    frames = tasks[0].frame_shape is not None
    return PreparedData(
        tasks=tasks,
        training=store,
        validation=whole.select(validation),
        foundation={} if frames else compute_statistics(store, tasks[0].max_episode_steps),
        num_dropped=sum(len(dataset.dropped) for dataset in datasets),
        description={
            **_describe(datasets, whole),
            "training_episodes": store.num_episodes,
            "training_steps": store.num_steps,
        },
        notes=notes,
    )


def _incomplete(store: EpisodeStore, config: RunConfig) -> tuple[EpisodeStore, tuple[str, ...]]:
    """Training episodes after some of them forgot what the configuration says, and a note of what they lack."""
    dataset = config.dataset
    if dataset.hide_actions > 0.0 or dataset.hide_rewards > 0.0:
        store = without_recordings(
            store, actions=dataset.hide_actions, rewards=dataset.hide_rewards, seed=config.seed
        )
    whole = recorded_whole(store)
    if whole.all():
        return store, ()
    if dataset.incomplete == "drop":
        if not whole.any():
            raise ConfigError(f"dataset.incomplete: drop leaves none of {store.num_episodes} training episodes")
        note = f"left out, for want of actions or rewards: {(~whole).sum()} of {store.num_episodes} episodes"
        return store.select(np.flatnonzero(whole)), (note,)
    actions, rewards = lacks_actions(store).sum(), lacks_rewards(store).sum()
    return store, (f"of {store.num_episodes} training episodes {actions} lack actions and {rewards} rewards",)


def find_tasks(config: RunConfig, cache_folder: Path) -> tuple[TaskSpec, ...]:
    """What the configured datasets were collected in, whatever the family.

    Args, Raises: as for `prepare_data`.
    """
    return tuple(dataset.task for dataset in _load(config, cache_folder))


def _load(config: RunConfig, cache_folder: Path) -> list[LoadedDataset]:
    datasets = load_datasets(
        config.dataset,
        environments=Environments(config.environment),
        environment_id=config.environment.id,
        max_episode_steps=config.environment.max_episode_steps,
        discount=config.discount,
        cache_folder=cache_folder,
    )
    return [replace(dataset, task=with_own_settings(dataset.task, config.environment)) for dataset in datasets]


def _without_repetitions(
    whole: EpisodeStore, training: np.ndarray, validation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Episodes that would be held out although their beginnings are trained on are trained on as well."""
    repeated = repeated_episodes(whole, validation, training)
    if not repeated.any():
        return training, validation, ()
    held_out = validation[~repeated]
    note = (
        f"{repeated.sum()} of {len(validation)} episodes to hold out begin as training ones do, and are trained "
        f"on as well: {len(held_out)} held out"
    )
    return np.sort(np.concatenate([training, validation[repeated]])), held_out, (note,)


def _check_family(config: RunConfig, task: TaskSpec) -> None:
    if not family_of(config).serves(task):
        able = families_for(task)
        hint = f"{' or '.join(able)} can" if able else "no registered family can"
        raise ConfigError(
            f"family: {config.family} can't learn {task.environment_id} of {config.dataset.name}; {hint}"
        )


def _describe(datasets: Sequence[LoadedDataset], whole: EpisodeStore) -> dict[str, Any]:
    """What the summary says of the data; of several games the scores are averaged, and references unknown."""
    returns = whole.episode_returns
    means = [float(np.nanmean(dataset.store.episode_returns)) for dataset in datasets]
    scores = [dataset.task.normalized(mean) for dataset, mean in zip(datasets, means, strict=True)]
    known = [score for score in scores if score is not None]
    task = datasets[0].task
    alone = len(datasets) == 1
    return {
        "id": " + ".join(dataset.id for dataset in datasets),
        "digest": "+".join(dataset.digest for dataset in datasets),
        "episodes": whole.num_episodes,
        "steps": whole.num_steps,
        "return_mean": float(np.nanmean(returns)),
        "return_max": float(np.nanmax(returns)),
        "normalized_return_mean": float(np.mean(known)) if len(known) == len(scores) else None,
        "reference_min": task.reference_min if alone else None,
        "reference_max": task.reference_max if alone else None,
    }
