"""Named places where a test can have this process killed; nothing happens unless O2O_FAULT is set.

`O2O_FAULT="replay.after_append:3:SIGKILL"` kills the process with that signal when it reaches the point for
the third time. With `O2O_FAULT_ONCE=FILE` only the process that creates FILE does so, which keeps a
restarted worker alive.
"""

import os
import signal
from collections import Counter

_REACHED: Counter[str] = Counter()


def reach(point: str) -> None:
    """Marks that `point` was reached; kills the process if `O2O_FAULT` asks for it here and now."""
    order = os.environ.get("O2O_FAULT")
    if not order:
        return
    name, count, signal_name = order.split(":")
    if name != point:
        return
    _REACHED[point] += 1
    if _REACHED[point] == int(count) and _is_first():
        os.kill(os.getpid(), getattr(signal, signal_name))


def _is_first() -> bool:
    marker = os.environ.get("O2O_FAULT_ONCE")
    if not marker:
        return True
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
