"""What a model has imagined from recorded states on: whole rollouts in arrays, as bytes, and as episodes.

None of it happened. Every rollout says where in which episode it leaves what was recorded, and every step how much
the model's members disagreed about it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Int64
from safetensors.numpy import load, save

from system.errors import DataError
from system.types import Episode

ARRAYS = ("observations", "actions", "rewards", "disagreements", "lengths", "terminated", "episodes", "steps")
COUNT = "count."


@dataclass(frozen=True)
class ImaginedRollouts:
    """M rollouts of up to H steps; what lies behind a rollout's own length is zeros.

    Attributes:
        observations: ŝ_0 … ŝ_H, the first as it was recorded.
        actions: in [−1, 1].
        rewards: in the task's units.
        disagreements: of the model's members about each step, 0 or more.
        lengths: steps of each, 1 … H.
        terminated: its last step is expected to have ended the episode.
        episodes, steps: where each of them begins, in the store that was imagined from.
        counts: why rollouts were begun and cut, by name: numbers that add up.
    """

    observations: Float32[np.ndarray, "M H1 S"]
    actions: Float32[np.ndarray, "M H A"]
    rewards: Float32[np.ndarray, "M H"]
    disagreements: Float32[np.ndarray, "M H"]
    lengths: Int64[np.ndarray, "M"]
    terminated: Bool[np.ndarray, "M"]
    episodes: Int64[np.ndarray, "M"]
    steps: Int64[np.ndarray, "M"]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        """Imagined steps over all rollouts."""
        return int(self.lengths.sum())

    def __len__(self) -> int:
        """M."""
        return len(self.lengths)

    def to_bytes(self) -> bytes:
        """As safetensors."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        return save(arrays | {COUNT + name: np.array(value) for name, value in self.counts.items()})

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> "ImaginedRollouts":
        """Restores what `to_bytes` gave.

        Args:
            data: of a file.
            source: named in errors.

        Raises:
            DataError: it is something else.
        """
        try:
            arrays = load(data)
            counts = {
                name.removeprefix(COUNT): int(value) for name, value in arrays.items() if name.startswith(COUNT)
            }
            return cls(**{name: arrays[name] for name in ARRAYS}, counts=counts)
        except Exception as error:  # noqa: BLE001 - safetensors raises what it likes of damaged bytes
            raise DataError(f"{source}: not imagined rollouts ({type(error).__name__})") from None

    def to_episodes(self) -> list[Episode]:
        """Each rollout as an episode of its own, cut at its end unless it terminated."""
        return [
            Episode(
                observations=self.observations[row, : length + 1],
                actions=self.actions[row, :length],
                rewards=self.rewards[row, :length],
                terminated=bool(self.terminated[row]),
                truncated=not self.terminated[row],
                complete=bool(self.terminated[row]),
            )
            for row, length in enumerate(self.lengths.tolist())
        ]


def join_rollouts(parts: Sequence[ImaginedRollouts]) -> ImaginedRollouts:
    """All rollouts of several parts, in order.

    Args:
        parts: at least one; of the same dimensions.
    """
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    return ImaginedRollouts(**arrays, counts=dict(counts))
