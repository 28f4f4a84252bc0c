"""Which episodes train and which validate."""

import numpy as np
from jaxtyping import Int64

from system.seeding import numpy_generator


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
