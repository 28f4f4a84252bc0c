"""The mutants of a module: cosmic-ray's own and one more, those that say nothing left out."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmic_ray import plugins
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.work_item import MutationSpec
from parso.python.tree import Name

ARITHMETIC = {"Add", "Sub", "Mul", "Div"}
LEFT_OUT = {"RemoveDecorator", "VariableReplacer", "VariableInserter"}
"""Without their decorator most functions fail at once; the other two need variables to be named."""
MAX_COLUMNS = 200


class DeleteCall(Operator):
    """Leaves out a statement that is a call and nothing else, such as `os.fsync(stream.fileno())`."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """One for each such statement."""
        if node.type == "simple_stmt" and node.children[0].type in ("atom_expr", "power"):
            if node.children[0].children[-1].get_first_leaf().value == "(":
                yield node.start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """`pass` in its place."""
        node.children[0] = Name("pass", node.start_pos, prefix=node.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """For cosmic-ray's own tests."""
        return (Example("f(x)\n", "pass\n"),)


plugins.OPERATOR_PROVIDERS["own"] = {"DeleteCall": DeleteCall}


def draw_mutants(file: Path, number: int, seed: int) -> list[MutationSpec]:
    """As many places as asked for, each with one of the changes that can be made to it.

    Args:
        file: the module.
        number: of mutants; fewer where there are no more places.
        seed: of the draw.
    """
    source = file.read_text()
    unread = _declarations(source)
    places: dict[tuple[str, tuple[int, int]], list[MutationSpec]] = {}
    for item in _all_work_items([file], {}):
        (mutation,) = item.mutations
        kind, _, change = mutation.operator_name.partition("/")[2].partition("_")
        if kind not in LEFT_OUT and _says_something(kind, change) and mutation.start_pos not in unread:
            places.setdefault((kind, mutation.start_pos), []).append(mutation)
    generator = random.Random(f"{seed} {file.name}")
    chosen = generator.sample(sorted(places), min(number, len(places)))
    return [generator.choice(places[place]) for place in sorted(chosen, key=lambda place: place[1])]


def _says_something(kind: str, change: str) -> bool:
    """Not an operator that fails on floats whatever the tests are, nor a comparison by identity."""
    before, _, after = change.partition("_")
    if kind == "ReplaceBinaryOperator":
        return (before in ARITHMETIC) == (after in ARITHMETIC)
    if kind == "ReplaceComparisonOperator":
        return before.startswith("Is") == after.startswith("Is")
    return True


def _declarations(source: str) -> set[tuple[int, int]]:
    """Every position of a signature, a decorator or an annotation."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            last = node.lineno + 1 if isinstance(node, ast.ClassDef) else node.body[0].lineno
            spans.append(((first, 0), (last, 0)))
        elif isinstance(node, ast.AnnAssign):
            part = node.annotation
            spans.append(((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)))
    return {
        place
        for first, last in spans
        for line in range(first[0], last[0] + 1)
        for column in range(MAX_COLUMNS)
        if first <= (place := (line, column)) < last
    }
