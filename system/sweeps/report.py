"""What a sweep reports: a table for the terminal, the same as Markdown and as a page, and the pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.documents.page import render_page
from system.documents.text import Section, TextTable, format_number, format_section
from system.sweeps.figures import draw_interactions, draw_parameters, draw_pareto_front
from system.sweeps.ranking import Difference, Objective, Ranked, differences_to_best, pareto_front

MOST_ROWS_ON_TERMINAL = 15
OBJECTIVES: Mapping[Objective, str] = {"return_mean": "mean return", "return_iqm": "interquartile mean of returns"}


@dataclass(frozen=True)
class SweepResults:
    """What a sweep came to.

    Attributes:
        title: its name.
        about: a sentence on what was tried.
        objective: by which configurations are ranked.
        keys: that were searched.
        search, final: rankings of the two rounds; the second is empty if there was none.
        failures: one line for each trial that was given up.
    """

    title: str
    about: str
    objective: Objective
    keys: list[str]
    search: list[Ranked]
    final: list[Ranked]
    failures: list[str]

    @property
    def ranking(self) -> list[Ranked]:
        """The round that decides."""
        return self.final or self.search

    @property
    def best(self) -> Ranked:
        """First of the round that decides."""
        return self.ranking[0]

    @property
    def differences(self) -> list[Difference]:
        """The best against the others, where more than a few episodes of one round say something of it."""
        several_seeds = len(self.best.outcomes) > 1
        return differences_to_best(self.ranking) if self.final or several_seeds else []

    def fastest_equal(self) -> Ranked | None:
        """The fastest one that is not clearly worse than the best; None if that is the best itself, or unknown."""
        equal = {each.number for each in self.differences if not each.is_clear} | {self.best.number}
        timed = [each for each in self.ranking if each.number in equal and each.decision_ms is not None]
        fastest = min(timed, key=lambda each: each.decision_ms or 0.0, default=self.best)
        return None if fastest.number == self.best.number else fastest


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """key → as few of its last words as tell it from the others."""
    names = {}
    for key in keys:
        words = key.split(".")
        others = [f".{other}" for other in keys if other != key]
        endings = (".".join(words[-count:]) for count in range(1, len(words) + 1))
        alone = (end for end in endings if not any(other.endswith(f".{end}") for other in others))
        names[key] = next(alone, key)
    return names


def describe_sweep(results: SweepResults) -> Section:
    """The tables and the sentences around them."""
    several = len(results.best.outcomes) > 1
    intervals = "seeds, then episodes" if several else "episodes"
    remarks = []
    fastest = results.fastest_equal()
    if fastest is not None:
        remarks.append(
            f"Configuration {fastest.number} is not clearly worse than the best and decides in "
            f"{fastest.decision_ms:.1f} ms."
        )
    if results.final:
        remarks.append(
            "The best was chosen by the very episodes of its final score, which is slightly optimistic."
        )
    elif not results.differences:
        remarks.append("With one seed and one round, neighbours in this table may have changed places by chance.")
    if any(each.stopped for each in results.search):
        remarks.append("Stopped ones stand behind all others, with the mean of their last evaluation.")
    remarks += [f"Given up: {line}." for line in results.failures]
    return Section(
        title=results.title,
        introduction=(
            f"{results.about} Score: {OBJECTIVES[results.objective]}; 95 % intervals resample {intervals}."
        ),
        scores=ranking_table(results),
        differences=_difference_table(results.differences, results.best.number) if results.differences else None,
        remarks=remarks,
    )


def ranking_table(results: SweepResults) -> TextTable:
    """Every configuration, those of the round that decides first."""
    names = short_names(results.keys)
    decided = {each.number for each in results.final}
    searched = {each.number: each.score for each in results.search}
    front = {each.number for each in pareto_front(results.search)}
    columns = ["configuration", *names.values(), "search", "final", "low", "high", "episodes", "ms", "marks"]
    rows = []
    for each in [*results.final, *(each for each in results.search if each.number not in decided)]:
        is_final = each.number in decided
        marks = {
            "best": each.number == results.best.number,
            "front": each.number in front,
            "stopped": each.stopped,
        }
        rows.append(
            [
                str(each.number),
                *(_cell(each.point.get(key)) for key in results.keys),
                format_number(searched.get(each.number), ".1f"),
                format_number(each.score if is_final else None, ".1f"),
                f"{each.low:.1f}",
                f"{each.high:.1f}",
                str(sum(len(outcome.returns) for outcome in each.outcomes)),
                format_number(each.decision_ms, ".1f"),
                " ".join(mark for mark, holds in marks.items() if holds),
            ]
        )
    if not results.final:
        place = columns.index("final")
        columns.pop(place)
        for row in rows:
            row.pop(place)
    return TextTable(columns, rows, frozenset({*columns} - {"marks"}))


def format_terminal(results: SweepResults) -> str:
    """The first rows for a person who waits, in columns."""
    table = ranking_table(results)
    rows = table.rows[:MOST_ROWS_ON_TERMINAL]
    widths = [max(len(row[index]) for row in [table.columns, *rows]) for index in range(len(table.columns))]
    lines = [
        "  ".join(
            cell.rjust(width) if name in table.numbers else cell.ljust(width)
            for cell, width, name in zip(row, widths, table.columns, strict=True)
        ).rstrip()
        for row in [table.columns, *rows]
    ]
    if len(table.rows) > len(rows):
        lines.append(f"… and {len(table.rows) - len(rows)} more")
    return "\n".join([*lines, *describe_sweep(results).remarks])


def write_sweep_report(results: SweepResults, folder: Path) -> list[Path]:
    """Writes report.md, report.html and the pictures; older ones are replaced.

    Args:
        results: with at least one configuration.
        folder: made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    section = describe_sweep(results)
    names = short_names(results.keys)
    pictures = {"Score over each parameter": folder / "parameters.png"}
    draw_parameters(results.search, results.final, names, pictures["Score over each parameter"])
    if any(each.decision_ms is not None for each in results.search):
        caption = "Score against decision time; the line joins those that no other beats in both"
        pictures[caption] = folder / "pareto_front.png"
        draw_pareto_front(results.search, results.final, pictures[caption])
    if len(names) > 1:
        caption = "Score over pairs of parameters"
        pictures[caption] = folder / "interactions.png"
        draw_interactions(results.search, names, pictures[caption])
    texts = {
        "report.md": format_section(section, {caption: path.name for caption, path in pictures.items()}) + "\n",
        "report.html": render_page([(section, pictures)]),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts] + list(pictures.values())


def _difference_table(differences: Sequence[Difference], best: int) -> TextTable:
    rows = [
        [
            f"{best} − {each.number}",
            *(f"{value:+.1f}" for value in (each.value, each.low, each.high)),
            str(each.pairs),
            "clear" if each.is_clear else "not clear",
        ]
        for each in differences
    ]
    columns = ["mean return of", "difference", "low", "high", "pairs", "verdict"]
    return TextTable(columns, rows, frozenset(columns[1:5]))


def _cell(value: Any) -> str:
    if value is None:
        return format_number(None, "g")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
