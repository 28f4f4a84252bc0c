"""Configurations in and out: YAML and `key.path=value` overrides to frozen dataclasses, and back.

Reading is strict: numbers are given their type by the schema alone, and whatever does not fit is refused by
the name of its key. YAML is imported by what reads or writes it: a configuration that is JSON already needs none.
"""

import copy
import dataclasses
import difflib
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from system.config.layers import Overrides, Tree, layer_of, merge
from system.config.modules import import_modules, modules_needed
from system.config.registry import (
    FAMILIES,
    PLANNERS,
    NamedFamily,
    default_family,
    family_named,
    present_key,
    present_tree,
)
from system.config.rules import validate
from system.config.sections import RunConfig
from system.config.worker_keys import expand_workers
from system.errors import ConfigError
from system.wording import nearest, one_of, shown

Schema = TypeVar("Schema")

MAX_FILE_BYTES = 256 * 1024
MAX_PRESET_CHAIN = 8
MAX_INTEGER = 2**63 - 1
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def load_config(
    schema: type[Schema],
    source: str | Path | Mapping[str, Any] | None,
    overrides: Overrides = (),
    *,
    presets: Path,
) -> Schema:
    """Builds a checked configuration from a preset or a YAML file, then overrides.

    Args:
        schema: the dataclass to build, `RunConfig` or `CollectConfig`.
        source: a preset's name, a path (anything with a separator or ending in .yaml or .yml), what a file would
            hold, or None for the defaults. A file or preset may name another to build on: `preset: NAME`.
        overrides: the last one of a key counts.
        presets: folder of the presets, `<name>.yaml` each.

    Returns:
        The configuration, with ranges and cross-field rules checked.

    Raises:
        ConfigError: naming the key (and the nearest right one), value and range, or the file and line.
    """
    tree: Tree = {} if source is None else _load_source(source, presets, chain=())
    layer = layer_of(overrides)
    _import_named(schema, {**tree, **layer})
    _forget_replaced(schema, tree, overrides)
    merge(tree, layer)
    config = _build(schema, tree, schema, ())
    validate(config)
    return config


def config_from_dict(schema: type[Schema], tree: Mapping[str, Any], overrides: Overrides = ()) -> Schema:
    """Builds a checked configuration from what `to_dict` gave, in this version or an earlier one, then overrides.

    Modules are imported where an override names them, and not where the tree does: it may be a stranger's.

    Raises:
        ConfigError: as `load_config`.
    """
    merged: Tree = copy.deepcopy(present_tree(tree) if schema is RunConfig else dict(tree))
    layer = layer_of(overrides)
    _import_named(schema, layer)
    _forget_replaced(schema, merged, overrides)
    merge(merged, layer)
    try:
        config = _build(schema, merged, schema, ())
        validate(config)
    except ConfigError as error:
        raise ConfigError(f"{error}{_modules_needed(merged)}") from None
    return config


def named_modules(source: str, *, presets: Path) -> tuple[str, ...]:
    """What the key `modules` of a preset or file holds.

    Args:
        source, presets: as of `load_config`.

    Raises:
        ConfigError: the file cannot be read, or the key holds something else.
    """
    names: tuple[str, ...] = _coerce(
        _load_source(source, presets, chain=()).get("modules", []), tuple[str, ...], "modules"
    )
    return names


def checked_value(schema: type, key: str, value: Any) -> Any:
    """The value of one key as the schema's type, its range checked.

    Args:
        schema: the dataclass that has the key.
        key: dotted path.
        value: as YAML gives it.

    Raises:
        ConfigError: there is no such key (names the nearest), it is a section, or the value does not fit.
    """
    tree = value
    parts = key.split(".")
    for part in reversed(parts):
        tree = {part: tree}
    if schema is RunConfig and parts[0] in FAMILIES:
        tree["family"] = parts[0]
        parts[0] = "method"
    config: Any = _build(schema, tree, schema, ())
    for part in parts:
        config = config[part] if isinstance(config, Mapping) else getattr(config, part)
    if dataclasses.is_dataclass(config):
        raise ConfigError(f"{key}: is a section; name one of its keys")
    return config


def to_dict(config: object) -> Tree:
    """The configuration as nested dicts, lists and scalars, in the order of its fields; a family's by its name."""
    names = {"method": config.family} if isinstance(config, RunConfig) else {}
    fields = dataclasses.fields(config)  # type: ignore[arg-type]
    return {names.get(field.name, field.name): _plain(getattr(config, field.name)) for field in fields}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    """Nested dicts as one dict of dotted keys, `{"planner.horizon": 4, …}`; lists and empty dicts stay values."""
    flat: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def dump_yaml(config: object) -> str:
    """The configuration as YAML that `load_config` reads back to an equal one."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True, width=110)


def first_difference(first: object, second: object) -> str | None:
    """The first dotted key at which two configurations (or their dicts) differ; None if they are equal."""
    a, b = (flatten(dict(each) if isinstance(each, Mapping) else to_dict(each)) for each in (first, second))
    missing = object()
    return next((key for key in [*a, *b] if a.get(key, missing) != b.get(key, missing)), None)


def digest(config: object) -> str:
    """sha256 of the configuration's values, in hexadecimal; independent of the order of keys."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()


def preset_names(presets: Path) -> list[str]:
    """Names of the presets in a folder, sorted."""
    return sorted(path.stem for path in presets.glob("*.yaml"))


def _load_source(source: str | Path | Mapping[str, Any], presets: Path, chain: tuple[str, ...]) -> Tree:
    from system.config.strict_yaml import parse_yaml

    if isinstance(source, Mapping):
        return _on_its_preset(copy.deepcopy(dict(source)), presets, chain)
    is_file = isinstance(source, Path) or "/" in source or source.endswith((".yaml", ".yml"))
    path = Path(source) if is_file else presets / f"{source}.yaml"
    if not is_file and source not in preset_names(presets):
        raise ConfigError(f"preset {shown(source)}: unknown; {nearest(str(source), preset_names(presets))}")
    if str(source) in chain or len(chain) >= MAX_PRESET_CHAIN:
        raise ConfigError(f"preset {shown(str(source))}: builds on itself")
    tree = parse_yaml(_read_text(path), name=path.name)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path.name}: holds {shown(tree)} where keys and values are expected")
    return _on_its_preset(tree, presets, (*chain, str(source)))


def _on_its_preset(tree: Tree, presets: Path, chain: tuple[str, ...]) -> Tree:
    """A file's content laid over the preset that it names, if it names one."""
    base = expand_workers(tree).pop("preset", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"preset: {shown(base)} is not a name")
    return merge(_load_source(base, presets, chain), tree)


def _import_named(schema: type, tree: Tree) -> None:
    """What `modules` names, before anything that it registers is looked for."""
    if "modules" in tree and "modules" in {field.name for field in dataclasses.fields(schema)}:
        import_modules(_coerce(tree["modules"], tuple[str, ...], "modules"))


def _forget_replaced(schema: type, tree: Tree, overrides: Overrides) -> None:
    """Takes out the settings that are mappings and that an override gives whole, for it replaces them."""
    for override in overrides:
        parts = override.partition("=")[0].strip().split(".")
        section: Any = tree
        hint: Any = schema
        for position, part in enumerate(parts):
            if position and isinstance(section, dict):
                section = section.get(parts[position - 1])
            own = FAMILIES.get(part) if hint is RunConfig else None
            hint = own.section if own else _hints(hint).get(part)
        if typing.get_origin(hint) is Mapping and isinstance(section, dict):
            section.pop(parts[-1], None)


def _hints(schema: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(schema) if dataclasses.is_dataclass(schema) else {}


def _modules_needed(tree: Tree) -> str:
    """A hint where the family or planner is not registered and the tree names modules that might do so."""
    names, planner = tree.get("modules"), tree.get("planner")
    is_known = tree.get("family") in FAMILIES and (
        not isinstance(planner, dict) or planner.get("name") in PLANNERS
    )
    return "" if is_known or not isinstance(names, list) else modules_needed(map(str, names))


def _read_text(path: Path) -> str:
    try:
        if not path.is_file():
            raise ConfigError(f"{str(path)!r}: no such configuration file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes is more than the {MAX_FILE_BYTES} allowed")
        return path.read_bytes()[: MAX_FILE_BYTES + 1].decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{shown(str(path))}: cannot be read ({type(error).__name__})") from None


def _build(schema: type[Schema], tree: Any, root: type, path: tuple[str, ...]) -> Schema:
    if not isinstance(tree, dict):
        raise ConfigError(f"{'.'.join(path)}: {shown(tree)} given where keys and values are expected")
    fields = {field.name: field for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(schema)
    values: Tree = {}
    family = _family_of(tree) if schema is RunConfig else None
    if family is not None:
        del fields["method"]
    for name, value in tree.items():
        key = ".".join((*path, name))
        if family is not None and name == family.name:
            values["method"] = _build(family.section, value, root, (name,))
            continue
        if name not in fields:
            raise ConfigError(_unknown(key, value, root, family))
        if dataclasses.is_dataclass(hints[name]):
            values[name] = _build(typing.cast(type, hints[name]), value, root, (*path, name))
        else:
            values[name] = _coerce(value, hints[name], key)
            _check_range(values[name], fields[name].metadata, key)
    return schema(**values)


def _family_of(tree: Tree) -> NamedFamily:
    name = tree.get("family", default_family())
    if not isinstance(name, str):
        raise ConfigError(f"family: {shown(name)} is not a name")
    return family_named(name)


def _unknown(key: str, value: Any, root: type, family: NamedFamily | None) -> str:
    """Why there is no such key: it is another family's, it has another name now, or it never was one."""
    if key in FAMILIES and family is not None:
        return f"{key}: is a section of family {key}, and this run's is {family.name}"
    full = next(iter(flatten({key: value})), key) if isinstance(value, dict) else key
    now = present_key(full)
    if now is not None:
        names = [f"{each.former_name} is {each.name}" for each in FAMILIES.values() if each.former_name]
        return f"{full}: is called {now} now" + (f" ({', '.join(names)})" if key == "algorithm" else "")
    return f"{key}: unknown key; {_nearest_key(key, root, family)}"


def _coerce(value: Any, hint: Any, key: str) -> Any:
    """The value as the hinted type, or ConfigError."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _coerce(value, next(choice for choice in choices if choice is not type(None)), key)
    if origin is Literal:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError(f"{key}: {one_of(value, choices)}")
        return value
    if origin is Mapping:
        if not isinstance(value, dict):
            raise ConfigError(f"{key}: {shown(value)} given where keys and values are expected")
        named, held = choices
        if held is Any:
            return value
        return {_coerce(name, named, key): _coerce(item, held, f"{key}.{name}") for name, item in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}: {shown(value)} is not a list, such as [a, b]")
        return tuple(_coerce(item, choices[0], key) for item in value)
    if hint is float and isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
        raise ConfigError(f"{key}: {shown(value)} is not {names[hint]}")
    if isinstance(value, str) and not value.isprintable():
        raise ConfigError(f"{key}: {shown(value)} holds characters that cannot be printed")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_INTEGER:
        raise ConfigError(f"{key}: {shown(value)} is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}: {value} is not a finite number")
    return float(value) if hint is float else value


def _check_range(value: Any, metadata: Mapping[str, Any], key: str) -> None:
    low, high = metadata.get("low"), metadata.get("high")
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_range(item, metadata, f"{key}.{name}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f"[{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'}]"
            raise ConfigError(f"{key}: {number} is out of range {bounds}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _all_keys(schema: type, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, hint in typing.get_type_hints(schema).items():
        keys.append(prefix + name)
        if dataclasses.is_dataclass(hint):
            keys += _all_keys(typing.cast(type, hint), f"{prefix}{name}.")
    return keys


def _nearest_key(key: str, root: type, family: NamedFamily | None) -> str:
    """Suggests a key of the same section, else one of the same last name elsewhere, else the closest."""
    keys, leaf = _all_keys(root), key.rpartition(".")[2]
    if root is RunConfig:
        keys.remove("method")
        own = family or FAMILIES.get(key.partition(".")[0]) or family_named(default_family())
        keys += [own.name, *_all_keys(own.section, f"{own.name}.")]
    section = [known for known in keys if known.rpartition(".")[0] == key.rpartition(".")[0]]
    matches = difflib.get_close_matches(key, section, n=1, cutoff=0.8)
    matches += [known for known in keys if known.rpartition(".")[2] == leaf]
    by_leaf = {known.rpartition(".")[2]: known for known in keys}
    matches += [by_leaf[name] for name in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.75)]
    return f"did you mean {matches[0]}?" if matches else nearest(key, section or keys)
