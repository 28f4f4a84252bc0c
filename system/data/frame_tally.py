"""What a person wants to know of a dataset's frames and discrete actions."""

from collections import Counter

import numpy as np

from system.types import Episode, TaskSpec


class FrameTally:
    """Counts over episodes that come one by one, so that no frame is kept.

    Args:
        task: of discrete actions that shows frames.
    """

    def __init__(self, task: TaskSpec) -> None:
        self._task = task
        self._levels = np.zeros(256, dtype=np.int64)
        self._actions: Counter[int] = Counter()
        self._num_frames = 0
        self.warnings: list[str] = []

    def add(self, number: int, episode: Episode) -> None:
        """Counts one episode; one that begins with several black frames gets a warning.

        Args:
            number: named in the warning.
            episode: its observations are uint8 frames.
        """
        frames = episode.observations
        self._num_frames += len(frames)
        self._levels += np.bincount(frames.reshape(-1), minlength=256)
        self._actions.update(episode.actions.tolist())
        shown = frames.reshape(len(frames), -1).any(axis=1)
        black = int(np.argmax(shown)) if shown.any() else len(frames)
        if black > 1:
            self.warnings.append(f"episode {number}: begins with {black} black frames, which may be padding")

    def lines(self) -> list[tuple[str, str]]:
        """What was counted, as names and values; nothing if there were no frames."""
        if self._num_frames == 0:
            return []
        height, width = self._task.frame_shape or (0, 0)
        levels = np.flatnonzero(self._levels)
        mean = float(np.average(np.arange(256), weights=self._levels))
        grey = f"grey {levels[0]} to {levels[-1]}, mean {mean:.1f}"
        steps = sum(self._actions.values())
        used = [f"{action} {self._actions[action] / steps:.1%}" for action in sorted(self._actions)]
        never = [str(action) for action in self._task.valid_actions if action not in self._actions]
        return [
            ("frames", f"{self._num_frames} of {height}x{width}, {grey}"),
            ("actions", ", ".join(used) + (f"; never {', '.join(never)}" if never else "")),
        ]
