"""Shapes in annotations where the package that gives them their meaning is not installed.

Annotations such as `Float[torch.Tensor, "B T"]` are for readers, and for the checks that tests switch on. A
trained policy can be taken to where only torch and NumPy are: there the array type alone stands in their place.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Any

KINDS = ("Bool", "Float", "Float32", "Float64", "Int", "Int16", "Int64", "Shaped", "UInt8")
"""Every kind of array that this package annotates."""


class _ArrayAlone:
    """`kind[array, "shape"]` is the array's type."""

    def __getitem__(self, array_and_shape: tuple[Any, str]) -> Any:
        return array_and_shape[0]


def stand_in_for_jaxtyping() -> None:
    """Lets `from jaxtyping import Float` work where jaxtyping is missing; changes nothing where it is there."""
    if "jaxtyping" in sys.modules or importlib.util.find_spec("jaxtyping") is not None:
        return
    module = ModuleType("jaxtyping", "Stands in for a package that is not installed: annotations without shapes.")
    for kind in KINDS:
        setattr(module, kind, _ArrayAlone())
    sys.modules["jaxtyping"] = module
