"""What a summary says of imagined rollouts, and how a person reads it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from system.data.imagined_rollouts import ImaginedRollouts


def describe(rollouts: ImaginedRollouts, recorded_steps: int) -> dict[str, Any]:
    """A record of numbers.

    Args:
        rollouts: that were imagined.
        recorded_steps: of the episodes that were imagined from.
    """
    inside = np.arange(rollouts.rewards.shape[1]) < rollouts.lengths[:, None]
    disagreements = rollouts.disagreements[inside]
    return {
        "rollouts": len(rollouts),
        "steps": rollouts.num_steps,
        "recorded_steps": recorded_steps,
        "counts": dict(sorted(rollouts.counts.items())),
        "disagreement_median": float(np.median(disagreements)) if disagreements.size else None,
        "disagreement_max": float(disagreements.max()) if disagreements.size else None,
    }


def format_imagined(record: Mapping[str, Any]) -> str:
    """One line of it."""
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in record["counts"].items())
    made = f"imagined {record['steps']} steps in {record['rollouts']} rollouts"
    return f"{made} from {record['recorded_steps']} recorded steps ({counts})"
