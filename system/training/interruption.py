"""Requests to stop, SIGINT and SIGTERM among them, that are answered at the next safe place."""

import signal
from collections.abc import Sequence
from types import FrameType

from system.errors import Interrupted, SystemFailure

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While entered, remembers a signal instead of dying of it; a second one acts at once.

    Args:
        signals: none leaves signals to whoever else waits for them; threads other than the main one have to.

    Attributes:
        request: what to end with, once a signal came or somebody asked; None until then.
    """

    def __init__(self, signals: Sequence[signal.Signals] = SIGNALS) -> None:
        self.signals = signals
        self.request: SystemFailure | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in self.signals:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def ask(self, reason: SystemFailure) -> None:
        """Asks to stop, from any thread; the first reason stays."""
        self.request = self.request or reason

    def raise_if_asked(self) -> None:
        """For work that has nothing to save.

        Raises:
            Interrupted: a signal came.
            SystemFailure: the reason that somebody else had.
        """
        if self.request is not None:
            raise self.request

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.request is not None:
            raise KeyboardInterrupt
        self.request = Interrupted(number)
