"""Episodes in tables: columns by name, ends, and what is refused by file, column and row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from dataset_factory import TASK, make_episode, make_episodes
from file_factory import describe_file, read_file, table, write_table, write_tables

from system.data.sources.minari_layout import BoxBounds, DiscreteSpace
from system.data.sources.protocol import ReadOptions
from system.data.validation import find_faults, to_episode
from system.errors import DataError

SUFFIXES = ("csv", "parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_an_episode_in_the_order_of_the_numbers_in_their_names(tmp_path: Path, suffix: str) -> None:
    episodes = [make_episode(1 + number % 5, ["terminated", "cut"][number % 2], number) for number in range(12)]
    folder = write_tables(tmp_path / "runs", suffix, episodes)
    (folder / "README.md").write_text("not a table")
    for each, expected in zip(read_file(folder), episodes, strict=True):
        episode = to_episode(each, TASK)
        np.testing.assert_array_equal(episode.observations, expected.observations)
        np.testing.assert_array_equal(episode.actions, expected.actions)
        np.testing.assert_array_equal(episode.rewards, expected.rewards)
        assert (episode.terminated, episode.truncated) == (expected.terminated, expected.truncated)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_file_with_a_column_episode_holds_many(tmp_path: Path, suffix: str) -> None:
    frames = [table(each).assign(episode=f"run {number}") for number, each in enumerate(make_episodes())]
    file = write_table(tmp_path / f"all.{suffix}", pandas.concat(frames))
    read = read_file(file)
    assert [len(each.rewards) for each in read] == [4, 6, 3, 1, 5]
    third = to_episode(read[2], TASK).observations
    np.testing.assert_array_equal(third, make_episodes()[2].observations)
    write_table(file, pandas.concat([*frames, frames[0]]))
    with pytest.raises(DataError, match=r"(line 26|row 24): episode 'run 0' goes on after another one"):
        read_file(file)


def test_numbered_columns_are_put_in_order_and_named_ones_stay(tmp_path: Path) -> None:
    frame = table(make_episode(4, "cut"))
    shuffled = frame[["observation_2", "observation_0", "reward", "observation_1", "action_1", "action_0"]]
    file = write_table(tmp_path / "a.csv", shuffled.assign(temperature=1.0))
    facts = describe_file(file)
    assert facts.observation_names == ("observation_0", "observation_1", "observation_2")
    assert facts.notes == ("columns that are not read: temperature",)
    (read,) = read_file(file)
    np.testing.assert_array_equal(to_episode(read, TASK).actions, make_episode(4, "cut").actions)
    names = {"observation_2": "observation.speed", "observation_0": "observation.angle", "observation_1": "x"}
    write_table(file, shuffled.rename(columns=names))
    assert describe_file(file).observation_names == ("observation.speed", "observation.angle")
    chosen = ReadOptions(observation_keys=("observation.angle",))
    assert describe_file(file, chosen).observation_space == BoxBounds(1, None, None)


def test_without_a_last_row_an_episode_that_went_on_loses_its_last_transition(tmp_path: Path) -> None:
    lengths = []
    for ending in ("terminated", "time_limit", "cut"):
        file = write_table(tmp_path / f"{ending}.csv", table(make_episode(6, ending)).iloc[:-1])
        (read,) = read_file(file)
        lengths.append(len(read.rewards))
        assert bool(read.terminations[-1]) == (ending == "terminated")
        assert bool(read.truncations[-1]) == (ending == "time_limit")
    assert lengths == [6, 5, 5]


def test_flags_on_the_last_row_count_for_the_step_before_it(tmp_path: Path) -> None:
    frame = table(make_episode(3, "cut"))
    frame["terminated"] = [0, 0, 0, 1]
    (read,) = read_file(write_table(tmp_path / "a.csv", frame.drop(columns="truncated")))
    assert read.terminations.tolist() == [False, False, True]
    assert read.truncations.tolist() == [False, False, False]


def test_whole_numbers_in_one_column_action_are_discrete(tmp_path: Path) -> None:
    frame = table(make_episode(4, "cut")).drop(columns=["action_0", "action_1"])
    file = write_table(tmp_path / "a.csv", frame.assign(action=[0, 2, 1, 0, np.nan]))
    assert describe_file(file).action_space == DiscreteSpace(3, is_least=True)
    task = replace(TASK, action_dim=3, valid_actions=(0, 1, 2))
    (read,) = read_file(file, task)
    assert (read.actions.tolist(), find_faults(read, task)) == ([0, 2, 1, 0], [])
    write_table(file, frame.assign(action=[0, 2, np.nan, 0, np.nan]))
    (read,) = read_file(file, task)
    assert [str(fault) for fault in find_faults(read, task)] == [
        "episode 0: step 2: action is nan, not a whole number"
    ]
    write_table(file, frame.assign(action=[0.5, 2, 1, 0, np.nan]))
    assert describe_file(file).action_space == BoxBounds(1, None, None)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("reward", "much", "column reward is 'much', not a number"),
        ("observation_1", "left", "column observation_1 is 'left', not a number"),
        ("terminated", "maybe", "column terminated is 'maybe', not true or false"),
    ],
)
def test_what_is_no_number_is_refused_by_file_column_and_row(
    tmp_path: Path, suffix: str, column: str, value: str, message: str
) -> None:
    folder = write_tables(tmp_path / "runs", suffix)
    frame = table(make_episodes()[1])
    values = frame[column].astype(str).tolist()
    values[2] = value
    write_table(folder / f"run_1.{suffix}", frame.assign(**{column: values}))
    place = "line 4" if suffix == "csv" else "row 2"
    with pytest.raises(DataError, match=f"run_1.{suffix}: {place}: {message}"):
        read_file(folder)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        (
            "observation_1",
            2,
            np.nan,
            "step 2 (line 4 of run_1.csv): observation dimension 1 (observation_1) is nan",
        ),
        ("action_0", 3, 7.0, "step 3 (line 5 of run_1.csv): action dimension 0 (action_0) is 7, outside [-1, 1]"),
        ("reward", 0, np.inf, "step 0 (line 2 of run_1.csv): reward is inf"),
        ("terminated", 1, True, "step 1 (line 3 of run_1.csv): terminated before the last step (5)"),
    ],
)
def test_wrong_numbers_are_named_by_episode_step_line_and_column(
    tmp_path: Path, column: str, row: int, value: float, message: str
) -> None:
    folder = write_tables(tmp_path / "runs", "csv")
    frame = table(make_episodes()[1])
    frame.loc[row, column] = value
    write_table(folder / "run_1.csv", frame)
    faults = [str(fault) for each in read_file(folder) for fault in find_faults(each, TASK)]
    assert faults == [f"episode 1, {message}"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(make_episode(3, "cut")).drop(columns="reward"), "has no column reward"),
        (table(make_episode(3, "cut")).drop(columns=["action_0", "action_1"]), "has no column action_0"),
        (
            table(make_episode(3, "cut")).drop(columns="observation_1"),
            "has no column observation_1, but observation_2",
        ),
        (table(make_episode(3, "cut")).iloc[:0], "has no rows"),
    ],
)
def test_missing_columns_and_rows_are_refused(tmp_path: Path, frame: pandas.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=f"a.csv: {message}"):
        read_file(write_table(tmp_path / "a.csv", frame))


def test_columns_of_lists_are_refused_by_name_and_others_left_alone(tmp_path: Path) -> None:
    frame = table(make_episode(3, "cut"))
    file = write_table(tmp_path / "a.parquet", frame.assign(video=[[1, 2]] * 4))
    assert [len(each.rewards) for each in read_file(file)] == [3]
    lists = frame.drop(columns=["observation_0", "observation_1", "observation_2"])
    write_table(file, lists.assign(**{"observation.state": [[1.0, 2.0]] * 4}))
    message = r"a.parquet: column observation.state holds list<.*expected a number a row"
    with pytest.raises(DataError, match=message):
        read_file(file)


def test_every_file_of_a_folder_must_have_the_columns_of_the_first(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "runs", "csv")
    write_table(folder / "run_3.csv", table(make_episodes()[3]).drop(columns="action_1"))
    with pytest.raises(DataError, match=r"run_3.csv: has no column action_1, which the first file has"):
        read_file(folder)


def test_an_episode_without_a_transition_is_named(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.csv", table(make_episode(1, "cut")).iloc[1:])
    (read,) = read_file(file)
    assert [str(fault) for fault in find_faults(read, TASK)] == ["episode 0: has no transition"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1\x00\xff\xfe\x81 nothing")
    with pytest.raises(DataError, match=f"{name}: (cannot be read|has no column)"):
        read_file(tmp_path / name)
