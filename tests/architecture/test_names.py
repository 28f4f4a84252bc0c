"""Every global name that a function uses is there. (Static checkers stumble over the shapes in annotations.)"""

import builtins
import dis
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "system").rglob("*.py"))
    if path.stem != "__main__"
]


def global_names(code: CodeType) -> Iterator[str]:
    """What the code, and the code within it, looks up outside."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def missing_names(source: str, known: set[str]) -> set[str]:
    return set(global_names(compile(source, "source", "exec"))) - known - set(vars(builtins))


@pytest.mark.parametrize("name", MODULES)
def test_global_names_are_there(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert missing_names(Path(module.__file__).read_text(), set(vars(module))) == set()


def test_a_missing_name_is_found() -> None:
    source = "import os\n\ndef first():\n    return lambda: [os.name, len(''), math.pi]\n"
    assert missing_names(source, {"os", "first"}) == {"math"}
