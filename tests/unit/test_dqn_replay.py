"""A folder in the layout of the published DQN-replay data, made small, becomes a Minari dataset."""

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.cli.main import main
from system.config import DatasetConfig
from system.data.loading import load_dataset
from system.data.sources.dqn_replay import DqnReplay
from system.envs.registry import Environments, find_task
from system.errors import DataError

TASK = find_task("ALE/Pong-v5")
ALL = 10_000


def column_file(folder: Path, column: str, part: int) -> Path:
    return folder / f"$store$_{column}_ckpt.{part}.gz"


def write_column(folder: Path, column: str, part: int, values: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, values)
    column_file(folder, column, part).write_bytes(gzip.compress(content.getvalue(), 1))


def write_part(
    folder: Path, part: int, lengths: list[int], *, begins: bool = True, unfinished: int | None = 2
) -> None:
    """Episodes of the given lengths, each after three empty steps, and the beginning of one more, or none.

    Frames are numbered through the part from 1; actions and rewards follow from the number.
    """
    frames, actions, rewards, terminals = [], [], [], []
    for index, length in enumerate(lengths if unfinished is None else [*lengths, unfinished]):
        empty = 3 if begins or index else 0
        numbers = [0] * empty + [len(frames) + empty + step + 1 for step in range(length)]
        frames += [np.full((84, 84), number, dtype=np.uint8) for number in numbers]
        actions += [number % 6 if number else 0 for number in numbers]
        rewards += [float(number % 3 - 1) if number else 0.0 for number in numbers]
        terminals += [0] * (len(numbers) - 1) + [int(index < len(lengths))]
    folder.mkdir(exist_ok=True)
    write_column(folder, "observation", part, np.stack(frames))
    write_column(folder, "action", part, np.asarray(actions, dtype=np.int32))
    write_column(folder, "reward", part, np.asarray(rewards, dtype=np.float32))
    write_column(folder, "terminal", part, np.asarray(terminals, dtype=np.uint8))


def numbers(replay: DqnReplay) -> list[list[int]]:
    return [episode.observations[:, 0, 0].tolist() for episode in replay]


def test_an_episode_is_what_was_played(tmp_path: Path) -> None:
    write_part(tmp_path, 0, [4])
    (episode,) = DqnReplay(tmp_path, TASK, max_steps=ALL, seed=0)
    assert episode.observations[:, 0, 0].tolist() == [4, 5, 6, 7, 7], "without empty steps, the last frame twice"
    assert (episode.observations.shape, episode.observations.dtype) == ((5, 84, 84), np.uint8)
    assert episode.actions.tolist() == [11, 12, 0, 1], "4, 5, 0, 1 of 0, 1, 3, 4, 11, 12"
    assert episode.rewards.tolist() == [0.0, 1.0, -1.0, 0.0]
    assert (episode.terminated, episode.truncated, episode.complete, episode.game) == (True, False, True, 39)


def test_pieces_of_episodes_at_the_borders_of_a_part_are_left_out(tmp_path: Path) -> None:
    write_part(tmp_path, 0, [3, 2])
    write_part(tmp_path, 3, [3, 2], begins=False)
    write_part(tmp_path, 4, [], unfinished=4)
    found = numbers(DqnReplay(tmp_path, TASK, max_steps=ALL, seed=0))
    assert found == [[4, 5, 6, 6], [10, 11, 11], [7, 8, 8]]


def test_a_piece_that_begins_idly_is_no_whole_episode(tmp_path: Path) -> None:
    write_part(tmp_path, 0, [6, 2], begins=False)
    write_column(tmp_path, "action", 0, np.zeros(16, dtype=np.int32))
    write_column(tmp_path, "reward", 0, np.zeros(16, dtype=np.float32))
    assert numbers(DqnReplay(tmp_path, TASK, max_steps=ALL, seed=0)) == [[10, 11, 11]]


def test_the_end_of_an_episode_is_no_empty_step(tmp_path: Path) -> None:
    write_part(tmp_path, 0, [4, 0], unfinished=None)
    first, second = DqnReplay(tmp_path, TASK, max_steps=ALL, seed=0)
    assert (first.num_steps, second.num_steps) == (4, 1)


def test_black_frames_within_an_episode_are_kept(tmp_path: Path) -> None:
    write_part(tmp_path, 0, [5])
    frames = np.zeros((13, 84, 84), dtype=np.uint8)
    frames[4] = 9
    write_column(tmp_path, "observation", 0, frames)
    (episode,) = DqnReplay(tmp_path, TASK, max_steps=ALL, seed=0)
    assert episode.observations[:, 0, 0].tolist() == [0, 9, 0, 0, 0, 0]


def test_an_episode_as_long_as_the_time_limit_was_cut(tmp_path: Path) -> None:
    write_part(tmp_path, 0, [4, 3])
    cut, ended = DqnReplay(tmp_path, replace(TASK, max_episode_steps=4), max_steps=ALL, seed=0)
    assert (cut.terminated, cut.truncated, cut.complete) == (False, True, True)
    assert (ended.terminated, ended.truncated, ended.complete) == (True, False, True)


def test_episodes_are_drawn_whole_without_replacement_by_seed_up_to_a_number_of_steps(tmp_path: Path) -> None:
    for part in (0, 1):
        write_part(tmp_path, part, [2] * 10)
    everything = [(number, length) for number, *rest in numbers(draw(tmp_path, ALL, 0)) for length in [len(rest)]]
    assert len(everything) == 20
    few = numbers(draw(tmp_path, 24, 1))
    assert len(few) == 4, "five steps each, with the empty ones"
    assert few == numbers(draw(tmp_path, 24, 1))
    assert len({json.dumps(numbers(draw(tmp_path, 24, seed))) for seed in range(6)}) > 3
    counts = np.bincount([index for seed in range(60) for index in drawn(tmp_path, seed)], minlength=20)
    assert counts.sum() == 240
    assert counts.min() >= 3, "each has 12 on average"


def draw(folder: Path, max_steps: int, seed: int) -> DqnReplay:
    return DqnReplay(folder, TASK, max_steps=max_steps, seed=seed)


def drawn(folder: Path, seed: int) -> list[int]:
    """Positions of the drawn episodes among the twenty."""
    replay = draw(folder, 24, seed)
    return [10 * piece.part + piece.start // 5 for piece in replay._drawn]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def pickle_inside(file: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    file.write_bytes(gzip.compress(content.getvalue()))


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("reward", Path.unlink, r"reward_ckpt\.0\.gz is missing"),
    "cut off": ("action", truncate, r"action_ckpt\.0\.gz is not a readable"),
    "cut off frames": ("observation", truncate, r"observation_ckpt\.0\.gz is not a readable"),
    "no archive": ("terminal", lambda file: file.write_bytes(b"words"), r"terminal_ckpt\.0\.gz is not a readable"),
    "pickled": ("action", pickle_inside, r"action_ckpt\.0\.gz is not a readable.*object"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    column, damage, message = DAMAGES[name]
    write_part(tmp_path, 0, [4])
    damage(column_file(tmp_path, column, 0))
    with pytest.raises(DataError, match=message):
        list(DqnReplay(tmp_path, TASK, max_steps=ALL, seed=0))


WRONG_VALUES = {
    "action": (np.array([0, 0, 0, 4, 6, 0, 0], dtype=np.int32), "step 4: 6 is no action"),
    "reward": (np.array([0, 0, 0, 0, 0, np.nan, 0], dtype=np.float32), "step 5: reward is nan"),
    "terminal": (np.zeros(6, dtype=np.uint8), "7 actions, 7 rewards, 6 ends"),
    "observation": (np.zeros((7, 64, 64), dtype=np.uint8), r"frames are uint8 \(64, 64\)"),
}


@pytest.mark.parametrize("column", WRONG_VALUES)
def test_wrong_values_are_named_by_file_and_step(tmp_path: Path, column: str) -> None:
    values, message = WRONG_VALUES[column]
    write_part(tmp_path, 0, [4], unfinished=None)
    write_column(tmp_path, column, 0, values)
    with pytest.raises(DataError, match=message):
        list(DqnReplay(tmp_path, TASK, max_steps=ALL, seed=0))


def test_requests_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        draw(tmp_path / "nowhere", ALL, 0)
    with pytest.raises(DataError, match="holds no file named"):
        draw(tmp_path, ALL, 0)
    write_part(tmp_path, 0, [30])
    with pytest.raises(DataError, match="no episode fits into 20 steps; the first drawn has 33 steps"):
        draw(tmp_path, 20, 0)
    with pytest.raises(DataError, match="no end in 13 steps from 0 on"):
        DqnReplay(tmp_path, replace(TASK, max_episode_steps=10), max_steps=ALL, seed=0)


def test_the_command_writes_a_dataset_that_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, root = tmp_path / "replay", tmp_path / "datasets"
    write_part(source, 0, [6, 5, 4])
    words = ["data", "convert", str(source), "atari/pong/replay-v0", "--environment", "ALE/Pong-v5"]
    assert main([*words, "--path", str(root)]) == 0
    assert "3 episodes" in capsys.readouterr().out
    config = DatasetConfig(id="atari/pong/replay-v0", path=str(root), download=False)
    loaded = load_dataset(config, environments=Environments(), discount=0.99)
    assert loaded.store.num_steps == 15
    assert main([*words, "--path", str(root)]) == 2, "it is there already"
    words[-1] = "Hopper-v5"
    assert main(words) == 2
    assert "frames of shape (84, 84), but Hopper-v5 has 11 observation dimensions" in capsys.readouterr().err
