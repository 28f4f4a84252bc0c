"""Layers of a configuration, as nested dicts: a preset, a file, overrides, each laid over the one before."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from system.config.worker_keys import expand_workers
from system.errors import ConfigError
from system.wording import shown

Tree = dict[str, Any]

Overrides = Sequence[str] | Mapping[str, Any]
"""`key.path=value` each, the value as YAML; or values by dotted key, as Python has them."""


def layer_of(overrides: Overrides) -> Tree:
    """All overrides as one tree.

    Args:
        overrides: the last one of a key counts.

    Raises:
        ConfigError: one is not of the form `key.path=value`.
    """
    layer: Tree = {}
    for override in _trees(overrides):
        merge(layer, override, replace=False)
    return layer


def merge(base: Tree, layer: Tree, *, replace: bool = True) -> Tree:
    """Lays `layer` over `base`, in place; mappings merge, everything else replaces.

    Args:
        base, layer: trees.
        replace: a dataset that `layer` names, by id or by file, replaces the one of `base`, named the other way.
    """
    if replace:
        _forget_other_dataset(base.get("dataset"), layer.get("dataset"))
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value, replace=False)
        else:
            base[key] = value
    return base


def _parse_override(override: str) -> Tree:
    from system.config.strict_yaml import parse_yaml

    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {shown(override)}: expected key.path=value")
    return _nested(parts, parse_yaml(text, name=f"--set {key.strip()}"))


def _trees(overrides: Overrides) -> Iterator[Tree]:
    """Each override as nested dicts."""
    if isinstance(overrides, Mapping):
        trees = (_nested(key.split("."), copy.deepcopy(value)) for key, value in overrides.items())
    else:
        trees = (_parse_override(each) for each in overrides)
    yield from map(expand_workers, trees)


def _nested(parts: Sequence[str], value: Any) -> Tree:
    for part in reversed(parts):
        value = {part: value}
    tree: Tree = value
    return tree


def _forget_other_dataset(base: Any, layer: Any) -> None:
    if isinstance(base, dict) and isinstance(layer, dict):
        for key, other in (("id", "file"), ("file", "id")):
            if layer.get(key) and other not in layer:
                base.pop(other, None)
