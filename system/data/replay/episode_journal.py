"""Episodes on disk in the order of their playing, for a collection that may be stopped at any moment."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from system.data.replay.episode_log import EpisodeLog
from system.types import Episode, EpisodeKey


class EpisodeJournal:
    """Numbered episodes in an append log; one that was lost leaves a gap in the numbers.

    Args:
        folder: of the log; created if it is not there.

    Attributes:
        episodes: all that are there.
        next_number: of the next episode.
    """

    def __init__(self, folder: Path) -> None:
        self._log = EpisodeLog.open(folder, with_frames=True)
        self.episodes = list(self._log.episodes)
        numbers = [each.key.sequence for each in self.episodes if each.key is not None]
        self.next_number = max(numbers, default=-1) + 1

    @property
    def env_steps(self) -> int:
        """Of all episodes together."""
        return sum(episode.num_steps for episode in self.episodes)

    @property
    def num_lost(self) -> int:
        """Numbers that have no episode."""
        return self.next_number - len(self.episodes)

    def append(self, first: int, played: int, episodes: Mapping[int, Episode]) -> None:
        """Stores what came of a round: on return it is on disk. Numbers that are there already stay as they are.

        Args:
            first: number of the round's first episode.
            played: how many numbers the round takes up.
            episodes: position in the round → episode; those that were lost are missing.
        """
        numbered = [
            replace(episode, key=EpisodeKey(0, 0, first + position), policy_version=None)
            for position, episode in episodes.items()
        ]
        self.episodes += self._log.append(numbered)
        self.next_number = max(self.next_number, first + played)

    def close(self) -> None:
        """Everything is on disk already; the log's file is closed."""
        self._log.close()
