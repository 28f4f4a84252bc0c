"""Capabilities in `o2o report`: what models predict by name, setting by setting, as a table and a picture."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from system.documents.canvas import new_figure, save_figure
from system.documents.text import Section, TextTable
from system.reports.figures import STAGE_COLORS
from system.reports.finished_runs import Group

ONLY_SETTING, ANY_SETTING = "all runs", "any"
MEASURES = ("first", "last")
SECTIONS = re.compile(r"^[\w.]+\.(?=\w+ = )")
LABEL_WIDTH = 60


def capability_table(groups: Sequence[Group]) -> pandas.DataFrame:
    """Errors of every prediction in variances of the data: means over training seeds.

    Columns are dataset, environment, stage, capability, predicted, setting (in few words), group (its whole
    setting), seeds and episodes (how many), steps (how far the last step is), and of the first and the last step
    `first`, `last` and `first_each_seed`, `last_each_seed`. Settings of one prediction stand together. Empty where
    no run has measured any.
    """
    rows, labels = [], _labels([group.setting for group in groups])
    for group in groups:
        for key in dict.fromkeys(key for run in group.runs for key in run.capabilities):
            records = [run.capabilities[key] for run in group.runs if key in run.capabilities]
            of_first, of_last = [each.errors[0] for each in records], [each.errors[-1] for each in records]
            rows.append(
                {
                    "dataset": group.runs[0].dataset_id,
                    "environment": group.runs[0].environment,
                    **dict(zip(("stage", "capability", "predicted"), key, strict=True)),
                    "setting": labels[group.setting],
                    "group": group.setting,
                    "seeds": len(records),
                    "episodes": sum(each.episodes for each in records),
                    "steps": max(len(each.errors) for each in records),
                    "first": float(np.mean(of_first)),
                    "last": float(np.mean(of_last)),
                    "first_each_seed": of_first,
                    "last_each_seed": of_last,
                }
            )
    if not rows:
        return pandas.DataFrame()
    table = pandas.DataFrame(rows)
    first_seen = {key: index for index, key in enumerate(dict.fromkeys(_predictions(table)))}
    order = sorted(range(len(table)), key=lambda index: first_seen[_predictions(table)[index]])
    return table.iloc[order].reset_index(drop=True)


def describe_capabilities(groups: Sequence[Group]) -> list[tuple[Section, pandas.DataFrame]]:
    """A section for each dataset of which models were asked by name, and the rows that it shows."""
    table = capability_table(groups)
    if not len(table):
        return []
    return [
        (_section(str(dataset), rows), rows)
        for (dataset, _), rows in table.groupby(["dataset", "environment"], sort=False)
    ]


def draw_capabilities(table: pandas.DataFrame, path: Path) -> None:
    """A panel a prediction, a line a setting: each seed's error at the last step, and their mean.

    Args:
        table: of one dataset; what no setting changes is left out, unless nothing else is there.
        path: of the PNG.
    """
    settings = list(dict.fromkeys(table["setting"]))
    differing = [rows for rows in _by_prediction(table) if not _is_the_same(rows)]
    table = pandas.concat(differing) if differing else table
    predictions = dict.fromkeys(_predictions(table))
    labels = [textwrap.fill(each, LABEL_WIDTH) for each in settings]
    num_lines = sum(1 + label.count("\n") for label in labels)
    figure = new_figure(width=4.0 + 2.0 * len(predictions), height=1.6 + 0.3 * len(settings) + 0.1 * num_lines)
    figure.suptitle(f"errors of predictions on {table['dataset'].iloc[0]}", fontsize=10)
    panels = np.atleast_1d(figure.subplots(1, len(predictions), sharey=True))
    keys = _predictions(table)
    for panel, prediction in zip(panels, predictions, strict=True):
        rows = table[[key == prediction for key in keys]]
        for row in rows.to_dict("records"):
            place = settings.index(row["setting"])
            panel.scatter(row["last"], place, marker="D", s=36, color=STAGE_COLORS[row["stage"]])
            each_seed = row["last_each_seed"]
            panel.scatter(each_seed, np.full(len(each_seed), place), s=14, color="black", alpha=0.6, zorder=3)
        stage, capability, predicted = prediction
        panel.set_title(f"{capability}, {stage}:\n{predicted}", fontsize=9)
        steps = int(rows["steps"].max())
        panel.set_xlabel(f"error at step {steps}\n[variances of the data]", fontsize=8)
        panel.set_xlim(left=0.0)
        panel.grid(alpha=0.3)
    panels[0].set_yticks(range(len(settings)), labels, fontsize=7)
    panels[0].set_ylim(len(settings) - 0.5, -0.5)
    save_figure(figure, path)


def capability_frames(groups: Sequence[Group]) -> list[pandas.DataFrame]:
    """The same for programs, a row a prediction and step: table `capabilities`."""
    table = capability_table(groups)
    frames = []
    for measure in MEASURES if len(table) else ():
        frame = table.drop(columns=["first", "last", "first_each_seed", "last_each_seed"])
        frame = frame.assign(
            table="capabilities",
            unit="variances of the data",
            setting=frame["group"],
            steps=frame["steps"] if measure == "last" else 1,
            value=table[measure],
            low=[min(each) for each in table[f"{measure}_each_seed"]],
            high=[max(each) for each in table[f"{measure}_each_seed"]],
            each_seed=table[f"{measure}_each_seed"],
            planned_episodes=table["episodes"],
        )
        frames.append(frame.drop(columns="group"))
    return frames


def _section(dataset: str, table: pandas.DataFrame) -> Section:
    cells = [
        [
            row["capability"],
            row["predicted"],
            row["stage"],
            ANY_SETTING if _is_the_same(rows) else row["setting"],
            *(_figures(row[measure], row[f"{measure}_each_seed"]) for measure in MEASURES),
            str(row["seeds"]),
        ]
        for rows in _by_prediction(table)
        for row in rows.to_dict("records")[: 1 if _is_the_same(rows) else None]
    ]
    return Section(
        title=f"Capabilities on {dataset}",
        introduction=(
            "Squared errors on held-out episodes in variances of the data, one step ahead and at the last step: "
            "means over training seeds, then the lowest and the highest seed."
        ),
        scores=TextTable(
            ["capability", "predicted", "stage", "setting", "1 step", "last step", "seeds"],
            cells,
            frozenset({"1 step", "last step", "seeds"}),
        ),
        differences=None,
        remarks=[],
    )


def _figures(mean: float, each_seed: Sequence[float]) -> str:
    return f"{mean:.4f} ({min(each_seed):.4f} to {max(each_seed):.4f})"


def _by_prediction(table: pandas.DataFrame) -> list[pandas.DataFrame]:
    return [rows for _, rows in table.groupby(["stage", "capability", "predicted"], sort=False)]


def _is_the_same(rows: pandas.DataFrame) -> bool:
    """Whether one prediction has the same errors in several settings: a guess that knows of no model."""
    columns = (rows[f"{measure}_each_seed"] for measure in MEASURES)
    figures = {(*first, *last) for first, last in zip(*columns, strict=True)}
    return len(rows) > 1 and len(figures) == 1


def _predictions(table: pandas.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(table["stage"], table["capability"], table["predicted"], strict=True))


def _labels(settings: Sequence[str]) -> dict[str, str]:
    """Each setting without the sections that its keys are in, unless two would be the same without."""
    short = {
        setting: ", ".join(SECTIONS.sub("", part) for part in setting.split(", ")) or ONLY_SETTING
        for setting in settings
    }
    return short if len({*short.values()}) == len(short) else {each: each or ONLY_SETTING for each in settings}
