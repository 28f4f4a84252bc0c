"""Returns that are scored 0 and 100, of tasks whose scores the literature normalises."""

from collections.abc import Mapping
from types import MappingProxyType

REFERENCES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "Hopper": (-20.272305, 3234.3),
        "Walker2d": (1.629008, 4592.3),
        "HalfCheetah": (-280.178953, 12135.0),
    }
)
"""By the environment's name without its version: D4RL's, in undiscounted return. Atari games have theirs in
`system.envs.atari_games`."""


def reference_scores(environment_id: str) -> tuple[float, float] | tuple[None, None]:
    """Those of a task, or None where none are established: nothing else is normalised by them."""
    return REFERENCES.get(environment_id.rpartition("-v")[0], (None, None))
