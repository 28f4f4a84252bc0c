"""Online episodes in columns that grow: the same shape as an `EpisodeStore`, with room to append."""

from collections.abc import Sequence

import numpy as np

from system.data.store.episode_columns import COLUMNS, EpisodeLayout
from system.data.store.episodes import OF_EPISODES, OF_STEPS, EpisodeStore
from system.data.store.returns import EndReadings
from system.types import Episode


class GrowingStore:
    """Columns with spare capacity, doubled when it runs out, so that appending costs what is appended.

    Args:
        layout: of the episodes to come.
        discount: γ of the returns-to-go.
        readings: of ends without termination.
    """

    def __init__(self, layout: EpisodeLayout, discount: float, readings: EndReadings) -> None:
        self.layout = layout
        self.discount = discount
        self.readings = readings
        self.num_episodes = 0
        self.num_steps = 0
        shapes = {
            "observations": (layout.observation_dtype, layout.observation_shape),
            "actions": (layout.action_dtype, layout.action_shape),
            **dict.fromkeys(("rewards", "returns_to_go"), (np.float32, ())),
            **dict.fromkeys(("lengths", "step_offsets", "game"), (np.int64, ())),
            **dict.fromkeys(("returns_valid", "terminated", "truncated", "complete"), (np.bool_, ())),
        }
        self._columns = {name: np.zeros((0, *shapes[name][1]), shapes[name][0]) for name in COLUMNS}
        self._columns["step_offsets"] = np.zeros(1, np.int64)

    def append(self, episodes: Sequence[Episode]) -> None:
        """Adds episodes at the end; their frames are left out where the observations are tokens.

        Raises:
            DataError: an episode is empty or of another layout; those before it are in.
        """
        for episode in episodes:
            first, index = self.num_steps, self.num_episodes
            columns = self.layout.columns(index, episode, self.discount, self.readings)
            self._put("observations", first + index, columns["observations"])
            for name in OF_STEPS:
                self._put(name, first, columns[name])
            for name in OF_EPISODES:
                self._put(name, index, columns[name])
            self._put("step_offsets", index + 1, first + columns["lengths"])
            self.num_episodes += 1
            self.num_steps += episode.num_steps

    def view(self, num_episodes: int) -> EpisodeStore:
        """The first episodes as a store; it shares the columns' memory and costs nothing.

        Args:
            num_episodes: at most those there are.
        """
        steps = int(self._columns["step_offsets"][num_episodes])
        sizes = {
            "observations": steps + num_episodes,
            **dict.fromkeys(OF_STEPS, steps),
            "step_offsets": num_episodes + 1,
        }
        columns = {name: column[: sizes.get(name, num_episodes)] for name, column in self._columns.items()}
        return EpisodeStore(**columns, discount=self.discount, readings=self.readings)

    def _put(self, name: str, start: int, values: np.ndarray) -> None:
        column, end = self._columns[name], start + len(values)
        if end > len(column):
            larger = np.zeros((max(end, 2 * len(column), 64), *column.shape[1:]), column.dtype)
            larger[: len(column)] = column
            self._columns[name] = column = larger
        column[start:end] = values
