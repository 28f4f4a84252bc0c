"""What can be asked of a replay."""

from dataclasses import dataclass
from typing import Literal

Windows = Literal["ending", "touching"]


@dataclass(frozen=True)
class ReplayStats:
    """Counters of a replay.

    Attributes:
        offline_episodes, offline_transitions: the immutable part (training split).
        online_episodes, online_transitions: acknowledged so far.
        duplicates: episodes that were sent again and not stored twice.
        quarantined: records of the log that failed their checksum and are never sampled.
    """

    offline_episodes: int
    offline_transitions: int
    online_episodes: int
    online_transitions: int
    duplicates: int
    quarantined: int


@dataclass(frozen=True)
class SampleRequest:
    """A batch to draw; the same request over the same data always gives the same batch.

    Attributes:
        batch_size: rows of the whole batch, over all learners; 0 draws nothing.
        seed: of the draw.
        offline_fraction: exactly round(fraction · batch_size) rows come from offline data
            (all of them while there are no online episodes); of several games equally many, to one row.
        visible_episodes: only the first this many online episodes are drawn from; None for all.
        shard: (rank, number of learners): the rows of the whole batch that are returned, a contiguous
            equal share; batch_size must be divisible by the number of learners.
        weighting: `uniform` over online steps, or `return`: complete episodes in proportion to their rank
            by return, then uniform over their steps.
        windows: which windows of T steps there are of an episode of L: the L that are `ending` at one of its
            steps, or all L + T − 1 that are `touching` it: its end, too, stands equally often at every position.
    """

    batch_size: int
    seed: int
    offline_fraction: float = 1.0
    visible_episodes: int | None = None
    shard: tuple[int, int] = (0, 1)
    weighting: Literal["uniform", "return"] = "uniform"
    windows: Windows = "ending"
