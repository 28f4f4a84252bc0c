"""Goals that a person writes down, as YAML or as CSV; docs/goals.md has the form.

A file names dimensions of the observation, by their names or numbers, and nothing in it is executed.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from system.config.strict_yaml import parse_yaml
from system.decisions import UNTIMED
from system.errors import ConfigError
from system.planning.goals import Course
from system.types import TaskSpec
from system.wording import one_of, shown


def read_courses(file: Path, task: TaskSpec) -> list[Course]:
    """The courses that a file describes.

    Args:
        file: `.yaml` or `.csv`.
        task: whose observations they are about.

    Raises:
        ConfigError: it can't be read, or naming the file, the goal and the key that is wrong.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--goals: {file} cannot be read ({error})") from None
    try:
        if file.suffix == ".csv":
            return [_table(file.stem, text, task)]
        if file.suffix in (".yaml", ".yml"):
            return _document(file, text, task)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    raise ConfigError(f"--goals: {file} is neither .yaml nor .csv")


def dimension_named(name: str, task: TaskSpec) -> int:
    """The number of a dimension of the observation.

    Args:
        name: as in `TaskSpec.observation_names`, or its number.
        task: whose observations they are.

    Raises:
        ConfigError: there is none of that name.
    """
    names = task.observation_names
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    if name not in names:
        raise ConfigError(f"dimension {one_of(name, names)}, or 0 to {len(names) - 1}")
    return names.index(name)


def make_course(
    name: str,
    rows: Sequence[Mapping[int, float]],
    tolerances: Sequence[Mapping[int, float]],
    times: Sequence[int],
    num_dimensions: int,
    *,
    follows: bool = False,
) -> Course:
    """A course from what each of its rows says.

    Args:
        name: of the goal.
        rows: value by dimension.
        tolerances: likewise.
        times: as in `Course`.
        num_dimensions: S.
        follows: it is a reference.
    """
    shape = len(rows), num_dimensions
    values, named, allowed = np.zeros(shape, np.float32), np.zeros(shape, bool), np.ones(shape, np.float32)
    for row, (said, tolerance) in enumerate(zip(rows, tolerances, strict=True)):
        for dimension, value in said.items():
            values[row, dimension], named[row, dimension] = value, True
            allowed[row, dimension] = tolerance[dimension]
    kind = "reference" if follows else "waypoints"
    return Course(name, kind, values, named, allowed, np.asarray(times, dtype=np.int64))  # type: ignore[arg-type]


def _document(file: Path, text: str, task: TaskSpec) -> list[Course]:
    tree = parse_yaml(text, name=str(file))
    goals = tree.get("goals") if isinstance(tree, dict) else None
    if not isinstance(goals, list) or not goals or set(tree) != {"goals"}:
        raise ConfigError("goals: a list of goals is expected, and nothing beside it")
    return [_goal(position, goal, file, task) for position, goal in enumerate(goals)]


def _goal(position: int, goal: Any, file: Path, task: TaskSpec) -> Course:
    name = str(goal.get("name", f"goal-{position}")) if isinstance(goal, dict) else f"goal-{position}"
    where = f"goals[{position}]"
    if not isinstance(goal, dict) or ("waypoints" in goal) == ("reference" in goal):
        raise ConfigError(f"{where}: one of waypoints and reference is expected")
    _refuse_unknown(where, goal, ("name", "waypoints", "reference"))
    if "reference" in goal:
        path = file.parent / str(goal["reference"])
        course = read_courses(path, task)[0] if path.suffix == ".csv" else None
        if course is None:
            raise ConfigError(f"{where}.reference: {path.name} is not a .csv")
        return Course(name, course.kind, course.values, course.named, course.tolerances, course.times)
    if not isinstance(goal["waypoints"], list):
        raise ConfigError(f"{where}.waypoints: a list is expected")
    rows, tolerances, times = [], [], []
    for index, waypoint in enumerate(goal["waypoints"]):
        at = f"{where}.waypoints[{index}]"
        if not isinstance(waypoint, dict) or not isinstance(waypoint.get("at"), dict):
            raise ConfigError(f"{at}.at: values by dimension are expected")
        _refuse_unknown(at, waypoint, ("at", "tolerance", "by"))
        said = {
            _dimension(f"{at}.at", key, task): _number(f"{at}.at.{key}", value)
            for key, value in waypoint["at"].items()
        }
        rows.append(said)
        tolerances.append(_tolerances(f"{at}.tolerance", waypoint.get("tolerance"), said, task))
        times.append(_time(f"{at}.by", waypoint.get("by")))
    return make_course(name, rows, tolerances, times, task.observation_dim)


def _table(name: str, text: str, task: TaskSpec) -> Course:
    """Of CSV: a first column `step` of a reference or `by` of waypoints, then dimensions; the second line has the
    tolerances; empty cells name nothing."""
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if len(lines) < 3 or lines[0][0] not in ("step", "by") or lines[1][0] != "tolerance":
        raise ConfigError("a line of names that begins with step or by, one that begins with tolerance, and rows")
    dimensions = [_dimension("line 1", column.strip(), task) for column in lines[0][1:]]
    allowed = {
        dimension: _number(f"line 2, {column}", cell)
        for dimension, column, cell in zip(dimensions, lines[0][1:], lines[1][1:], strict=False)
    }
    follows, rows, times = lines[0][0] == "step", [], []
    for number, line in enumerate(lines[2:], start=3):
        if len(line) != len(lines[0]):
            raise ConfigError(f"line {number}: {len(line)} cells, and {len(lines[0])} are named")
        times.append(_time(f"line {number}, {lines[0][0]}", line[0].strip() or None, least=0 if follows else 1))
        rows.append(
            {
                dimension: _number(f"line {number}, {column}", cell)
                for dimension, column, cell in zip(dimensions, lines[0][1:], line[1:], strict=True)
                if cell.strip()
            }
        )
        if follows and times[-1] != len(times) - 1:
            raise ConfigError(f"line {number}, step: {line[0]}, and {len(times) - 1} is next")
    if any(dimension not in allowed for dimension in dimensions):
        raise ConfigError("line 2: every dimension needs a tolerance")
    return make_course(name, rows, [allowed] * len(rows), times, task.observation_dim, follows=follows)


def _refuse_unknown(where: str, tree: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in tree:
        if key not in known:
            raise ConfigError(f"{where}: {one_of(str(key), known)}")


def _dimension(where: str, name: Any, task: TaskSpec) -> int:
    try:
        return dimension_named(str(name), task)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _tolerances(where: str, given: Any, said: Mapping[int, float], task: TaskSpec) -> dict[int, float]:
    """One for all dimensions, or one for each of those that are named."""
    if isinstance(given, dict):
        known = {_dimension(where, key, task): _number(f"{where}.{key}", value) for key, value in given.items()}
    else:
        known = dict.fromkeys(said, _number(where, given))
    missing = [task.observation_names[dimension] for dimension in said if dimension not in known]
    if missing:
        raise ConfigError(f"{where}: {missing[0]} has none")
    return known


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigError(f"{where}: {shown(value)} is not a number")
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"{where}: {shown(value)} is not a number") from None
    if not np.isfinite(number):
        raise ConfigError(f"{where}: {shown(value)} is not finite")
    return number


def _time(where: str, value: Any, *, least: int = 1) -> int:
    """Steps since the episode's beginning; without one there is no hurry."""
    if value is None:
        return UNTIMED
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < UNTIMED:
        raise ConfigError(f"{where}: {shown(value)} is not a step from {least} on")
    return cast(int, value)
