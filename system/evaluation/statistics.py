"""Means, interquartile means and bootstrap intervals, within one run and across runs."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Statistic = Callable[[Float[np.ndarray, "*rows n"]], Float[np.ndarray, "*rows"]]


def mean(values: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows"]:
    """Mean over the last axis."""
    return np.asarray(values.mean(axis=-1))


def interquartile_mean(values: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows"]:
    """Mean of the middle half of the values, over the last axis.

    A quarter of the values is cut at either end, rounded down, so that up to three values are a plain mean.
    """
    ordered = np.sort(values, axis=-1)
    cut = values.shape[-1] // 4
    return np.asarray(ordered[..., cut : values.shape[-1] - cut].mean(axis=-1))


def bootstrap_interval(
    values: Float[np.ndarray, "n"],
    statistic: Statistic = mean,
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic over episodes of one run.

    Args:
        values: one per episode, at least one.
        statistic: reduces the last axis.
        level: in (0, 1).
        num_resamples: resampled sets.
        seed: of the resampling.
    """
    rows = np.random.default_rng(seed).integers(len(values), size=(num_resamples, len(values)))
    return _interval(statistic(np.asarray(values, dtype=np.float64)[rows]), level)


def hierarchical_interval(
    runs: Sequence[Float[np.ndarray, "n"]],
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the mean over training seeds: runs are resampled first, then episodes within each.

    Args:
        runs: one array of episode values per training seed. With a single run only its episodes are
            resampled, and the interval describes that one policy.
        level, num_resamples, seed: as in `bootstrap_interval`.
    """
    generator = np.random.default_rng(seed)
    means = np.stack(
        [_resampled_means(np.asarray(run, np.float64), len(runs), num_resamples, generator) for run in runs]
    )
    chosen = generator.integers(len(runs), size=(len(runs), num_resamples))
    # Every drawn copy of a run has resampled episodes of its own.
    copies = np.arange(len(runs))[:, None]
    return _interval(means[chosen, copies, np.arange(num_resamples)].mean(axis=0), level)


def paired_difference(
    first: Sequence[Float[np.ndarray, "n"]], second: Sequence[Float[np.ndarray, "n"]], *, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Mean of first − second and its 95 % interval, paired by training seed and by episode seed.

    Args:
        first, second: per training seed, the values of the same episodes in the same order.
        seed: of the resampling.
    """
    differences = [
        np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in zip(first, second, strict=True)
    ]
    value = float(np.mean([difference.mean() for difference in differences]))
    return value, hierarchical_interval(differences, seed=seed)


def _resampled_means(
    values: np.ndarray, copies: int, num_resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "copies resamples"]:
    rows = generator.integers(len(values), size=(copies, num_resamples, len(values)))
    return np.asarray(values[rows].mean(axis=-1))


def _interval(samples: np.ndarray, level: float) -> tuple[float, float]:
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(samples, [tail, 100.0 - tail])
    return float(low), float(high)
