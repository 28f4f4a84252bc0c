"""SIGINT and SIGTERM as a request that is answered at the next safe place."""

import signal
from collections.abc import Sequence
from types import FrameType

from system.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While entered, remembers a signal instead of dying of it; a second one acts at once.

    Args:
        signals: none leaves signals to whoever else waits for them; threads other than the main one have to.

    Attributes:
        signal_number: of the signal that came; 0 if none did.
    """

    def __init__(self, signals: Sequence[signal.Signals] = SIGNALS) -> None:
        self.signals = signals
        self.signal_number = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in self.signals:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def raise_if_asked(self) -> None:
        """For work that has nothing to save.

        Raises:
            Interrupted: a signal came.
        """
        if self.signal_number:
            raise Interrupted(self.signal_number)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number:
            raise KeyboardInterrupt
        self.signal_number = number
