"""The keys of `docs/configuration.md`, from the dataclasses: `python -m tests.support.configuration_page`."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union

import system.families  # noqa: F401  registers the methods
from system.config import CollectConfig, RunConfig, SweepConfig
from system.config.registry import CHANGED, FAMILIES, default_family

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN, END = "<!-- keys: written by tests/support/configuration_page.py -->\n", "<!-- end of the keys -->\n"


def kind(hint: Any) -> str:
    """What a value is, for a person."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in choices)
    if origin in (Union, types.UnionType):
        return f"{kind(next(each for each in choices if each is not type(None)))} or null"
    if origin is tuple:
        return f"list of {kind(choices[0])}s"
    if origin is Mapping and choices[1] is not Any:
        return f"{kind(choices[1])} of each: {kind(choices[0])}"
    names = {bool: "true, false", int: "integer", float: "number", str: "string"}
    return names.get(hint, "mapping")


def bounds(metadata: Any) -> str:
    """The inclusive range, of numbers that have one."""
    low, high = metadata.get("low"), metadata.get("high")
    if low is None and high is None:
        return ""
    if high is None:
        return f"≥ {low:g}"
    return f"≤ {high:g}" if low is None else f"{low:g} … {high:g}"


def shown_default(value: Any) -> str:
    """As YAML would have it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        items = ", ".join(f"{name}: {shown_default(item)}" for name, item in value.items())
        return f"{{{items}}}" if value else ""
    return "" if value == "" else str(value)


def tables(schema: type, title: str, level: int, left_out: tuple[str, ...] = ()) -> str:
    """A table of the section's own keys, and one for each section within it."""
    hints = typing.get_type_hints(schema)
    fields = [each for each in dataclasses.fields(schema) if each.name not in left_out]
    plain = [each for each in fields if not dataclasses.is_dataclass(hints[each.name])]
    text = f"{'#' * level} {title}\n\n" if plain or level == 2 else ""
    if plain:
        text += "| key | value | default | range | what |\n|---|---|---|---|---|\n"
        for each in plain:
            default = each.default_factory() if callable(each.default_factory) else each.default
            meaning = each.metadata.get("doc", "")
            cells = (kind(hints[each.name]), shown_default(default), bounds(each.metadata), meaning)
            text += f"| `{each.name}` | {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
        text += "\n"
    for each in fields:
        if dataclasses.is_dataclass(hints[each.name]):
            inner = each.name if level == 2 and title.startswith("A run") else f"{title}.{each.name}"
            text += tables(typing.cast(type, hints[each.name]), inner, 3)
    return text


def renamed() -> str:
    """Keys of earlier versions and what they are called now."""
    text = "| earlier | now |\n|---|---|\n"
    values = ", ".join(f"`{each.former_name}` → `{each.name}`" for each in shipped() if each.former_name)
    text += f"| `algorithm` | `family` ({values}) |\n"
    for each in shipped():
        text += "".join(f"| `{old}` | `{new}` |\n" for old, new in each.former.items())
        text += "".join(f"| `{old}` | `{key.now}` |\n" for old, key in each.changed.items())
    return text + "".join(f"| `{old}` | `{key.now}` |\n" for old, key in CHANGED.items())


def shipped() -> list[Any]:
    """The families of this package, in the order of their registration."""
    return [each for each in FAMILIES.values() if each.section.__module__.startswith("system.")]


def keys_text() -> str:
    """Everything between the marks."""
    text = f"## Renamed keys\n\n{renamed()}\n"
    text += tables(RunConfig, "A run's keys", 2, left_out=("method",))
    for family in shipped():
        note = ", the default" if family.name == default_family() else ""
        text += f"## Family {family.name}{note}\n\n" + tables(family.section, family.name, 3)
    text += tables(CollectConfig, "Keys of collect", 2)
    text += tables(SweepConfig, "Keys of sweep", 2)
    return text


def with_keys(page: str) -> str:
    """The page with today's keys."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + keys_text() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(with_keys(PAGE.read_text()))
