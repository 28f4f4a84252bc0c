"""Drawing steps of a store: which episodes, and where in them."""

import numpy as np
from jaxtyping import Int64

from system.data.episodes import EpisodeStore

Steps = tuple[np.ndarray, np.ndarray]


def draw_uniform(store: EpisodeStore, count: int, generator: np.random.Generator) -> Steps:
    """Steps of the store, each with the same probability.

    Args:
        store: where from; of an empty one `count` must be 0.
        count: how many, with replacement.
        generator: drawn from.

    Returns:
        Episodes and steps in them.
    """
    rows = generator.integers(max(1, store.num_steps), size=count)
    episode = np.searchsorted(store.step_offsets, rows, side="right") - 1
    return episode, rows - store.step_offsets[episode]


def draw_by_return(store: EpisodeStore, count: int, generator: np.random.Generator) -> Steps:
    """Complete episodes in proportion to their rank by return, then uniformly over their steps.

    Args:
        store: where from; without complete episodes every step has the same probability.
        count: how many, with replacement.
        generator: drawn from.

    Returns:
        Episodes and steps in them.
    """
    if not store.complete.any():
        return draw_uniform(store, count, generator)
    complete = np.flatnonzero(store.complete)
    ranks = np.empty(len(complete))
    ranks[np.argsort(store.episode_returns[complete], kind="stable")] = np.arange(1, len(complete) + 1)
    episode = generator.choice(complete, size=count, p=ranks / ranks.sum())
    return episode, (generator.random(count) * store.lengths[episode]).astype(np.int64)


class BalancedSteps:
    """Draws as many steps of one game as of another, and uniformly over the steps of a game.

    Args:
        store: whose episodes do not change; a store of one game is drawn from as by `draw_uniform`.
    """

    def __init__(self, store: EpisodeStore) -> None:
        self._store = store
        self._order: Int64[np.ndarray, "episodes"] = np.argsort(store.game, kind="stable")
        self._ends: Int64[np.ndarray, "episodes"] = np.cumsum(store.lengths[self._order])
        self._steps = np.array([store.lengths[store.game == game].sum() for game in store.games], dtype=np.int64)

    def draw(self, count: int, generator: np.random.Generator) -> Steps:
        """Steps whose games alternate, so that any stretch of them is balanced to one row.

        Args:
            count: how many, with replacement; the game of the first is drawn, so that none is favoured.
            generator: drawn from.

        Returns:
            Episodes and steps in them.
        """
        games = len(self._steps)
        if games <= 1:
            return draw_uniform(self._store, count, generator)
        game = (np.arange(count) + generator.integers(games)) % games
        before = np.cumsum(self._steps) - self._steps
        rows = before[game] + generator.integers(self._steps[game])
        place = np.searchsorted(self._ends, rows, side="right")
        episode = self._order[place]
        return episode, rows - (self._ends[place] - self._store.lengths[episode])
