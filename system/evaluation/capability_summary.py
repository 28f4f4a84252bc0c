"""What a model can do, capability by capability: errors with intervals over episodes, and a table for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from system.errors import SystemFailure
from system.types import PredictionErrors

Record = Mapping[str, Any]
NUM_RESAMPLES = 2000


def capability_record(stage: str, errors: PredictionErrors) -> dict[str, Any]:
    """One prediction's figures, as they stand in the output.

    Args:
        stage: `offline` or `online`.
        errors: on held-out episodes.

    Raises:
        SystemFailure: no held-out episode is long enough for a single window.
    """
    if not (errors.counts.sum(axis=0) > 0).all():
        raise SystemFailure(f"capability {errors.capability}: no held-out episode is long enough to measure it on")
    low, high = ratio_interval(errors.sums, errors.counts)
    return {
        "stage": stage,
        "capability": errors.capability,
        "predicted": errors.what,
        "episodes": int((errors.counts.sum(axis=1) > 0).sum()),
        "windows": int(errors.counts.max(axis=1).sum()),
        "steps_ahead": list(range(1, errors.sums.shape[1] + 1)),
        "error": (errors.sums.sum(axis=0) / errors.counts.sum(axis=0)).tolist(),
        "error_ci95": [list(pair) for pair in zip(low.tolist(), high.tolist(), strict=True)],
    }


def ratio_interval(
    sums: Float[np.ndarray, "episodes steps"], counts: Float[np.ndarray, "episodes steps"], *, seed: int = 0
) -> tuple[Float[np.ndarray, "steps"], Float[np.ndarray, "steps"]]:
    """95 % bootstrap interval of Σ sums / Σ counts over episodes; those that counted nothing are left out.

    Args:
        sums, counts: of each episode.
        seed: of the resampling.
    """
    counted = counts.sum(axis=1) > 0
    sums, counts = sums[counted], counts[counted]
    rows = np.random.default_rng(seed).integers(len(sums), size=(NUM_RESAMPLES, len(sums)))
    weights = np.stack([np.bincount(each, minlength=len(sums)) for each in rows]).astype(np.float64)
    ratios = (weights @ sums) / np.maximum(weights @ counts, 1e-12)
    low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
    return low, high


def format_capabilities(records: Sequence[Record]) -> str:
    """One line a prediction: its error one step ahead and at the end of the horizon."""
    lines = [f"{'capability':<12}{'predicted':<28}{'1 step [95 %]':>26}{'last step [95 %]':>32}{'windows':>9}"]
    for each in records:
        cells = []
        for index in (0, -1):
            low, high = each["error_ci95"][index]
            cells.append(f"{each['error'][index]:.4f} [{low:.4f}, {high:.4f}]")
        last = f"{each['steps_ahead'][-1]}: {cells[1]}"
        lines.append(f"{each['capability']:<12}{each['predicted']:<28}{cells[0]:>26}{last:>32}{each['windows']:>9}")
    return "\n".join(lines)
