"""Modules that a configuration names: they register families, planners, sources or environments when imported.

Only what a user has written names modules: a configuration file, an option, a sweep. Those that stand in a
checkpoint are not imported for its sake.
"""

import importlib
import os
import sys
from collections.abc import Iterable

from system.errors import ConfigError
from system.wording import shown

_IMPORTED: set[str] = set()


def import_modules(names: Iterable[str], key: str = "modules") -> None:
    """Imports modules by name, each once; the current folder is looked in last.

    Args:
        names: dotted, as in `import`.
        key: named in errors.

    Raises:
        ConfigError: there is no such module, or it fails; names it and why.
    """
    for name in names:
        if name in _IMPORTED:
            continue
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"{key}: {shown(name)} is not the name of a module, such as my_package.my_family")
        _look_here_too()
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(f"{key}: {name} can't be imported ({type(error).__name__}: {error})") from error
        _IMPORTED.add(name)


def modules_needed(names: Iterable[str]) -> str:
    """The end of an error about something unknown, where a checkpoint names modules that might make it known."""
    missing = [name for name in names if name not in _IMPORTED]
    if not missing:
        return ""
    return f"; it was made with modules = [{', '.join(missing)}], to be named here too if you trust them"


def imported_modules(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the modules that were imported in this process because a configuration named them."""
    return tuple(name for name in names if name in _IMPORTED)


def _look_here_too() -> None:
    """A console script's path begins with its own folder, and not with the one it was called in."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
