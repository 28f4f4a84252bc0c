"""Atari in `o2o report`: normalised scores game by game, and over the games that a configuration plays."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from system.documents.text import ABSENT, ENOUGH_SEEDS, FEW_SEEDS, Section, TextTable, format_number
from system.envs.atari_games import find_game
from system.evaluation.compared_policies import STAGES, pair_planners
from system.evaluation.game_scores import (
    REFERENCE_NAMES,
    REFERENCES,
    Aggregate,
    Reference,
    aggregate_scores,
    game_score,
)
from system.evaluation.statistics import hierarchical_interval, match_episodes, mean
from system.reports.finished_runs import FinishedRun, Group

# What may differ between the games of one recipe: which data they were learnt from.
OF_THE_GAME = frozenset({"dataset.id", "dataset.file", "dataset.also", "dataset.path"})

NUMBERS = frozenset({"return", "above random", "human", "DQN", "difference", "low", "high", "games", "runs"})

Side = tuple[str, str]


@dataclass(frozen=True)
class Recipe:
    """Atari runs that differ in their games and seeds alone.

    Attributes:
        label: where it differs from the report's other recipes; empty if it is the only one.
        groups: one a game.
    """

    label: str
    groups: list[Group]

    @property
    def environments(self) -> list[str]:
        return [group.runs[0].environment for group in self.groups]

    def sides(self) -> list[Side]:
        """Every (stage, policy) that some run has."""
        policies = dict.fromkeys(policy for group in self.groups for policy in group.policies())
        found = {key for group in self.groups for run in group.runs for key in run.records}
        return [(stage, policy) for policy in policies for stage in STAGES if (stage, policy) in found]


def recipes_of(groups: Sequence[Group]) -> list[Recipe]:
    """The Atari groups among these by configuration; a game's second dataset begins a recipe of its own."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        run = group.runs[0]
        if find_game(run.environment) is None:
            continue
        settings = {key: value for key, value in run.settings.items() if key not in OF_THE_GAME}
        # One model of several games is not several models.
        key = json.dumps([settings, "" if run.alone else run.dataset_id], sort_keys=True)
        while any(other.runs[0].environment == run.environment for other in found.get(key, [])):
            key += "+"
        found.setdefault(key, []).append(group)
    members = list(found.values())
    return [Recipe(label, each) for label, each in zip(_labels(members), members, strict=True)]


def describe_games(groups: Sequence[Group]) -> list[Section]:
    """Sections on Atari games, together and one by one; none without Atari runs, no first one of a single game."""
    recipes = recipes_of(groups)
    if not recipes:
        return []
    sections = []
    if any(len(recipe.groups) > 1 for recipe in recipes):
        sections.append(_together([recipe for recipe in recipes if len(recipe.groups) > 1]))
    rows = [row for recipe in recipes for row in _game_rows(recipe)]
    sections.append(
        Section(
            title="Atari: game by game",
            introduction=f"{_scale(recipes)} Means over seeds; 95 % intervals resample seeds, then episodes.",
            scores=_table(["setting", "game", "policy", "stage", "return", "above random"], rows),
            differences=None,
            remarks=_remarks(recipes),
        )
    )
    return sections


def game_frames(groups: Sequence[Group]) -> list[pandas.DataFrame]:
    """The same for programs, a row a policy, stage and reference: tables `game` and `games together`."""
    recipes = recipes_of(groups)
    rows = [row for recipe in recipes for row in _game_rows(recipe)]
    overall = [row for recipe in recipes if len(recipe.groups) > 1 for row in _overall_rows(recipe)]
    frames = []
    for table, found in (("game", rows), ("games together", overall)):
        entries = [
            {
                "table": table,
                **{name: row[name] for name in ("setting", "policy", "stage")},
                **row["counts"][each],
                "return": row.get("return", float("nan")),
                "unit": each,
                **dict(zip(("value", "low", "high"), row[each], strict=True)),
            }
            for row in found
            for each in REFERENCES
            if row[each] is not None
        ]
        if entries:
            frames.append(pandas.DataFrame(entries))
    return frames


def _together(recipes: Sequence[Recipe]) -> Section:
    games = dict.fromkeys(name for recipe in recipes for name in recipe.environments)
    rows = [row for recipe in recipes for row in _overall_rows(recipe)]
    differences = [row for recipe in recipes for row in _difference_rows(recipe)]
    return Section(
        title=f"Atari: {len(games)} games together",
        introduction=(
            f"{_scale(recipes)} Interquartile means over every run in every game (of up to three, means); 95 % "
            "intervals resample the runs of each game, then their episodes. A run of several games is drawn with "
            "all of them."
        ),
        scores=_table(["setting", "policy", "stage"], rows, ["games", "runs"]),
        differences=_difference_table(differences) if differences else None,
        remarks=(["Differences are means over games and runs of human-normalised scores."] if differences else [])
        + _remarks(recipes),
    )


def _game_rows(recipe: Recipe) -> list[dict[str, Any]]:
    rows = []
    for group in recipe.groups:
        environment = group.runs[0].environment
        for stage, policy in recipe.sides():
            runs = [_returns(run, (stage, policy)) for run in group.runs if (stage, policy) in run.records]
            if not runs:
                continue
            value = float(np.mean([run.mean() for run in runs]))
            figures = (value, *hierarchical_interval(runs))
            game = find_game(environment)
            above = value - game.random if game is not None and game.random is not None else None
            row: dict[str, Any] = {
                "setting": recipe.label,
                "game": environment.removeprefix("ALE/").removesuffix("-v5"),
                "policy": policy,
                "stage": stage,
                "return": value,
                "above random": format_number(above, ".1f"),
                "counts": dict.fromkeys(REFERENCES, _counts(recipe, [environment], (stage, policy))),
            }
            for each in REFERENCES:
                row[each] = _scored(environment, each, figures)
            rows.append(row)
    return rows


def _overall_rows(recipe: Recipe) -> list[dict[str, Any]]:
    rows = []
    for stage, policy in recipe.sides():
        strata = _strata(recipe, partial(_returns, side=(stage, policy)))
        found = {each: aggregate_scores(strata, each) for each in REFERENCES}
        if found["human"] is None and found["dqn"] is None:
            continue
        row: dict[str, Any] = {
            "setting": recipe.label,
            "policy": policy,
            "stage": stage,
            "games": _game_counts(found),
            "runs": str(max(each.num_runs for each in found.values() if each is not None)),
            "counts": {
                each: _counts(recipe, aggregate.environments, (stage, policy))
                for each, aggregate in found.items()
                if aggregate is not None
            },
        }
        for each, aggregate in found.items():
            row[each] = _figures(aggregate)
        rows.append(row)
    return rows


def _difference_rows(recipe: Recipe) -> list[list[str]]:
    """Every planner − the stronger policy without one, and online − offline, over all games of a recipe."""
    pairs: list[tuple[Side, Side]] = []
    for stage in STAGES:
        means = {}
        for at, policy in recipe.sides():
            strata = _strata(recipe, partial(_returns, side=(at, policy)))
            found = aggregate_scores(strata, "human", statistic=mean)
            if at == stage and found is not None and len(found.environments) == len(recipe.groups):
                means[policy] = found.value
        pairs += [((stage, planner), (stage, rival)) for planner, rival in pair_planners(means)]
    sides = recipe.sides()
    for stage, policy in sides:
        if stage == "online" and policy != "random" and ("offline", policy) in sides:
            pairs.append((("online", policy), ("offline", policy)))
    rows = []
    for first, second in pairs:
        strata = _strata(recipe, partial(_differences, first=first, second=second))
        found = aggregate_scores(strata, "human", statistic=mean, difference=True)
        if found is not None:
            name = f"{first[1]} {first[0]} − {second[1]} {second[0]}"
            figures = [format_number(value, "+.1f") for value in (found.value, found.low, found.high)]
            rows.append([recipe.label, name, *figures, str(len(found.environments)), str(found.num_runs)])
    return rows


def _strata(
    recipe: Recipe, values_of: Callable[[FinishedRun], np.ndarray | None]
) -> list[list[dict[str, np.ndarray]]]:
    """What runs did in their games: models of one game make a stratum each, models of all games one together."""
    strata: dict[int, dict[Path, dict[str, np.ndarray]]] = {}
    for number, group in enumerate(recipe.groups):
        for run in group.runs:
            values = values_of(run)
            if values is not None and len(values):
                runs = strata.setdefault(number if run.alone else -1, {})
                runs.setdefault(run.file, {})[run.environment] = values
    return [list(runs.values()) for runs in strata.values()]


def _returns(run: FinishedRun, side: Side) -> Any:
    record = run.records.get(side)
    return None if record is None else np.array(list(record.returns.values()), dtype=np.float64)


def _differences(run: FinishedRun, first: Side, second: Side) -> np.ndarray | None:
    a, b = run.records.get(first), run.records.get(second)
    if a is None or b is None:
        return None
    matched = match_episodes(a.returns, b.returns)
    return np.asarray(matched[0] - matched[1])


def _counts(recipe: Recipe, environments: Sequence[str], side: Side) -> dict[str, Any]:
    """How much the figures of some games are of, for programs."""
    runs = [run for group in recipe.groups for run in group.runs if run.environment in environments]
    records = [(run, run.records[side]) for run in runs if side in run.records]
    return {
        "environment": " + ".join(environments),
        "seeds": len({run.seed for run, _ in records}),
        "episodes": sum(len(record.returns) for _, record in records),
        "planned_episodes": sum(run.config.evaluation.episodes for run, _ in records),
    }


def _scored(environment: str, reference: Reference, figures: Sequence[float]) -> tuple[float | None, ...] | None:
    scores = tuple(game_score(environment, reference, value) for value in figures)
    return None if None in scores else scores


def _figures(aggregate: Aggregate | None) -> tuple[float, ...] | None:
    return None if aggregate is None else (aggregate.value, aggregate.low, aggregate.high)


def _game_counts(found: dict[Reference, Aggregate | None]) -> str:
    human, dqn = (len(each.environments) if each is not None else 0 for each in found.values())
    return str(human) if human == dqn else f"{human}, DQN {dqn}"


def _table(first: list[str], rows: Sequence[dict[str, Any]], last: Sequence[str] = ()) -> TextTable:
    """Named columns, then the normalised scores with their intervals, then others; no empty column of settings."""
    if not any(row["setting"] for row in rows):
        first = [name for name in first if name != "setting"]
    columns = [*first]
    for each in REFERENCES:
        columns += [REFERENCE_NAMES[each], f"{REFERENCE_NAMES[each]}, 95 %"]
    cells = [
        [f"{row[name]:.1f}" if name == "return" else str(row[name]) for name in first]
        + [cell for each in REFERENCES for cell in _score_cells(row[each])]
        + [str(row[name]) for name in last]
        for row in rows
    ]
    return TextTable([*columns, *last], cells, NUMBERS & {*columns, *last})


def _difference_table(rows: Sequence[list[str]]) -> TextTable:
    columns = ["setting", "difference of", "difference", "low", "high", "games", "runs"]
    if not any(row[0] for row in rows):
        columns, rows = columns[1:], [row[1:] for row in rows]
    return TextTable(columns, list(rows), NUMBERS & set(columns))


def _score_cells(figures: Sequence[float] | None) -> list[str]:
    if figures is None:
        return [ABSENT, ABSENT]
    return [f"{figures[0]:.1f}", f"{figures[1]:.1f} to {figures[2]:.1f}"]


def _scale(recipes: Sequence[Recipe]) -> str:
    """What the numbers count, and where episodes were cut."""
    runs = [run for recipe in recipes for group in recipe.groups for run in group.runs]
    caps = {run.config.evaluation.max_episode_steps for run in runs}
    known = sorted(cap for cap in caps if cap is not None)
    cut = f" Episodes are cut after {' or '.join(map(str, known))} decisions." if known else ""
    return f"Random play scores 0, a human tester or DQN 100.{cut}"


def _remarks(recipes: Sequence[Recipe]) -> list[str]:
    """What the tables leave out, and how far the intervals can be trusted."""
    remarks = []
    most = max(len(group.runs) for recipe in recipes for group in recipe.groups)
    if 1 < most < ENOUGH_SEEDS:
        remarks.append(FEW_SEEDS)
    names = dict.fromkeys(name for recipe in recipes for name in recipe.environments)
    for each in REFERENCES:
        unknown = [name for name in names if game_score(name, each, 0.0) is None]
        if unknown:
            remarks.append(f"No {REFERENCE_NAMES[each]} score is known of {', '.join(unknown)}: left out there.")
    return remarks


def _labels(members: Sequence[Sequence[Group]]) -> list[str]:
    """What tells recipes apart: `key = value` of the settings that differ, else their datasets."""
    if len(members) < 2:
        return [""] * len(members)
    settings = [groups[0].runs[0].settings for groups in members]
    differing = [
        key
        for key in settings[0]
        if key not in OF_THE_GAME and any(each.get(key) != settings[0][key] for each in settings)
    ]
    labels = [", ".join(f"{key} = {each.get(key)}" for key in differing) for each in settings]
    datasets = [", ".join(dict.fromkeys(group.runs[0].dataset_id for group in groups)) for groups in members]
    return [
        label if labels.count(label) == 1 and label else ", ".join(filter(None, [label, dataset]))
        for label, dataset in zip(labels, datasets, strict=True)
    ]
