"""Episodes of which actions, or rewards, were not recorded: not a number in their columns.

Whoever learns from such episodes leaves out what is not there, modality by modality.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool

from system.data.store.episodes import EpisodeStore
from system.errors import ConfigError
from system.seeding import numpy_generator


def without_recordings(store: EpisodeStore, *, actions: float, rewards: float, seed: int) -> EpisodeStore:
    """The same episodes, of a share of which actions, or rewards and with them returns, are forgotten.

    Args:
        store: training episodes; at least one of them keeps what the others lose.
        actions, rewards: shares of the episodes, in [0, 1); drawn apart from each other.
        seed: of the draws: those who keep 1 % keep it among the 5 %.

    Raises:
        ConfigError: actions are numbers, which have no value for what is not known.
    """
    columns: dict[str, Any] = {}
    if actions > 0.0:
        if store.actions.dtype.kind != "f":
            raise ConfigError("dataset.hide_actions: discrete actions are always recorded")
        rows = _rows_of(store, _drawn(store, actions, seed, "hidden actions"))
        columns["actions"] = np.where(rows[:, None], np.float32(np.nan), store.actions)
    if rewards > 0.0:
        rows = _rows_of(store, _drawn(store, rewards, seed, "hidden rewards"))
        columns["rewards"] = np.where(rows, np.float32(np.nan), store.rewards)
        columns["returns_to_go"] = np.where(rows, np.float32(0.0), store.returns_to_go)
        columns["returns_valid"] = store.returns_valid & ~rows
    for column in columns.values():
        column.setflags(write=False)
    return dataclasses.replace(store, **columns)


def recorded_whole(store: EpisodeStore) -> Bool[np.ndarray, "episodes"]:
    """Which episodes have all their actions and rewards."""
    return ~(lacks_actions(store) | lacks_rewards(store))


def lacks_actions(store: EpisodeStore) -> Bool[np.ndarray, "episodes"]:
    """Which episodes have no actions."""
    if store.actions.dtype.kind != "f" or store.num_episodes == 0:
        return np.zeros(store.num_episodes, dtype=bool)
    return np.asarray(np.isnan(store.actions[store.step_offsets[:-1]]).all(axis=1))


def lacks_rewards(store: EpisodeStore) -> Bool[np.ndarray, "episodes"]:
    """Which episodes have no rewards."""
    return np.asarray(np.isnan(store.rewards[store.step_offsets[:-1]]))


def _drawn(store: EpisodeStore, share: float, seed: int, name: str) -> Bool[np.ndarray, "episodes"]:
    count = min(round(share * store.num_episodes), store.num_episodes - 1)
    order = numpy_generator(seed, name).permutation(store.num_episodes)
    drawn = np.zeros(store.num_episodes, dtype=bool)
    drawn[order[:count]] = True
    return drawn


def _rows_of(store: EpisodeStore, episodes: np.ndarray) -> Bool[np.ndarray, "steps"]:
    return np.repeat(episodes, store.lengths)
