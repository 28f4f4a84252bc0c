"""D4RL's flat HDF5 files: where episodes end, what was seen last, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_factory import TASK, make_episode, make_episodes
from file_factory import d4rl_columns, describe_file, read_file, write_d4rl

from system.data.validation import find_faults, to_episode
from system.errors import DataError

Columns = dict[str, np.ndarray]


def write_without(file: Path, *keys: str) -> tuple[Path, Columns]:
    columns = {key: values for key, values in d4rl_columns().items() if key not in keys}
    return write_d4rl(file, columns), columns


def test_an_episode_ends_at_a_terminal_or_a_time_out_wherever_that_is(tmp_path: Path) -> None:
    columns = d4rl_columns()
    columns["timeouts"][12] = True
    read = read_file(write_d4rl(tmp_path / "data.hdf5", columns))
    assert [len(each.rewards) for each in read] == [4, 6, 3, 1, 5]
    assert [bool(each.terminations[-1]) for each in read] == [True, False, False, True, True]
    assert [bool(each.truncations[-1]) for each in read] == [False, True, True, False, False]
    assert [to_episode(each, TASK).complete for each in read] == [True, True, False, True, True]
    for each in read:
        assert not each.terminations[:-1].any()
        assert not each.truncations[:-1].any()


def test_the_rows_after_the_last_end_are_a_cut_episode(tmp_path: Path) -> None:
    file = write_d4rl(tmp_path / "data.hdf5", d4rl_columns([*make_episodes(), make_episode(3, "cut", 9)]))
    *_, last = read_file(file)
    np.testing.assert_array_equal(last.observations, make_episode(3, "cut", 9).observations)
    assert not last.terminations.any()
    assert not last.truncations.any()
    assert not to_episode(last, TASK).complete


def test_a_last_row_of_which_nothing_more_is_known_is_no_episode(tmp_path: Path) -> None:
    columns = d4rl_columns([make_episode(4, "terminated"), make_episode(1, "cut")])
    del columns["next_observations"]
    assert [len(each.rewards) for each in read_file(write_d4rl(tmp_path / "data.hdf5", columns))] == [4]


def test_a_piece_may_be_longer_than_the_environments_limit(tmp_path: Path) -> None:
    file = write_d4rl(tmp_path / "data.hdf5", d4rl_columns([make_episode(15, "time_limit")]))
    (episode,) = read_file(file)
    assert (len(episode.rewards), to_episode(episode, TASK).complete) == (15, False)
    assert find_faults(episode, TASK) == []


def test_no_transition_leads_into_another_episode(tmp_path: Path) -> None:
    """Files made by shifting the rows: after an end, the next observation is the next episode's first."""
    columns = d4rl_columns()
    columns["timeouts"][12] = True
    columns["next_observations"] = np.roll(columns["observations"], -1, axis=0)
    read = read_file(write_d4rl(tmp_path / "data.hdf5", columns))
    assert [len(each.rewards) for each in read] == [4, 5, 2, 1, 5], "timed-out ones lose their last transition"
    firsts = [each.observations[0].tobytes() for each in read]
    for each in read:
        assert each.observations[-1].tobytes() not in set(firsts) - {each.observations[0].tobytes()}
    assert not to_episode(read[1], TASK).complete, "its last reward is not in its return"


def test_without_next_observations_only_an_end_stands_in_for_what_was_seen_last(tmp_path: Path) -> None:
    file, columns = write_without(tmp_path / "data.hdf5", "next_observations")
    read = read_file(file)
    assert [len(each.rewards) for each in read] == [4, 5, 4, 5], "the third has no end, and runs into the fourth"
    np.testing.assert_array_equal(read[0].observations[-1], columns["observations"][3])
    np.testing.assert_array_equal(read[1].observations[-1], columns["observations"][9])
    assert read[1].truncations.tolist() == [False] * 4 + [True]
    assert "lose their last transition" in " ".join(describe_file(file).notes)


def test_the_extra_row_of_a_limit_reached_makes_the_episode_whole(tmp_path: Path) -> None:
    """Maze files: 1001 rows for a limit of 1000, the last of them only to show where it ended."""
    columns = d4rl_columns([make_episode(7, "time_limit", 1), make_episode(7, "time_limit", 2)])
    del columns["next_observations"]
    read = read_file(write_d4rl(tmp_path / "data.hdf5", columns))
    assert [to_episode(each, TASK).complete for each in read] == [True, True]


def test_ends_that_are_not_marked_show_in_the_next_observations(tmp_path: Path) -> None:
    file, _ = write_without(tmp_path / "data.hdf5", "timeouts")
    read = read_file(file)
    assert [len(each.rewards) for each in read] == [4, 6, 3, 1, 5]
    for each, expected in zip(read, make_episodes(), strict=True):
        np.testing.assert_array_equal(each.observations, expected.observations)
    assert not read[1].terminations.any()


def test_without_time_outs_and_next_observations_the_time_limit_ends_episodes(tmp_path: Path) -> None:
    columns = d4rl_columns([make_episode(20, "cut")])
    del columns["timeouts"], columns["next_observations"]
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    assert [len(each.rewards) for each in read_file(file)] == [5, 5, 5, 1]
    assert [bool(each.truncations[-1]) for each in read_file(file)] == [True, True, True, False]
    longer = read_file(file, replace(TASK, max_episode_steps=50))
    assert [len(each.rewards) for each in longer] == [19]


def test_integers_in_one_column_number_discrete_actions(tmp_path: Path) -> None:
    columns = d4rl_columns()
    columns["actions"] = np.arange(19) % 3
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    assert describe_file(file).action_space.count == 3
    task = replace(TASK, action_dim=3, valid_actions=(0, 1, 2))
    assert [find_faults(each, task) for each in read_file(file, task)] == [[]] * 5


def change(key: str, alter: Callable[[np.ndarray], np.ndarray]) -> Callable[[Columns], object]:
    return lambda columns: columns.update({key: alter(columns[key])})


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda columns: columns.pop("rewards"), "has no rewards"),
        (lambda columns: columns.pop("terminals"), "has no terminals"),
        (change("actions", lambda a: a[:-1]), "actions has 18 rows, observations has 19"),
        (change("observations", lambda a: a[:, 0]), "observations has shape \\(19,\\), expected rows of numbers"),
        (change("rewards", lambda a: np.stack([a, a], 1)), "rewards has shape \\(19, 2\\), expected one number"),
        (change("next_observations", lambda a: a[:, :2]), "next_observations has shape \\(19, 2\\)"),
        (change("terminals", lambda a: a * 2), "terminals, row 3: 2 is neither 0 nor 1"),
        (change("rewards", lambda a: a.astype("S4")), "rewards has type"),
    ],
)
def test_wrong_columns_are_refused_by_name(
    tmp_path: Path, alter: Callable[[Columns], object], message: str
) -> None:
    columns = d4rl_columns()
    alter(columns)
    file = write_d4rl(tmp_path / "data.hdf5", columns)
    with pytest.raises(DataError, match=rf"data.hdf5: {message}"):
        read_file(file)


@pytest.mark.parametrize(
    ("key", "row", "value", "message"),
    [
        ("observations", 6, np.nan, "episode 1, step 2 (row 6): observation dimension 1 is nan"),
        ("actions", 17, 1.5, "episode 4, step 3 (row 17): action dimension 1 is 1.5, outside [-1, 1]"),
    ],
)
def test_wrong_numbers_are_named_by_episode_step_and_row(
    tmp_path: Path, key: str, row: int, value: float, message: str
) -> None:
    columns = d4rl_columns()
    columns[key][row, 1] = value
    read = read_file(write_d4rl(tmp_path / "data.hdf5", columns))
    assert [str(fault) for each in read for fault in find_faults(each, TASK)] == [message]


def test_links_and_damage_are_refused(tmp_path: Path) -> None:
    other = write_d4rl(tmp_path / "other.hdf5")
    file, _ = write_without(tmp_path / "data.hdf5", "rewards")
    with h5py.File(file, "a") as root:
        root["rewards"] = h5py.ExternalLink(str(other), "rewards")
    with pytest.raises(DataError, match="rewards is a link, which is refused"):
        read_file(file)
    content = other.read_bytes()
    other.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"other.hdf5 cannot be read"):
        read_file(other)
