"""Reads episodes from tables: CSV or parquet, a file an episode in a folder, or one file with a column `episode`.

A row is one step. Its columns are

- `observation`, `observation_0`, `observation_1`, … or `observation.NAME`; likewise `action…`. Numbered ones are
  put in the order of their numbers, named ones stay in the order of the file. A single column `action` of integers
  numbers discrete actions.
- `reward`.
- `terminated` and `truncated`, true or 1 at the last row of an episode that ended so; without both, an episode was
  cut.
- `episode`, where several are in a file: every episode's rows stand together.

The last row of an episode may have neither action nor reward: it is what was seen last. Without such a row
`episode_of_rows` says what becomes of the episode. Other columns are not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from system.data.raw_episode import Origin, RawEpisode, episode_of_rows, unreadable
from system.data.sources.hdf5_reader import LARGEST_TOTAL_BYTES
from system.data.sources.minari_layout import BoxBounds, DiscreteSpace
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.errors import DataError
from system.types import TaskSpec

SUFFIXES = (".csv", ".parquet")
FLAGS = ("terminated", "truncated")
MOST_NAMED = 6  # columns that are not read, in the note about them
_NUMBERS = re.compile(r"(\d+)")
_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0", "", "nan", "none", "<na>")


@dataclass(frozen=True)
class _Columns:
    """Names of the columns that are read, in the order of their dimensions."""

    observation: tuple[str, ...]
    action: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def is_numbered_action(self) -> bool:
        """The action is one column called `action`, which numbers discrete ones if it holds integers."""
        return self.action == ("action",)


def recognises(path: Path) -> bool:
    """A CSV or parquet file, or a folder with some."""
    return bool(tables(path))


def tables(path: Path) -> list[Path]:
    """The files, in the order of the numbers in their names."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    found = [each for each in path.iterdir() if each.is_file() and each.suffix in SUFFIXES]
    return sorted(found, key=_natural)


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """Dimensions and their names; of discrete actions the files are read to find the largest."""
    first = tables(path)[0]
    columns = _columns(first, _frame(first), options)
    discrete = columns.is_numbered_action and _is_discrete(path)
    others = ", ".join(columns.others[:MOST_NAMED]) + (", …" if len(columns.others) > MOST_NAMED else "")
    return SourceFacts(
        observation_space=BoxBounds(len(columns.observation), None, None),
        action_space=_discrete_space(path) if discrete else BoxBounds(len(columns.action), None, None),
        observation_names=columns.observation,
        notes=(f"columns that are not read: {others}",) if others else (),
    )


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """The episodes, file by file and in the order of the rows."""
    files = tables(path)
    columns = _columns(files[0], _frame(files[0]), options)
    number = 0
    for file in files:
        frame = _frame(file)
        _check_columns(file, frame, columns)
        for start, stop in _bounds(file, frame):
            yield _episode(file, frame.iloc[start:stop], start, number, columns, task, alone=file == path)
            number += 1


def _episode(
    file: Path, frame: Any, start: int, number: int, columns: _Columns, task: TaskSpec, *, alone: bool
) -> RawEpisode:
    counted, offset = ("line", 2) if file.suffix == ".csv" else ("row", 0)
    origin = Origin("" if alone else file.name, counted, start + offset, columns.observation, columns.action)
    observations = _numbers(file, frame, columns.observation, start)
    actions = _numbers(file, frame, columns.action, start)
    rewards = _numbers(file, frame, ("reward",), start)[:, 0]
    flags = [_flags(file, frame, name, start) for name in FLAGS]
    last_observation = None
    if np.isnan(actions[-1]).all() and np.isnan(rewards[-1]):
        last_observation, observations = observations[-1], observations[:-1]
        flags = [_moved_forward(each) for each in flags]
        actions, rewards = actions[:-1], rewards[:-1]
    if task.is_discrete and columns.is_numbered_action:
        broken = actions[:, 0] != np.round(actions[:, 0])
        if broken.any():
            step = int(np.argmax(broken))
            return unreadable(number, f"step {step}: action is {actions[step, 0]:g}, not a whole number", origin)
        actions = actions[:, 0].astype(np.int64)
    episode = None
    if len(rewards):
        episode = episode_of_rows(
            number,
            observations,
            actions,
            rewards,
            terminated=bool(flags[0][-1]),
            truncated=bool(flags[1][-1]),
            last_observation=last_observation,
            origin=origin,
        )
    if episode is None:
        return unreadable(number, "has no transition", origin)
    earlier = len(episode.rewards) - 1
    return replace(
        episode,
        terminations=np.append(flags[0][:earlier], episode.terminations[-1]),
        truncations=np.append(flags[1][:earlier], episode.truncations[-1]),
    )


def _moved_forward(flags: np.ndarray) -> np.ndarray:
    """Flags without the row of the last observation, whose own ones count for the step before it."""
    moved = flags[:-1].copy()
    moved[-1:] |= flags[-1]
    return moved


def _bounds(file: Path, frame: Any) -> list[tuple[int, int]]:
    """First and last-but-one row of each episode of a file."""
    if not len(frame):
        raise DataError(f"dataset {file}: has no rows")
    if "episode" not in frame.columns:
        return [(0, len(frame))]
    labels = frame["episode"].astype(str).to_numpy()
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    borders = [0, *changes.tolist(), len(labels)]
    seen: set[str] = set()
    for start in borders[:-1]:
        if labels[start] in seen:
            label = ascii(labels[start])[:40]
            raise DataError(f"dataset {file}: {_row(file, start)}: episode {label} goes on after another one")
        seen.add(labels[start])
    return list(pairwise(borders))


def _columns(file: Path, frame: Any, options: ReadOptions) -> _Columns:
    names = [str(name) for name in frame.columns]
    observation, action = (_of_kind(file, names, kind) for kind in ("observation", "action"))
    for key in options.observation_keys:
        if key not in observation:
            raise DataError(f"dataset.observation_keys: {key} is not one of {', '.join(observation)} in {file}")
    chosen = options.observation_keys or observation
    if "reward" not in names:
        raise DataError(f"dataset {file}: has no column reward")
    read = {*chosen, *action, "reward", "episode", *FLAGS}
    return _Columns(tuple(chosen), action, tuple(name for name in names if name not in read))


def _of_kind(file: Path, names: list[str], kind: str) -> tuple[str, ...]:
    """Columns of observations or actions, in the order of their numbers or else of the file."""
    found = [name for name in names if name == kind or name.startswith((f"{kind}_", f"{kind}."))]
    if not found:
        raise DataError(f"dataset {file}: has no column {kind}_0 or {kind}.NAME")
    numbers = [name[len(kind) + 1 :] for name in found]
    if not all(number.isdecimal() for number in numbers):
        return tuple(found)
    ordered = sorted(found, key=lambda name: int(name[len(kind) + 1 :]))
    for index, name in enumerate(ordered):
        if int(name[len(kind) + 1 :]) != index:
            raise DataError(f"dataset {file}: has no column {kind}_{index}, but {name}")
    return tuple(ordered)


def _check_columns(file: Path, frame: Any, columns: _Columns) -> None:
    for name in (*columns.observation, *columns.action, "reward"):
        if name not in frame.columns:
            raise DataError(f"dataset {file}: has no column {name}, which the first file has")


def _numbers(file: Path, frame: Any, names: tuple[str, ...], start: int) -> np.ndarray:
    """Columns as float64, empty cells as NaN; what is no number is refused by column and row."""
    import pandas

    columns = []
    for name in names:
        values = pandas.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        odd = np.isnan(values) & ~frame[name].isna().to_numpy()
        odd &= frame[name].astype(str).str.lower().ne("nan").to_numpy()
        if odd.any():
            row = int(np.argmax(odd))
            shown = ascii(str(frame[name].iloc[row]))[:40]
            raise DataError(f"dataset {file}: {_row(file, start + row)}: column {name} is {shown}, not a number")
        columns.append(values)
    return np.stack(columns, axis=1)


def _flags(file: Path, frame: Any, name: str, start: int) -> np.ndarray:
    if name not in frame.columns:
        return np.zeros(len(frame), dtype=bool)
    words = frame[name].astype(str).str.lower().to_numpy(dtype=str)
    odd = ~np.isin(words, (*_TRUE, *_FALSE))
    if odd.any():
        row = int(np.argmax(odd))
        shown = ascii(str(frame[name].iloc[row]))[:40]
        raise DataError(f"dataset {file}: {_row(file, start + row)}: column {name} is {shown}, not true or false")
    return np.isin(words, _TRUE)


def _is_discrete(path: Path) -> bool:
    """Whether the column `action` holds whole numbers only, in all files."""
    return all(
        "action" in frame.columns and bool((values == np.round(values)).all() and (values >= 0).all())
        for frame, values in ((frame, _known_actions(file, frame)) for file, frame in _frames(path))
    )


def _discrete_space(path: Path) -> DiscreteSpace:
    largest = max(int(_known_actions(file, frame).max(initial=0)) for file, frame in _frames(path))
    return DiscreteSpace(largest + 1, is_least=True)


def _known_actions(file: Path, frame: Any) -> np.ndarray:
    values = _numbers(file, frame, ("action",), 0)[:, 0]
    return values[~np.isnan(values)]


def _frames(path: Path) -> Iterator[tuple[Path, Any]]:
    for file in tables(path):
        yield file, _frame(file)


def _frame(file: Path) -> Any:
    """The file's table, its size checked before it is read."""
    import pandas

    try:
        if file.suffix == ".csv":
            if file.stat().st_size > LARGEST_TOTAL_BYTES:
                raise DataError(f"dataset {file}: is larger than {LARGEST_TOTAL_BYTES} bytes")
            return pandas.read_csv(file)
        return _parquet(file)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"dataset {file}: cannot be read ({cause})") from error


def _parquet(file: Path) -> Any:
    """Only columns of numbers, truth values and text are asked for; lists of observations are refused by name."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as table:
        declared = table.metadata.num_rows * table.metadata.num_columns * 8
        if declared > LARGEST_TOTAL_BYTES:
            raise DataError(f"dataset {file}: declares {declared} bytes, more than {LARGEST_TOTAL_BYTES}")
        for field in table.schema_arrow:
            if not _is_flat(field.type) and field.name.startswith(("observation", "action")):
                kind = f"column {field.name} holds {field.type!s:.40}, expected a number a row"
                raise DataError(f"dataset {file}: {kind} (observation_0, observation_1, …)")
        flat = [field.name for field in table.schema_arrow if _is_flat(field.type)]
        return table.read(columns=flat).to_pandas(ignore_metadata=True)


def _is_flat(kind: Any) -> bool:
    import pyarrow.types as kinds

    checks = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_string, kinds.is_large_string)
    return any(check(kind) for check in checks)


def _row(file: Path, index: int) -> str:
    return f"line {index + 2}" if file.suffix == ".csv" else f"row {index}"


def _natural(file: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.split(file.name)]


SOURCE = Source(
    name="tables",
    looks_like="CSV or parquet with columns observation_0, …, action_0, …, reward, terminated, truncated",
    recognises=recognises,
    describe=describe,
    read=read,
    files=tables,
)
