"""robomimic's demonstrations: parts of observations, what a done means, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_factory import TASK, make_episode, make_episodes
from file_factory import describe_file, read_file, write_robomimic

from system.data.sources.protocol import ReadOptions
from system.data.validation import find_faults, to_episode
from system.errors import DataError


def successes() -> list:
    """Terminated episodes whose last reward is positive, so that their done is a success."""
    episodes = make_episodes()
    for each in episodes:
        each.rewards[-1] = 1.0 if each.terminated else -1.0
    return episodes


def test_observations_are_their_parts_in_the_order_of_the_names(tmp_path: Path) -> None:
    file = write_robomimic(tmp_path / "low_dim.hdf5", successes())
    facts = describe_file(file)
    assert facts.observation_names == ("object[0]", "object[1]", "robot0_eef_pos[0]")
    assert (facts.max_episode_steps, facts.total_episodes) == (6, 5)
    for each, expected in zip(read_file(file), successes(), strict=True):
        episode = to_episode(each, TASK)
        np.testing.assert_array_equal(episode.observations, expected.observations)
        np.testing.assert_array_equal(episode.actions, expected.actions)
        assert (episode.terminated, episode.complete) == (expected.terminated, expected.complete)


def test_parts_can_be_chosen(tmp_path: Path) -> None:
    file = write_robomimic(tmp_path / "low_dim.hdf5")
    options = ReadOptions(observation_keys=("robot0_eef_pos", "object"))
    assert describe_file(file, options).observation_names == ("robot0_eef_pos[0]", "object[0]", "object[1]")
    first = read_file(file, options=options)[0]
    np.testing.assert_array_equal(first.observations, make_episodes()[0].observations[:, [2, 0, 1]])
    with pytest.raises(DataError, match=r"dataset.observation_keys: images is not one of object, robot0_eef_pos"):
        read_file(file, options=ReadOptions(observation_keys=("images",)))


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    episodes = [make_episode(1 + number % 6, "cut", number) for number in range(12)]
    file = write_robomimic(tmp_path / "low_dim.hdf5", episodes)
    assert [len(each.rewards) for each in read_file(file)] == [1 + number % 6 for number in range(12)]


@pytest.mark.parametrize(
    ("length", "dones", "rewards", "expected"),
    [
        (4, [0, 0, 0, 1], [0, 0, 0, 1], (4, True, False)),  # success
        (4, [0, 0, 0, 1], [0, 0, 0, 0], (4, False, True)),  # the end of a recording is marked by a done too
        (4, [0, 0, 0, 0], [0, 0, 0, 0], (4, False, False)),  # an end that isn't marked at all
        (6, [0, 0, 0, 0, 0, 1], [0] * 6, (6, False, True)),  # the time limit
        (6, [0, 0, 0, 0, 0, 0], [0] * 6, (6, False, True)),
        (6, [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], (4, True, False)),  # what follows a success is left out
    ],
)
def test_only_a_success_is_a_termination(
    tmp_path: Path, length: int, dones: list[int], rewards: list[int], expected: tuple[int, bool, bool]
) -> None:
    def alter(root: h5py.File) -> None:
        root["data/demo_0/dones"][:] = dones
        root["data/demo_0/rewards"][:] = rewards

    (read,) = read_file(write_robomimic(tmp_path / "low_dim.hdf5", [make_episode(length, "cut")], alter))
    assert (len(read.rewards), bool(read.terminations[-1]), bool(read.truncations[-1])) == expected
    assert bool(read.note) == (expected[0] < length)
    np.testing.assert_array_equal(read.observations[-1], make_episode(length, "cut").observations[expected[0]])


def test_a_shaped_reward_at_the_time_limit_is_no_success(tmp_path: Path) -> None:
    def alter(root: h5py.File) -> None:
        root["data"].attrs["env_args"] = '{"env_kwargs": {"horizon": 6, "reward_shaping": true}}'
        root["data/demo_0/dones"][5] = 1
        root["data/demo_0/rewards"][:] = 0.3

    (read,) = read_file(write_robomimic(tmp_path / "low_dim.hdf5", [make_episode(6, "cut")], alter))
    assert (bool(read.terminations[-1]), bool(read.truncations[-1])) == (False, True)


def test_without_next_observations_a_cut_demonstration_loses_its_last_transition(tmp_path: Path) -> None:
    def alter(root: h5py.File) -> None:
        del root["data/demo_0/next_obs"]

    episode = make_episode(4, "cut")
    (read,) = read_file(write_robomimic(tmp_path / "low_dim.hdf5", [episode], alter))
    np.testing.assert_array_equal(read.observations, episode.observations[:4])
    np.testing.assert_array_equal(read.actions, episode.actions[:3])


def test_images_are_refused_by_key_and_can_be_left_out(tmp_path: Path) -> None:
    def alter(root: h5py.File) -> None:
        for demo in root["data"].values():
            length = len(demo["rewards"])
            for key in ("obs", "next_obs"):
                demo[f"{key}/agentview_image"] = np.zeros((length, 8, 8, 3), dtype=np.uint8)

    file = write_robomimic(tmp_path / "image.hdf5", change=alter)
    with pytest.raises(DataError, match=r"demo_0/obs/agentview_image holds images .* dataset.observation_keys"):
        describe_file(file)
    chosen = ReadOptions(observation_keys=("object", "robot0_eef_pos"))
    assert find_faults(read_file(file, options=chosen)[0], TASK) == []


def put(place: str, values: np.ndarray) -> Callable[[h5py.File], None]:
    def alter(root: h5py.File) -> None:
        del root[place]
        root[place] = values

    return alter


def drop(place: str) -> Callable[[h5py.File], None]:
    return lambda root: root.__delitem__(place)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (drop("data/demo_2/actions"), "episode 2 (demo_2): has no actions"),
        (drop("data/demo_2/dones"), "episode 2 (demo_2): has no dones"),
        (drop("data/demo_1/obs/object"), "episode 1 (demo_1): has no object"),
        (put("data/demo_1/rewards", np.zeros(5)), "episode 1 (demo_1): actions have shape (6, 2), rewards (5,)"),
        (put("data/demo_1/obs/object", np.zeros((6, 3))), "episode 1 (demo_1): obs/object has shape (6, 3)"),
        (
            put("data/demo_1/obs/object", np.full((6, 2), np.nan)),
            "episode 1, step 0 (demo_1): observation dimension 0 (object[0]) is nan",
        ),
        (put("data/demo_1/actions", np.full((6, 2), 3.0)), "episode 1, step 0 (demo_1): action dimension 0 is 3"),
    ],
)
def test_wrong_demonstrations_are_named_by_key_and_step(
    tmp_path: Path, alter: Callable[[h5py.File], None], message: str
) -> None:
    read = read_file(write_robomimic(tmp_path / "low_dim.hdf5", change=alter))
    faults = [str(fault) for each in read for fault in find_faults(each, TASK)]
    assert faults[0].startswith(message)
    assert len(read) == 5


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda root: root["data"].attrs.__setitem__("env_args", "os.system('x')"), "env_args of data is not"),
        (lambda root: root["data"].create_group("episode_1"), "data/episode_1 is no demo_N"),
        (lambda root: [root.__delitem__("data"), root.create_group("data")], "data holds no demonstrations"),
        (drop("data/demo_0/obs"), "data/demo_0/obs is missing"),
        (put("data/demo_0/actions", np.zeros(4)), "data/demo_0/actions has shape \\(4,\\)"),
        (
            lambda root: root.__setitem__("data/demo_5", h5py.ExternalLink("/etc/passwd", "x")),
            "demo_5 is a link, which is refused",
        ),
    ],
)
def test_wrong_files_are_refused_by_key(
    tmp_path: Path, alter: Callable[[h5py.File], object], message: str
) -> None:
    file = write_robomimic(tmp_path / "low_dim.hdf5", change=alter)
    with pytest.raises(DataError, match=rf"low_dim.hdf5: .*{message}"):
        read_file(file)
