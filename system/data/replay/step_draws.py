"""Drawing steps of a store: which episodes, and where in them.

Every function draws from episodes of L + `beyond` steps, of which the last `beyond` are behind the end: windows
that end there still hold steps of the episode.
"""

import numpy as np
from jaxtyping import Int64

from system.data.store.episodes import EpisodeStore

Steps = tuple[np.ndarray, np.ndarray]


def draw_uniform(store: EpisodeStore, count: int, generator: np.random.Generator, beyond: int = 0) -> Steps:
    """Steps of the store, each with the same probability.

    Args:
        store: where from; of an empty one `count` must be 0.
        count: how many, with replacement.
        generator: drawn from.
        beyond: steps behind the end of every episode.

    Returns:
        Episodes and steps in them.
    """
    offsets = store.step_offsets + beyond * np.arange(len(store.step_offsets))
    rows = generator.integers(max(1, offsets[-1]), size=count)
    episode = np.searchsorted(offsets, rows, side="right") - 1
    return episode, rows - offsets[episode]


def draw_by_return(store: EpisodeStore, count: int, generator: np.random.Generator, beyond: int = 0) -> Steps:
    """Complete episodes in proportion to their rank by return, then uniformly over their steps.

    Args:
        store: where from; without complete episodes every step has the same probability.
        count: how many, with replacement.
        generator: drawn from.
        beyond: steps behind the end of every episode.

    Returns:
        Episodes and steps in them.
    """
    if not store.complete.any():
        return draw_uniform(store, count, generator, beyond)
    complete = np.flatnonzero(store.complete)
    ranks = np.empty(len(complete))
    ranks[np.argsort(store.episode_returns[complete], kind="stable")] = np.arange(1, len(complete) + 1)
    episode = generator.choice(complete, size=count, p=ranks / ranks.sum())
    return episode, (generator.random(count) * (store.lengths[episode] + beyond)).astype(np.int64)


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
        self._episodes = np.array([(store.game == game).sum() for game in store.games], dtype=np.int64)

    def draw(self, count: int, generator: np.random.Generator, beyond: int = 0) -> Steps:
        """Steps whose games alternate, so that any stretch of them is balanced to one row.

        Args:
            count: how many, with replacement; the game of the first is drawn, so that none is favoured.
            generator: drawn from.
            beyond: steps behind the end of every episode.

        Returns:
            Episodes and steps in them.
        """
        games = len(self._steps)
        if games <= 1:
            return draw_uniform(self._store, count, generator, beyond)
        game = (np.arange(count) + generator.integers(games)) % games
        steps = self._steps + beyond * self._episodes
        ends = self._ends + beyond * np.arange(1, len(self._ends) + 1)
        rows = (np.cumsum(steps) - steps)[game] + generator.integers(steps[game])
        place = np.searchsorted(ends, rows, side="right")
        episode = self._order[place]
        return episode, rows - (ends[place] - self._store.lengths[episode] - beyond)
