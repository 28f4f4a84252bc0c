"""Means of metrics over a fixed number of update steps."""

from collections.abc import Iterator

from system.training.protocols import Metrics


class MetricWindow:
    """Collects chunks of updates until there are enough for one logged point.

    Args:
        length: update steps to average over.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._sums: Metrics = {}
        self._steps = 0

    def add(self, metrics: Metrics, step: int, num_steps: int) -> Iterator[tuple[int, Metrics]]:
        """Takes in the means of a chunk; yields (step, means) once the window is full.

        Args:
            metrics: means over the chunk.
            step: update step after it.
            num_steps: updates in it.
        """
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * num_steps
        self._steps += num_steps
        if self._steps >= self.length:
            yield step, {name: total / self._steps for name, total in self._sums.items()}
            self._sums, self._steps = {}, 0
