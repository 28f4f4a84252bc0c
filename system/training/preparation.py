"""From a configuration to the data a run works with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from system.config import RunConfig
from system.data.episodes import EpisodeStore
from system.data.minari_source import load_dataset
from system.data.split import split_episodes
from system.data.statistics import DatasetStatistics, compute_statistics
from system.envs.registry import ENVIRONMENTS
from system.errors import ConfigError
from system.types import TaskSpec


@dataclass(frozen=True)
class PreparedData:
    """What is trained on, and what is held out.

    Attributes:
        task: the environment, with the reference scores.
        training, validation: the two parts of the dataset; validation may have no episodes.
        statistics: of the training part.
        num_dropped: episodes left out as unfit.
        description: id, digest, episodes, steps and returns of the whole dataset, for the summary.
    """

    task: TaskSpec
    training: EpisodeStore
    validation: EpisodeStore
    statistics: DatasetStatistics
    num_dropped: int
    description: dict[str, Any]


def prepare_data(config: RunConfig, cache_folder: Path) -> PreparedData:
    """Loads, checks and splits the run's dataset.

    Args:
        config: names it.
        cache_folder: where its columns are kept for memory mapping.

    Raises:
        DataError: the dataset is missing or unfit.
        ConfigError: it has too few episodes for the configured split.
    """
    dataset = load_dataset(
        config.dataset, environments=ENVIRONMENTS, discount=config.discount, cache_folder=cache_folder
    )
    count = dataset.store.num_episodes
    training, validation = split_episodes(count, config.dataset.validation_fraction, config.seed)
    if len(training) == 0:
        raise ConfigError(f"dataset.validation_fraction: leaves none of {count} episodes to train on")
    store = dataset.store.select(training)
    returns = dataset.store.episode_returns
    mean = float(np.mean(returns))
    return PreparedData(
        task=dataset.task,
        training=store,
        validation=dataset.store.select(validation),
        statistics=compute_statistics(store, dataset.task.max_episode_steps),
        num_dropped=len(dataset.dropped),
        description={
            "id": dataset.id,
            "digest": dataset.digest,
            "episodes": count,
            "steps": dataset.store.num_steps,
            "return_mean": mean,
            "return_max": float(np.max(returns)),
            "normalized_return_mean": dataset.task.normalized(mean),
            "reference_min": dataset.task.reference_min,
            "reference_max": dataset.task.reference_max,
        },
    )


def check_shards(config: RunConfig) -> None:
    """Refuses batch sizes that the learners cannot share equally.

    Raises:
        ConfigError: naming the key.
    """
    learners = max(1, config.learners)
    sizes = {"trajectory.batch_size": config.trajectory.batch_size, "critic.batch_size": config.critic.batch_size}
    for key, size in sizes.items():
        if size % learners:
            raise ConfigError(f"{key}: {size} can't be shared equally by {learners} learners")
