"""The files of a report: Markdown, CSV, pictures and the page."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from system.documents.page import render_page
from system.documents.text import format_section
from system.reports.capability_report import describe_capabilities, draw_capabilities
from system.reports.comparison import describe, policy_table, report_frame
from system.reports.figures import LearningCurve, draw_learning_curves, draw_scores
from system.reports.finished_runs import FinishedRun, Group
from system.reports.game_report import describe_games

SCORES_CAPTION = "Scores by policy and stage"
CURVES_CAPTION = "Scheduled evaluations over online env steps, each before a roll-back"

CAPABILITIES_CAPTION = "Errors of predictions by setting, each seed and their mean"

FIGURES = "figures"
"""Where a run draws what its evaluations show."""

Exploration = Mapping[Path, Sequence[tuple[float, float]]]


def write_report(groups: Sequence[Group], folder: Path, exploration: Exploration, *, page: bool) -> list[Path]:
    """Writes report.md, report.csv, the pictures and, if asked for, report.html; older ones are replaced.

    Args:
        groups: what is reported.
        folder: made if it is not there.
        exploration: (env steps, return) of exploring episodes, by a run's summary.json; runs may lack it.
        page: whether to write the page, which has the runs' own figures too.

    Returns:
        The files, the reports before the pictures.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections = [describe(group) for group in groups] + describe_games(groups)
    pictures = [
        _draw(group, folder, name, exploration) for group, name in zip(groups, _file_names(groups), strict=True)
    ]
    pictures += [{} for _ in sections[len(groups) :]]
    for number, (section, rows) in enumerate(describe_capabilities(groups), start=1):
        pictures.append({CAPABILITIES_CAPTION: folder / f"capabilities_{number}.png"})
        sections.append(section)
        draw_capabilities(rows, pictures[-1][CAPABILITIES_CAPTION])
    texts = {
        "report.md": "\n\n".join(
            format_section(section, {caption: path.name for caption, path in drawn.items()})
            for section, drawn in zip(sections, pictures, strict=True)
        )
        + "\n",
        "report.csv": report_frame(groups).to_csv(index=False),
    }
    if page:
        shown = [drawn | _own_pictures(group) for group, drawn in zip(groups, pictures, strict=False)]
        shown += pictures[len(groups) :]
        texts["report.html"] = render_page(list(zip(sections, shown, strict=True)))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts] + [path for drawn in pictures for path in drawn.values()]


def learning_curve(group: Group, run: FinishedRun, exploration: Sequence[tuple[float, float]]) -> LearningCurve:
    """A run's curve in the unit of its group.

    Args:
        group: whose references count.
        run: one of the group.
        exploration: (env steps, return), in order.
    """
    columns = {
        name: np.array([entry[name] for entry in run.schedule], float)
        for name in ("env_steps", "mean", "low", "high")
    }
    scored = {
        name: np.array([group.score(value) for value in values], float) for name, values in columns.items()
    }
    return LearningCurve(
        seed=run.seed,
        env_steps=columns["env_steps"],
        mean=scored["mean"],
        low=scored["low"],
        high=scored["high"],
        exploration_steps=np.array([steps for steps, _ in exploration], float),
        exploration=np.array([group.score(value) for _, value in exploration], float),
    )


def _draw(group: Group, folder: Path, name: str, exploration: Exploration) -> dict[str, Path]:
    """The group's pictures by caption; curves only where a run has been online for a while."""
    unit = "normalised score" if group.unit == "score" else "return"
    pictures = {SCORES_CAPTION: folder / f"scores_{name}.png"}
    draw_scores(policy_table(group), unit, f"policies on {group.name}", pictures[SCORES_CAPTION])
    curves = [learning_curve(group, run, exploration.get(run.file, ()) if run.alone else ()) for run in group.runs]
    curves = [curve for curve in curves if len(curve.env_steps) > 1 or len(curve.exploration) > 1]
    if curves:
        pictures[CURVES_CAPTION] = folder / f"learning_curves_{name}.png"
        draw_learning_curves(curves, unit, f"scheduled evaluations on {group.name}", pictures[CURVES_CAPTION])
    return pictures


def _own_pictures(group: Group) -> dict[str, Path]:
    """What the runs drew of themselves, plans first, by a caption that tells the seed and what is seen."""
    pictures = {}
    for run in group.runs:
        drawn = [*(run.file.parent / FIGURES).glob("*.png"), *(run.file.parent / FIGURES).glob("*.gif")]
        for path in sorted(drawn, key=lambda path: (not path.stem.startswith("plans"), path.stem)):
            pictures[f"seed {run.seed}: {path.stem.replace('_', ' ')}"] = path
    return pictures


def _file_names(groups: Sequence[Group]) -> list[str]:
    """A name for each group's files: the dataset's, and a number where several groups share it."""
    names: list[str] = []
    for group in groups:
        plain = re.sub(r"[^A-Za-z0-9.-]+", "-", group.name).strip("-.") or "dataset"
        candidates = [plain, *(f"{plain}-{number}" for number in range(2, len(groups) + 1))]
        names.append(next(name for name in candidates if name not in names))
    return names
