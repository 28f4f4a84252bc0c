"""OGBench's archives: trajectories, rewards and masks, and what is refused without being unpickled."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import TASK, make_episodes
from file_factory import describe_file, ogbench_columns, read_file, write_ogbench

from system.data.validation import find_faults, to_episode
from system.errors import DataError

Columns = dict[str, np.ndarray]


def test_the_last_row_of_a_trajectory_is_what_was_seen_last_and_no_termination(tmp_path: Path) -> None:
    read = read_file(write_ogbench(tmp_path / "data.npz"))
    for each, expected in zip(read, make_episodes(), strict=True):
        np.testing.assert_array_equal(each.observations, expected.observations)
        np.testing.assert_array_equal(each.actions, expected.actions)
        assert not each.terminations.any()
        assert each.truncations.tolist() == [False] * (expected.num_steps - 1) + [True]
        assert find_faults(each, TASK) == []
    assert [to_episode(each, TASK).complete for each in read] == [False, True, False, False, False]


def test_rewards_that_are_not_there_are_zero_and_said_to_be(tmp_path: Path) -> None:
    file = write_ogbench(tmp_path / "data.npz")
    facts = describe_file(file)
    assert not facts.has_scores
    assert "every reward is 0" in facts.notes[0]
    assert not any(each.rewards.any() for each in read_file(file))


def test_a_mask_of_zero_is_a_termination_and_the_rest_an_episode_of_its_own(tmp_path: Path) -> None:
    columns = ogbench_columns()
    columns["rewards"] = np.arange(24, dtype=np.float32)
    columns["masks"] = np.ones(24)
    columns["masks"][7] = 0.0  # step 2 of the second trajectory
    columns["masks"][15] = 0.0  # a row that only shows what was seen last
    file = write_ogbench(tmp_path / "data.npz", columns)
    assert describe_file(file).has_scores
    read = read_file(file)
    assert [len(each.rewards) for each in read] == [4, 3, 3, 3, 1, 5]
    assert [bool(each.terminations[-1]) for each in read] == [False, True, False, False, False, False]
    second = make_episodes()[1]
    np.testing.assert_array_equal(read[1].observations, second.observations[:4])
    np.testing.assert_array_equal(read[2].observations, second.observations[3:])
    assert read[1].rewards.tolist() == [5.0, 6.0, 7.0]


def test_rows_after_the_last_end_are_a_cut_trajectory(tmp_path: Path) -> None:
    columns = ogbench_columns()
    columns["terminals"][-1] = 0.0
    last = read_file(write_ogbench(tmp_path / "data.npz", columns))[-1]
    np.testing.assert_array_equal(last.observations, make_episodes()[-1].observations)
    assert not last.truncations.any()


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda columns: columns.pop("actions"), "has no actions"),
        (lambda columns: columns.pop("terminals"), "has no terminals"),
        (lambda columns: columns.update(actions=columns["actions"][:-2]), "actions has 22 rows"),
        (lambda columns: columns.update(observations=np.zeros((24, 8, 8, 3), np.uint8)), "observations has shape"),
        (lambda columns: columns.update(terminals=columns["terminals"] * 0.5), "terminals, row 4: 0.5 is neither"),
        (
            lambda columns: columns.update(observations=columns["observations"].astype("U9")),
            "observations has type",
        ),
    ],
)
def test_wrong_arrays_are_refused_by_name(
    tmp_path: Path, alter: Callable[[Columns], object], message: str
) -> None:
    columns = ogbench_columns()
    alter(columns)
    file = write_ogbench(tmp_path / "data.npz", columns)
    with pytest.raises(DataError, match=rf"data.npz: {message}"):
        read_file(file)


def test_wrong_numbers_are_named_by_episode_step_and_row(tmp_path: Path) -> None:
    columns = ogbench_columns()
    columns["observations"][7, 2] = np.inf
    (faults,) = filter(
        None, (find_faults(each, TASK) for each in read_file(write_ogbench(tmp_path / "a.npz", columns)))
    )
    assert str(faults[0]) == "episode 1, step 2 (row 7): observation dimension 2 is inf"


def test_pickles_lies_and_damage_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    columns = {**ogbench_columns(), "actions": np.array([print] * 24, dtype=object)}
    np.savez(file, allow_pickle=True, **columns)
    with pytest.raises(DataError, match="actions has type object, expected numbers"):
        read_file(file)
    write_ogbench(file)
    content = file.read_bytes()
    file.write_bytes(content[:300])
    with pytest.raises(DataError, match=r"data.npz: cannot be read"):
        read_file(file)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("observations.npy", header.getvalue())
    with pytest.raises(DataError, match="observations declares 12000000000000 bytes, more than"):
        read_file(file)
