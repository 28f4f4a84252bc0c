"""What a report is made of: sections of tables and sentences, and the same as Markdown."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ABSENT = "–"
ENOUGH_SEEDS = 10
FEW_SEEDS = "Intervals over so few training seeds are too narrow: they cover about 75 % with 3, 83 % with 5."


@dataclass(frozen=True)
class TextTable:
    """A table as it is shown.

    Attributes:
        columns: their names.
        rows: cells, as many as there are columns.
        numbers: columns that are set flush right.
    """

    columns: list[str]
    rows: list[list[str]]
    numbers: frozenset[str]


@dataclass(frozen=True)
class Section:
    """What a report says of one group, or of several together.

    Attributes:
        title: dataset and setting.
        introduction: what the tables are of, in one paragraph.
        scores: every policy and stage.
        differences: paired; None where nothing can be compared.
        remarks: short sentences under the tables.
    """

    title: str
    introduction: str
    scores: TextTable
    differences: TextTable | None
    remarks: list[str]


def format_section(section: Section, pictures: Mapping[str, str] | None = None) -> str:
    """One section in Markdown.

    Args:
        section: what it says.
        pictures: file name of each picture, by its caption.
    """
    parts = [f"### {_escaped(section.title)}", section.introduction, _markdown(section.scores)]
    if section.differences is not None:
        parts.append(_markdown(section.differences))
    if section.remarks:
        parts.append(" ".join(section.remarks))
    parts += [f"![{caption}]({name})" for caption, name in (pictures or {}).items()]
    return "\n\n".join(parts)


def format_number(value: float | None, form: str) -> str:
    """A figure as text; a dash where there is none, or it is NaN."""
    return ABSENT if value is None or np.isnan(value) else format(value, form)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, outside of tables and in them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _markdown(table: TextTable) -> str:
    """A pipe table."""
    rules = ["---:" if name in table.numbers else "---" for name in table.columns]
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "|".join(rules) + "|"]
    lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in table.rows]
    return "\n".join(lines)
