"""House rules that keep the code readable. Read from the source, nothing is imported."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "system").rglob("*.py"))
VAGUE_NAMES = {"util", "utils", "common", "helper", "helpers", "misc", "tools"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES_P95 = 50
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XXX|HACK)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef, bool]]:
    """Public functions, classes and their methods: (name, node, belongs to a protocol)."""
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
        is_protocol = any("Protocol" in base for base in bases)
        yield node.name, node, is_protocol
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, Function) and not child.name.startswith("_"):
                    yield f"{node.name}.{child.name}", child, is_protocol


def without_docstring(source: str) -> list[str]:
    """Public names that lack one. Excepted: bodies of `...` in protocols and one-expression properties."""
    missing = []
    for name, node, in_protocol in public_definitions(ast.parse(source)):
        if ast.get_docstring(node) or (in_protocol and ast.unparse(node.body[-1]) == "..."):
            continue
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        if "property" in decorators and len(node.body) == 1:
            continue
        if any(decorator.startswith(("dataclass", "dataclasses.dataclass")) for decorator in decorators) and (
            node.name.endswith("Config")
        ):
            continue
        missing.append(name)
    return missing


def functions(tree: ast.Module) -> list[Function]:
    """Every function and method, nested ones included."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def without_annotations(source: str) -> list[str]:
    """Functions that do not say what they return (constructors may leave it out) or what they take."""
    missing = []
    for node in functions(ast.parse(source)):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        untyped = [each.arg for each in arguments if each.annotation is None and each.arg not in ("self", "cls")]
        if untyped or (node.returns is None and node.name != "__init__"):
            missing.append(node.name)
    return missing


@each_source
def test_public_names_have_docstrings(path: Path) -> None:
    assert without_docstring(path.read_text()) == []


@each_source
def test_functions_are_annotated(path: Path) -> None:
    assert without_annotations(path.read_text()) == []


@each_source
def test_files_are_short_finished_and_well_named(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert UNFINISHED.search(source) is None
    assert path.stem not in VAGUE_NAMES
    if source.strip():
        assert ast.get_docstring(ast.parse(source)), "the module does not say what it is for"


def test_functions_are_short() -> None:
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in SOURCES
        for node in functions(ast.parse(path.read_text()))
    )
    assert lengths[int(0.95 * (len(lengths) - 1))] <= MAX_FUNCTION_LINES_P95


def test_the_rules_notice_violations() -> None:
    assert without_docstring("def f(): pass\nclass C:\n    def m(self): pass") == ["f", "C", "C.m"]
    assert without_docstring("class P(Protocol):\n    'doc'\n    def m(self) -> int: ...") == []
    assert without_docstring("class C:\n    'doc'\n    def m(self): ...") == ["C.m"]
    assert without_docstring("def _private(): pass") == []
    source = "def f(x: int): pass\ndef g(x) -> None: pass\ndef h(x: int) -> int: ..."
    assert without_annotations(source) == ["f", "g"]
    assert UNFINISHED.search("# TODO: later")
