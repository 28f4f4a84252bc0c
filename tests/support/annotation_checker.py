"""The checker that jaxtyping applies to every annotation of `system` during tests."""

import typing
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

# An int is accepted where a float is asked for, as type checkers do.
_CONFIGURATION = BeartypeConf(is_pep484_tower=True)


def check_types(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotations checked at every call; of a protocol, that its methods are there."""
    for hint in getattr(function, "__annotations__", {}).values():
        _make_protocols_checkable(hint)
    return beartype(conf=_CONFIGURATION)(function)


def _make_protocols_checkable(hint: Any) -> None:
    if isinstance(hint, type) and getattr(hint, "_is_protocol", False):
        typing.runtime_checkable(hint)
    for part in typing.get_args(hint):
        _make_protocols_checkable(part)
