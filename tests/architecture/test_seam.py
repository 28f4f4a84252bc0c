"""Nothing outside `system/families/` names a family or imports one. Read from the source, nothing is imported."""

import ast
import re
from pathlib import Path

import pytest

from system.config.registry import FAMILIES
from tests.architecture.test_imports import ROOT, SOURCES, imported_modules, module_name

OUTSIDE = [path for path in SOURCES if not path.is_relative_to(ROOT / "system" / "families")]
FOLDERS = sorted(path.parent.name for path in (ROOT / "system" / "families").glob("*/family.py"))
FORMER = ("m3pc", "jowa")


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the nodes that are only there to be read: of modules, classes, functions and attributes."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def named_families(source: str, package: str) -> list[str]:
    """Strings of the code that hold a family's name as a word, and imports from a family's folder."""
    tree = ast.parse(source)
    words = re.compile(rf"\b({'|'.join([*FOLDERS, *FORMER])})\b")
    unread = docstrings(tree)
    quoted = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unread
    ]
    imported = imported_modules(source, package)
    inside = tuple(f"system.families.{name}" for name in FOLDERS)
    return [text for text in quoted if words.search(text)] + [name for name in imported if name.startswith(inside)]


def test_the_names_are_those_of_the_registered_families() -> None:
    import system.families  # noqa: F401

    registered = [each for each in FAMILIES.values() if each.section.__module__.startswith("system.families.")]
    assert sorted(each.name for each in registered) == FOLDERS
    assert {each.former_name for each in registered if each.former_name} <= set(FORMER)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_family_is_named(path: Path) -> None:
    package = f"system.{module_name(path)}".rpartition(".")[0]
    assert named_families(path.read_text(), package) == []


def test_the_rule_notices_violations() -> None:
    assert named_families('if config.family == "masked_trajectory": pass', "system.x") == ["masked_trajectory"]
    assert named_families('key = f"world_action.{name}"', "system.x") == ["world_action."]
    assert named_families('TABLE = {"jowa": 1}', "system.x") == ["jowa"]
    assert named_families("from system.families.world_action import policies", "system.x") == [
        "system.families.world_action.policies"
    ]
    assert named_families("from system.families import masked_trajectory as m", "system.x") == [
        "system.families.masked_trajectory"
    ]
    assert named_families('"""As masked_trajectory does."""\nx = 1\n"""Of jowa."""', "system.x") == []
    assert named_families("from system.families.registry import family_of", "system.x") == []
