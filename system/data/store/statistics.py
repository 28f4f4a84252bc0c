"""What normalisation, the target-return table and the summary need to know of the training episodes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from system.data.store.episodes import EpisodeStore
from system.errors import DataError

SMALLEST_STD = 1e-6


@dataclass(frozen=True)
class DatasetStatistics:
    """Moments over the steps that a model sees, and a summary by episode.

    Attributes:
        observation_mean, observation_std: of o_0 … o_{L−1}, by dimension; a constant dimension has std 1.
            Frames and tokens are not normalised: 0 and 1.
        change_mean, change_std: of o_{t+1} − o_t, likewise.
        reward_mean, reward_std: of r_t.
        return_mean, return_std: of the returns-to-go that are known; 0 and 1 where there is none.
        target_returns: for each step the largest known return-to-go that an episode had there or before; it
            never falls; −inf where there is none.
        low_returns: likewise the smallest one, or 0 if that is smaller; it never rises.
        num_episodes, num_steps: how much was counted.
        episode_return_mean, episode_return_std, episode_return_min, episode_return_max: of the undiscounted
            sums of rewards, every episode that has them counting once.
        episode_length_mean: in env steps.
    """

    observation_mean: Float32[np.ndarray, "*observation"]
    observation_std: Float32[np.ndarray, "*observation"]
    change_mean: Float32[np.ndarray, "*observation"]
    change_std: Float32[np.ndarray, "*observation"]
    reward_mean: float
    reward_std: float
    return_mean: float
    return_std: float
    target_returns: Float32[np.ndarray, "max_episode_steps"]
    low_returns: Float32[np.ndarray, "max_episode_steps"]
    num_episodes: int
    num_steps: int
    episode_return_mean: float
    episode_return_std: float
    episode_return_min: float
    episode_return_max: float
    episode_length_mean: float


def compute_statistics(store: EpisodeStore, max_episode_steps: int) -> DatasetStatistics:
    """Statistics of a store; pass the training split only.

    Args:
        store: at least one episode; of continuous control at least one known return-to-go.
        max_episode_steps: the environment's time limit, the length of the target-return table.

    Raises:
        DataError: no return-to-go is known where they are learnt from.
    """
    if not store.returns_valid.any() and store.observations.dtype == np.float32:
        raise DataError(
            f"none of {store.num_episodes} episodes is complete: no return-to-go is known of what was cut before "
            f"the time limit of {max_episode_steps} steps; dataset.cut_episodes: complete takes what was seen for "
            "all, continued lets it go on, environment.max_episode_steps is another limit"
        )
    observation_mean, observation_std = _observation_moments(store)
    change_mean, change_std = _change_moments(store)
    returns = store.returns_to_go[store.returns_valid]
    episode_returns = store.episode_returns
    episode_returns = episode_returns[np.isfinite(episode_returns)]
    reward_mean, reward_std = _moments(store.rewards[np.isfinite(store.rewards)])
    return_mean, return_std = _moments(returns)
    return DatasetStatistics(
        observation_mean=observation_mean,
        observation_std=observation_std,
        change_mean=change_mean,
        change_std=change_std,
        reward_mean=reward_mean,
        reward_std=reward_std,
        return_mean=return_mean,
        return_std=return_std,
        target_returns=target_return_table(store, max_episode_steps),
        low_returns=low_return_table(store, max_episode_steps),
        num_episodes=store.num_episodes,
        num_steps=store.num_steps,
        episode_return_mean=float(episode_returns.mean()),
        episode_return_std=float(episode_returns.std()),
        episode_return_min=float(episode_returns.min()),
        episode_return_max=float(episode_returns.max()),
        episode_length_mean=float(store.lengths.mean()),
    )


def target_return_table(store: EpisodeStore, max_episode_steps: int) -> Float32[np.ndarray, "max_episode_steps"]:
    """The largest known return-to-go that episodes had until each step.

    The largest at the very step would fall towards the longest episode's end, whether that failed there or ran
    into the time limit, and a policy that sees no clock would be asked to fail. What was reachable earlier is
    reachable still for whoever goes on as well as the best.

    Args:
        store: any number of episodes.
        max_episode_steps: length of the table.

    Returns:
        One value a step, none smaller than the one before; −inf before the first one that is known.
    """
    return np.maximum.accumulate(_table(store, max_episode_steps, np.maximum, -np.inf))


def low_return_table(store: EpisodeStore, max_episode_steps: int) -> Float32[np.ndarray, "max_episode_steps"]:
    """The smallest known return-to-go that episodes had until each step, nowhere above 0.

    Targets lie between this and the largest one: of returns that are never negative they are a multiple of the
    largest.

    Args, Returns: as of `target_return_table`; 0 before the first one that is known.
    """
    lowest = np.minimum.accumulate(_table(store, max_episode_steps, np.minimum, np.inf))
    return np.minimum(lowest, np.float32(0.0))


def _table(store: EpisodeStore, length: int, extreme: np.ufunc, unknown: float) -> Float32[np.ndarray, "length"]:
    """An extreme of the known returns-to-go at each step; beyond the last one of them its value."""
    step = np.arange(store.num_steps) - np.repeat(store.step_offsets[:-1], store.lengths)
    counted = store.returns_valid & (step < length)
    table = np.full(length, unknown, dtype=np.float32)
    extreme.at(table, step[counted], store.returns_to_go[counted])
    known = np.flatnonzero(np.isfinite(table))
    if known.size:
        table[known[-1] + 1 :] = table[known[-1]]
    return table


def _observation_moments(
    store: EpisodeStore,
) -> tuple[Float32[np.ndarray, "*observation"], Float32[np.ndarray, "*observation"]]:
    if store.observations.dtype != np.float32:
        return np.zeros(store.observation_shape, np.float32), np.ones(store.observation_shape, np.float32)
    last_observation = store.step_offsets[1:] + np.arange(store.num_episodes)
    return _moments_by_dimension(np.delete(np.asarray(store.observations), last_observation, axis=0))


def _change_moments(
    store: EpisodeStore,
) -> tuple[Float32[np.ndarray, "*observation"], Float32[np.ndarray, "*observation"]]:
    if store.observations.dtype != np.float32:
        return np.zeros(store.observation_shape, np.float32), np.ones(store.observation_shape, np.float32)
    between_episodes = store.step_offsets[1:-1] + np.arange(store.num_episodes - 1)
    changes = np.diff(np.asarray(store.observations), axis=0)
    return _moments_by_dimension(np.delete(changes, between_episodes, axis=0))


def _moments_by_dimension(
    rows: Float32[np.ndarray, "n *observation"],
) -> tuple[Float32[np.ndarray, "*observation"], Float32[np.ndarray, "*observation"]]:
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean, _nonzero(rows.std(axis=0, dtype=np.float64)).astype(np.float32)


def _moments(values: Float32[np.ndarray, "n"]) -> tuple[float, float]:
    if values.size == 0:
        return 0.0, 1.0
    return float(values.mean(dtype=np.float64)), float(_nonzero(values.std(dtype=np.float64)))


def _nonzero(std: np.ndarray | np.floating) -> np.ndarray:
    """1 in place of a spread too small to divide by."""
    return np.where(std < SMALLEST_STD, 1.0, std)
