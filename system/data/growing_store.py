"""Online episodes in columns that grow: the same shape as an `EpisodeStore`, with room to append."""

from collections.abc import Sequence

import numpy as np

from system.data.episodes import EpisodeStore
from system.data.returns import returns_to_go
from system.types import Episode


class GrowingStore:
    """Columns with spare capacity, doubled when it runs out, so that appending costs what is appended.

    Args:
        observation_dim, action_dim: S and A.
        discount: γ of the returns-to-go.
    """

    def __init__(self, observation_dim: int, action_dim: int, discount: float) -> None:
        self.discount = discount
        self.num_episodes = 0
        self.num_steps = 0
        self._columns: dict[str, np.ndarray] = {
            "observations": np.zeros((0, observation_dim), np.float32),
            "actions": np.zeros((0, action_dim), np.float32),
            "rewards": np.zeros(0, np.float32),
            "returns_to_go": np.zeros(0, np.float32),
            "lengths": np.zeros(0, np.int64),
            "step_offsets": np.zeros(1, np.int64),
            "terminated": np.zeros(0, bool),
            "truncated": np.zeros(0, bool),
            "complete": np.zeros(0, bool),
        }

    def append(self, episodes: Sequence[Episode]) -> None:
        """Adds episodes at the end."""
        for episode in episodes:
            first, length, index = self.num_steps, episode.num_steps, self.num_episodes
            self._put("observations", first + index, episode.observations)
            self._put("actions", first, episode.actions)
            self._put("rewards", first, episode.rewards)
            self._put("returns_to_go", first, returns_to_go(episode.rewards, self.discount))
            self._put("lengths", index, np.array([length]))
            self._put("step_offsets", index + 1, np.array([first + length]))
            self._put("terminated", index, np.array([episode.terminated]))
            self._put("truncated", index, np.array([episode.truncated]))
            self._put("complete", index, np.array([episode.complete]))
            self.num_episodes += 1
            self.num_steps += length

    def view(self, num_episodes: int) -> EpisodeStore:
        """The first episodes as a store; it shares the columns' memory and costs nothing.

        Args:
            num_episodes: at most those there are.
        """
        steps = int(self._columns["step_offsets"][num_episodes])
        sizes = {
            "observations": steps + num_episodes,
            "actions": steps,
            "rewards": steps,
            "returns_to_go": steps,
            "step_offsets": num_episodes + 1,
        }
        columns = {name: column[: sizes.get(name, num_episodes)] for name, column in self._columns.items()}
        return EpisodeStore(**columns, discount=self.discount)

    def _put(self, name: str, start: int, values: np.ndarray) -> None:
        column, end = self._columns[name], start + len(values)
        if end > len(column):
            larger = np.zeros((max(end, 2 * len(column), 64), *column.shape[1:]), column.dtype)
            larger[: len(column)] = column
            self._columns[name] = column = larger
        column[start:end] = values
