"""Importing this makes an interpreter one where only torch, NumPy and what they need themselves are installed."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from types import ModuleType

# Of torch and NumPy: their own top-level packages, and those that torch's metadata asks for.
INSTALLED = {
    *("torch", "numpy", "functorch", "torchgen"),
    *("filelock", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec"),
    *("setuptools", "nvidia", "triton", "cuda"),
}
OURS = {"system", "only_torch_and_numpy"}


class OnlyInstalled:
    """Finds the standard library and those packages; any other is as if it were not there."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None where there is none."""
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in INSTALLED | OURS or root.startswith("_"):
            return PathFinder.find_spec(name, path, target)
        return None


def is_missing(name: str) -> bool:
    """Whether no such package can be found."""
    return importlib.util.find_spec(name) is None


sys.meta_path[:] = [BuiltinImporter, FrozenImporter, OnlyInstalled]
