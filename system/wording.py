"""How errors quote what they were given, and what they suggest in its place."""

import difflib
from collections.abc import Sequence
from typing import Any


def shown(value: Any) -> str:
    """The value for a message: YAML-like, on one line of at most 60 characters."""
    text = {"True": "true", "False": "false", "None": "null"}.get(repr(value), repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean …?`, or what there is, where nothing is like it."""
    return _suggestion(name, known) or f"known: {', '.join(known)}"


def one_of(value: Any, choices: Sequence[Any]) -> str:
    """That a value is not among those that are known, and which is meant most likely."""
    names = [str(choice) for choice in choices]
    suggestion = _suggestion(str(value)[:100], names)
    return f"{shown(value)} is not one of {', '.join(names)}" + (f"; {suggestion}" if suggestion else "")


def _suggestion(name: str, known: Sequence[str]) -> str:
    closest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {closest[0]}?" if closest else ""
