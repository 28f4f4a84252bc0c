"""The families and planners that configurations name; both register themselves from the rooms above.

What a configuration needs to know of them is little, and all of it is light: nothing here loads a model.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from system.errors import ConfigError
from system.wording import one_of, shown


@dataclass(frozen=True)
class ChangedKey:
    """A key of earlier versions that holds another kind of value now, under another name.

    Attributes:
        now: dotted path of today's key.
        value: what was held → what is held now; None: nothing of today's says the same, and the default counts.
    """

    now: str
    value: Callable[[Any], Any] | None = None


class NamedFamily(Protocol):
    """What a configuration asks of a family; the whole record is `system.families.registry.Family`.

    Attributes:
        name: value of the key `family`, and name of the family's own section.
        section: dataclass of that section; it has a `context_length`.
        former: keys of earlier versions → today's, sections as a whole.
        changed: keys of earlier versions, by the sections of today, whose value is of another kind now.
        former_name: value of the key `algorithm` in earlier versions.
        planner: the planner that is used where none is named.
        asks: what kind of planning model its planners ask; see `NamedPlanner`.
        also_asks: further kinds that its model answers.
        evaluated: policies that are measured where none are named.
        policies: names of all its policies.
        capabilities: what its model can be asked for by name.
        batch_sizes: key → rows of a batch over all learners, which they share equally.
        validate: raises ConfigError where the section does not go with itself or the rest.
    """

    @property
    def name(self) -> str: ...

    @property
    def section(self) -> type: ...

    @property
    def former(self) -> Mapping[str, str]: ...

    @property
    def changed(self) -> Mapping[str, ChangedKey]: ...

    @property
    def former_name(self) -> str | None: ...

    @property
    def planner(self) -> str: ...

    @property
    def asks(self) -> str: ...

    @property
    def also_asks(self) -> tuple[str, ...]: ...

    @property
    def evaluated(self) -> tuple[str, ...]: ...

    @property
    def policies(self) -> Callable[[], Any]: ...

    @property
    def capabilities(self) -> Mapping[str, Any]: ...

    @property
    def batch_sizes(self) -> Callable[[Any], Mapping[str, int]]: ...

    @property
    def validate(self) -> Callable[[Any], None]: ...

    @property
    def incomplete_data(self) -> bool: ...

    @property
    def several_datasets(self) -> bool: ...

    @property
    def begins_with_weights(self) -> bool: ...

    @property
    def compile(self) -> Callable[[Any], None] | None: ...


class NamedPlanner(Protocol):
    """What a configuration asks of a planner; the whole record is `system.planning.registry.Planner`.

    Attributes:
        name: value of `planner.name`.
        asks: `proposals`, a model that proposes and imagines whole candidates, `steps`, one that is stepped, or
            `paths`, one that infers paths to goals.
        ignores: keys of the section `planner` that make no difference to it.
    """

    @property
    def name(self) -> str: ...

    @property
    def asks(self) -> str: ...

    @property
    def ignores(self) -> tuple[str, ...]: ...


CHANGED: Mapping[str, ChangedKey] = {
    "online.episodes_per_round": ChangedKey("online.env_steps_per_round"),
}
"""Keys of earlier versions in the sections that all families share."""

FAMILIES: dict[str, NamedFamily] = {}
"""By name, in the order of their registration; the first is that of configurations that name none."""

PLANNERS: dict[str, NamedPlanner] = {}
"""By name."""


def default_family() -> str:
    """The family of a configuration that names none."""
    return next(iter(FAMILIES))


def family_named(name: str) -> NamedFamily:
    """A registered family.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FAMILIES:
        raise ConfigError(f"family: {one_of(name, tuple(FAMILIES))}")
    return FAMILIES[name]


def planners_for(family: NamedFamily) -> tuple[str, ...]:
    """Names of the planners that can ask the family's models."""
    return tuple(planner.name for planner in PLANNERS.values() if planner.asks in (family.asks, *family.also_asks))


def present_key(key: str) -> str | None:
    """What a key of an earlier version is called now; None if it never was one.

    Args:
        key: dotted path.
    """
    if key == "algorithm":
        return "family"
    for family in FAMILIES.values():
        for old, new in family.former.items():
            if key == old or key.startswith(f"{old}."):
                moved = new + key[len(old) :]
                return family.changed[moved].now if moved in family.changed else moved
        if key in family.changed:
            return family.changed[key].now
    return CHANGED[key].now if key in CHANGED else None


def present_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration of an earlier version with today's keys; one of today's as it is.

    Args:
        tree: what an earlier `to_dict` gave; other families' sections are left out.
    """
    present = _in_present_sections(tree) if "algorithm" in tree else copy.deepcopy(dict(tree))
    family = FAMILIES.get(str(present.get("family", default_family())))
    online, dataset = present.get("online"), present.get("dataset")
    if isinstance(online, dict) and "episodes_per_round" in online and isinstance(dataset, dict):
        # Versions with that key took what was seen until a time limit for all there is.
        dataset.setdefault("limit_ends", "complete")
    for old, key in {**CHANGED, **(family.changed if family else {})}.items():
        *sections, name = old.split(".")
        section: Any = present
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section:
            value = section.pop(name)
            if key.value is not None:
                _put(present, key.now.split("."), key.value(value))
    return present


def _in_present_sections(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a version in which every family's sections stood beside the shared ones."""
    own = next((each for each in FAMILIES.values() if each.former_name == tree["algorithm"]), None)
    if own is None:
        raise ConfigError(f"algorithm: {tree['algorithm']!r} is of no family that is registered")
    gone = {old for family in FAMILIES.values() for old in family.former}
    kept: dict[str, Any] = {
        name: {key: each for key, each in value.items() if f"{name}.{key}" not in gone}
        if isinstance(value, Mapping)
        else value
        for name, value in tree.items()
        if name not in gone and name != "algorithm"
    }
    kept["family"] = own.name
    for old, new in own.former.items():
        value: Any = tree
        for part in old.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            _put(kept, new.split("."), value)
    return kept


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for position, part in enumerate(path[: None if isinstance(value, Mapping) else -1], start=1):
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            key = ".".join(path[:position])
            raise ConfigError(f"{key}: {shown(tree)} given where keys and values are expected")
    if isinstance(value, Mapping):
        tree.update(value)
    else:
        tree[path[-1]] = value
