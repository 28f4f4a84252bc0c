"""Typed values out of a JSON document that others may have written."""

import re
from pathlib import Path
from typing import Any

from system.errors import DataError

LARGEST_NUMBER = 1e30
LONGEST_TEXT = 300
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


class JsonFields:
    """Typed values of a JSON object; what does not fit is refused by file and place.

    Args:
        file: where it was read.
        values: the object, or whatever stands in its place.
        place: dotted path to it.
    """

    def __init__(self, file: Path, values: Any, place: str = "") -> None:
        self.file = file
        self.place = place
        if not isinstance(values, dict):
            raise self.refusal("", "is not an object")
        self.values: dict[str, Any] = values

    def refusal(self, name: str, problem: str) -> DataError:
        """The error that names a field."""
        place = ".".join(part for part in (self.place, name) if part)
        what = f"{place} {problem}" if place else problem
        return DataError(f"{self.file}: {what}: not the summary of a finished run")

    def get(self, name: str) -> Any:
        """A field that must be there."""
        if name not in self.values:
            raise self.refusal(name, "is missing")
        return self.values[name]

    def section(self, name: str) -> "JsonFields":
        """An object."""
        return JsonFields(self.file, self.get(name), f"{self.place}.{name}".strip("."))

    def items(self, name: str) -> list[Any]:
        """A list."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.refusal(name, "is not a list")
        return value

    def sections(self, name: str) -> list["JsonFields"]:
        """A list of objects."""
        place = f"{self.place}.{name}".strip(".")
        return [JsonFields(self.file, each, f"{place}[{index}]") for index, each in enumerate(self.items(name))]

    def integer(self, name: str) -> int:
        """A whole number."""
        return self._whole(name, self.get(name))

    def number(self, name: str) -> float:
        """A finite number."""
        return self._real(name, self.get(name))

    def number_or_none(self, name: str) -> float | None:
        """A finite number, or null, or nothing at all."""
        return None if self.values.get(name) is None else self.number(name)

    def integers(self, name: str) -> list[int]:
        """A list of whole numbers."""
        return [self._whole(f"{name}[{index}]", value) for index, value in enumerate(self.items(name))]

    def numbers(self, name: str) -> list[float]:
        """A list of finite numbers."""
        return [self._real(f"{name}[{index}]", value) for index, value in enumerate(self.items(name))]

    def name(self, name: str) -> str:
        """A short text of letters, digits and a few marks."""
        value = self.get(name)
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise self.refusal(name, "is not a name")
        return value

    def text(self, name: str) -> str:
        """One short line."""
        value = self.get(name)
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= LONGEST_TEXT:
            raise self.refusal(name, "is not a short text")
        return value

    def _whole(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST_NUMBER:
            raise self.refusal(name, "is not an integer")
        return value

    def _real(self, name: str, value: Any) -> float:
        # A comparison with NaN is false.
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST_NUMBER:
            raise self.refusal(name, "is not a finite number")
        return float(value)
