"""YAML as plain data: a strict parser that cannot construct objects and refuses what is ambiguous.

The text is parsed to a node tree that is converted here, so no tag is ever constructed.
"""

import re
from typing import Any, ClassVar

import yaml

from system.errors import ConfigError
from system.wording import shown

MAX_DEPTH = 16
_TAG = "tag:yaml.org,2002:"


class _StrictLoader(yaml.SafeLoader):
    """Parses to nodes with few implicit types: no octal, sexagesimal, dates, `yes`/`no`, or aliases."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node, unless it is an alias, is anchored, or lies too deep."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            problem = "anchors and aliases are not accepted"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, _pattern, _first in (
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(0|[1-9][0-9]*(_[0-9]+)*)$", list("-+0123456789")),
    ("float", r"^[-+]?([0-9]+\.[0-9]*([eE][-+][0-9]+)?|\.[0-9]+|\.(inf|nan|NaN))$", list("-+.0123456789")),
):
    _StrictLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


def parse_yaml(text: str, *, name: str) -> Any:
    """Parses one strict YAML document to dicts, lists and scalars.

    Args:
        text: the document.
        name: of the file or override, for messages.

    Raises:
        ConfigError: malformed, duplicate key, anchor, alias, tag, or nested too deeply.
    """
    try:
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: {error.problem or 'not valid YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ConfigError(f"{name}: not valid YAML text") from None
    return None if node is None else _convert(node, (), name)


def _convert(node: yaml.Node, path: tuple[str, ...], name: str) -> Any:
    """A node as dict, list or scalar; refuses every tag but the plain ones."""
    where = f"{name}:{node.start_mark.line + 1}: {'.'.join(path) or 'document'}"
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        tree: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                raise ConfigError(f"{where}: the key {shown(key)} is not a plain name")
            if key in tree:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"{name}:{line}: {'.'.join((*path, key))}: key given twice")
            tree[key] = _convert(value_node, (*path, key), name)
        return tree
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_convert(child, path, name) for child in node.value]
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        try:
            return _SCALARS[node.tag](node.value)
        except ValueError:
            raise ConfigError(f"{where}: {shown(node.value)} does not fit its type") from None
    raise ConfigError(f"{where}: the tag {shown(node.tag)} is not accepted")


def _to_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _to_float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Any] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": _to_bool,
    _TAG + "int": int,
    _TAG + "float": _to_float,
    _TAG + "str": str,
}
