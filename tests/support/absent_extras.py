"""Stands in for the packages that presets name and only an extra installs; the tests do without extras."""

import sys
from types import ModuleType

import pytest

from system.config import modules

PACKAGES = ("gymnasium_robotics",)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty modules of these names, for a test alone."""
    monkeypatch.setattr(modules, "_IMPORTED", set(modules._IMPORTED))
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
