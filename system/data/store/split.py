"""Which episodes train and which validate, and how much of them."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64

from system.data.store.episodes import EpisodeStore, concatenate
from system.seeding import numpy_generator

# Two episodes that are the same for so much of one's length are variants of each other.
REPEATED_SHARE = 0.2


def split_episodes(
    num_episodes: int, validation_fraction: float, seed: int
) -> tuple[Int64[np.ndarray, "train"], Int64[np.ndarray, "validation"]]:
    """Shuffled, seeded split by whole episodes.

    A positive fraction gives at least one validation episode where there are two or more episodes, and
    training always keeps at least one.

    Args:
        num_episodes: episodes of the dataset.
        validation_fraction: share of episodes held out, in [0, 0.5].
        seed: the run's seed; the same seed always gives the same split.

    Returns:
        Indices of the training and of the validation episodes, each in ascending order, disjoint, together
        all of them.
    """
    wanted = round(num_episodes * validation_fraction)
    if validation_fraction > 0.0:
        wanted = max(wanted, 1)
    num_validation = max(min(wanted, num_episodes - 1), 0)
    order = numpy_generator(seed, "split").permutation(num_episodes).astype(np.int64)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])


def split_by_game(
    game: Int64[np.ndarray, "episodes"], validation_fraction: float, seed: int
) -> tuple[Int64[np.ndarray, "train"], Int64[np.ndarray, "validation"]]:
    """As `split_episodes`, with the same share of each game's episodes; the same split for a single game.

    Args:
        game: of each episode.
        validation_fraction: share of episodes held out, in [0, 0.5].
        seed: the run's seed.

    Returns:
        Indices of the training and of the validation episodes, as `split_episodes`.
    """
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for each in np.unique(game):
        own = np.flatnonzero(game == each)
        for part, chosen in zip(parts, split_episodes(len(own), validation_fraction, seed), strict=True):
            part.append(own[chosen])
    train, validation = (np.sort(np.concatenate([np.zeros(0, np.int64), *part])) for part in parts)
    return train, validation


def repeated_episodes(
    store: EpisodeStore, episodes: Int64[np.ndarray, "some"], others: Int64[np.ndarray, "others"]
) -> Bool[np.ndarray, "some"]:
    """Which episodes begin as another one does, for a fifth of their steps or more: same actions, same rewards.

    Variants of one recorded game do, and say nothing of how well is predicted what was not trained on.

    Args:
        store: of both.
        episodes: asked about.
        others: compared with.
    """
    return np.array(
        [
            any(
                _common_steps(store, int(one), int(other)) >= REPEATED_SHARE * store.lengths[one]
                for other in others
            )
            for one in episodes
        ],
        dtype=bool,
    )


def limit_transitions(store: EpisodeStore, most: int, seed: int) -> EpisodeStore:
    """Some of each game's episodes, with `most` transitions of the game in all, or all it has if these are fewer.

    Args:
        store: at least one episode.
        most: at least 1.
        seed: the run's seed: episodes are taken whole, in an order drawn from it; what is left is the beginning of
            the next one, cut there: truncated, and its returns are not known.
    """
    parts = [_limited(store.select(np.flatnonzero(store.game == game)), most, seed) for game in store.games]
    return concatenate(parts)


def _limited(store: EpisodeStore, most: int, seed: int) -> EpisodeStore:
    if store.num_steps <= most:
        return store
    order = numpy_generator(seed, "transitions").permutation(store.num_episodes)
    total = np.cumsum(store.lengths[order])
    whole = order[total <= most]
    missing = most - int(store.lengths[whole].sum())
    parts = [store.select(np.sort(whole))] if len(whole) else []
    if missing:
        parts.append(_beginning(store, int(order[len(whole)]), missing))
    return concatenate(parts)


def _beginning(store: EpisodeStore, index: int, num_steps: int) -> EpisodeStore:
    """One episode, cut after some of its steps."""
    episode = store.episode(index)
    cut = replace(
        episode,
        observations=episode.observations[: num_steps + 1],
        actions=episode.actions[:num_steps],
        rewards=episode.rewards[:num_steps],
        terminated=False,
        truncated=True,
        complete=False,
    )
    read = replace(store.readings, cut_episodes="unknown")
    return replace(
        EpisodeStore.from_episodes([cut], discount=store.discount, readings=read), readings=store.readings
    )


def _common_steps(store: EpisodeStore, one: int, other: int) -> int:
    """How many steps two episodes have in common from their beginning."""
    starts = store.step_offsets[one], store.step_offsets[other]
    if store.game[one] != store.game[other] or not np.array_equal(*(store.actions[start] for start in starts)):
        return 0
    length = min(store.lengths[one], store.lengths[other])
    same = np.ones(length, dtype=bool)
    for column in (store.actions, store.rewards):
        first, second = (column[start : start + length].reshape(length, -1) for start in starts)
        same &= (first == second).all(axis=1)
    return int(length if same.all() else same.argmin())
