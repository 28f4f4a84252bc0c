"""Episodes of a bright dot that jumps about, for a frame tokenizer to keep."""

import numpy as np

from system.data.store.episodes import EpisodeStore
from system.families.world_action.config import TokenizerConfig
from system.types import Episode

SIDE = 12
CONFIG = TokenizerConfig(vocabulary=40, tokens_per_side=3, update_steps=60, batch_size=16)


def moving_dot(steps: int, seed: int, game: int = 0) -> Episode:
    """A bright dot of one pixel that jumps about before a grey slope."""
    generator = np.random.default_rng(seed)
    frames = np.tile(np.arange(60, 60 + 2 * SIDE, 2, dtype=np.uint8), (steps + 1, SIDE, 1))
    places = generator.integers(SIDE, size=(steps + 1, 2))
    frames[np.arange(steps + 1), places[:, 0], places[:, 1]] = 230
    return Episode(
        observations=frames,
        actions=np.zeros(steps, np.int64),
        rewards=np.zeros(steps, np.float32),
        terminated=True,
        truncated=False,
        complete=True,
        game=game,
    )


def store_of(*episodes: Episode) -> EpisodeStore:
    """A store of nothing else."""
    return EpisodeStore.from_episodes(episodes, discount=0.99)
