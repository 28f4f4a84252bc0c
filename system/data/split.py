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
