"""How a key of the configuration is declared: default, range and one line of explanation."""

from dataclasses import field
from typing import Any, TypeVar, cast

Value = TypeVar("Value")


def setting(default: Value, *, low: float | None = None, high: float | None = None, doc: str = "") -> Value:
    """A dataclass field with an inclusive range and a one-line explanation.

    Args:
        default: value when the key is not given.
        low, high: inclusive bounds of a number, or of every number of a tuple; None is unbounded.
        doc: meaning and unit.
    """
    metadata: dict[str, Any] = {"low": low, "high": high, "doc": doc}
    return cast(Value, field(default=default, metadata=metadata))
