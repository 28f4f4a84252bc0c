"""Reads the published DQN-replay data: everything that a learning DQN agent saw of an Atari game.

A folder holds up to fifty parts of a million steps each, and of each part one compressed array for the frames,
actions, rewards and ends. What is stored is not what happened in five ways, which are put right here:

- Every episode is preceded by three empty steps that the agent's frame stack needed; they are left out.
- A part begins amid an episode of the part before, and ends amid one; both pieces are left out.
- Actions are numbered within the game's minimal set; here they are those of the full set.
- The frame after the last action is not stored; the last one that is stands in for it.
- An episode stopped by the time limit is marked like one that ended; by its length it is told apart.

Rewards were clipped to [−1, 1] when the data were recorded, so returns are no scores.
"""

import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from system.data.raw_episode import RawEpisode
from system.data.sources.minari_layout import ImageSpace
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.errors import DataError
from system.seeding import numpy_generator
from system.types import Episode, TaskSpec

COLUMNS = ("observation", "action", "reward", "terminal")
EMPTY_STEPS = 3
LARGEST_PART_STEPS = 4_000_000
FRAME_SHAPE = (84, 84)
_SKIPPED_AT_ONCE = 2**20
_PART = re.compile(r"\$store\$_observation_ckpt\.(\d{1,4})\.gz")


@dataclass(frozen=True)
class _Piece:
    """Steps `start` … `stop` − 1 of a part, the last of them the end of an episode."""

    part: int
    start: int
    stop: int


@dataclass(frozen=True)
class _Part:
    """The small columns of one part, in memory."""

    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray

    def num_empty_steps(self, start: int, stop: int, frames: np.ndarray) -> int:
        """How many of an episode's first steps show nothing and do nothing, at most three."""
        first = slice(start, min(start + EMPTY_STEPS, stop))
        idle = (self.actions[first] == 0) & (self.rewards[first] == 0) & ~self.terminals[first]
        empty = idle & ~frames[: len(idle)].any(axis=(1, 2))
        return len(empty) if empty.all() else int(np.argmin(empty))


class DqnReplay:
    """Whole episodes of a folder, drawn uniformly and without replacement.

    Args:
        folder: with files named `$store$_observation_ckpt.0.gz` and so on.
        task: the game.
        max_steps: how many steps may be drawn, the empty ones before episodes included.
        seed: of the draw.

    Raises:
        DataError: the folder holds no part, a file is missing, damaged or of another layout, or the first
            episode drawn is longer than all that may be.
    """

    def __init__(self, folder: Path, task: TaskSpec, *, max_steps: int, seed: int) -> None:
        self.folder = folder
        self.task = task
        numbers = sorted(int(match[1]) for file in _files(folder) if (match := _PART.fullmatch(file.name)))
        if not numbers:
            raise DataError(f"{folder} holds no file named $store$_observation_ckpt.N.gz")
        self._parts = {number: self._read_part(number) for number in numbers}
        pieces = [piece for number in numbers for piece in self._pieces(number)]
        self._drawn = self._draw(pieces, max_steps, numpy_generator(seed, "dqn_replay"))

    def __iter__(self) -> Iterator[Episode]:
        """Yields the drawn episodes in the order of the files; one at a time is in memory.

        Raises:
            DataError: the frames are damaged or end too early.
        """
        for number in sorted({piece.part for piece in self._drawn}):
            with _Frames(self._file("observation", number), self.task) as frames:
                for piece in (each for each in self._drawn if each.part == number):
                    yield self._episode(piece, frames.take(piece.start, piece.stop))

    def __len__(self) -> int:
        """How many episodes were drawn."""
        return len(self._drawn)

    def _episode(self, piece: _Piece, frames: np.ndarray) -> Episode:
        part = self._parts[piece.part]
        skipped = part.num_empty_steps(piece.start, piece.stop, frames)
        steps = slice(piece.start + skipped, piece.stop)
        cut = steps.stop - steps.start == self.task.max_episode_steps
        return Episode(
            observations=np.concatenate([frames[skipped:], frames[-1:]]),
            actions=np.asarray(self.task.valid_actions, dtype=np.int64)[part.actions[steps]],
            rewards=part.rewards[steps].astype(np.float32),
            terminated=not cut,
            truncated=cut,
            complete=True,
            game=self.task.game,
        )

    def _pieces(self, number: int) -> list[_Piece]:
        """Whole episodes; what precedes the first end is one only if the empty steps are there."""
        part = self._parts[number]
        borders = [0, *(np.flatnonzero(part.terminals) + 1).tolist()]
        pieces = [_Piece(number, start, stop) for start, stop in pairwise(borders)]
        longest = self.task.max_episode_steps + EMPTY_STEPS
        for piece in pieces:
            if piece.stop - piece.start > longest:
                file = self._file("terminal", number)
                raise DataError(f"{file}: no end in {longest} steps from {piece.start} on")
        return pieces if not pieces or self._begins_an_episode(pieces[0]) else pieces[1:]

    def _begins_an_episode(self, piece: _Piece) -> bool:
        stop = min(piece.stop, EMPTY_STEPS)
        with _Frames(self._file("observation", piece.part), self.task) as frames:
            found = self._parts[piece.part].num_empty_steps(0, stop, frames.take(0, stop))
        return found == EMPTY_STEPS

    def _draw(self, pieces: list[_Piece], max_steps: int, generator: np.random.Generator) -> list[_Piece]:
        drawn, num_steps = [], 0
        for index in generator.permutation(len(pieces)):
            length = pieces[index].stop - pieces[index].start
            if num_steps + length > max_steps:
                break
            drawn.append(pieces[index])
            num_steps += length
        if not drawn:
            found = f"the first drawn has {length} steps" if pieces else "there is no whole one"
            raise DataError(f"{self.folder}: no episode fits into {max_steps} steps; {found}")
        return sorted(drawn, key=lambda piece: (piece.part, piece.start))

    def _read_part(self, number: int) -> _Part:
        actions, rewards, terminals = (_read_column(self._file(name, number)) for name in COLUMNS[1:])
        if not len(actions) == len(rewards) == len(terminals):
            lengths = f"{len(actions)} actions, {len(rewards)} rewards, {len(terminals)} ends"
            raise DataError(f"{self.folder}: part {number} has {lengths}")
        unknown = (actions < 0) | (actions >= len(self.task.valid_actions))
        if actions.dtype.kind not in "iu" or unknown.any():
            step = int(np.argmax(unknown))
            file = self._file("action", number)
            raise DataError(f"{file}: step {step}: {actions[step]} is no action of the game")
        if not np.isfinite(rewards).all():
            step = int(np.argmin(np.isfinite(rewards)))
            raise DataError(f"{self._file('reward', number)}: step {step}: reward is {rewards[step]}")
        return _Part(actions, rewards, terminals != 0)

    def _file(self, column: str, number: int) -> Path:
        return self.folder / f"$store$_{column}_ckpt.{number}.gz"


class _Frames:
    """The frames of one part, decompressed from front to back; going back is not possible."""

    def __init__(self, file: Path, task: TaskSpec) -> None:
        self._stream = _CompressedArray(file)
        if self._stream.dtype != np.uint8 or self._stream.shape[1:] != task.frame_shape:
            self._stream.close()
            described = f"{self._stream.dtype} {self._stream.shape[1:]}"
            raise DataError(f"{file}: frames are {described}, expected uint8 {task.frame_shape}")
        self._position = 0

    def __enter__(self) -> "_Frames":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def take(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` … `stop` − 1, after those taken before."""
        self._stream.skip(start - self._position)
        self._position = stop
        return self._stream.read(stop - start)


class _CompressedArray:
    """A compressed array read row by row; whatever it is, nothing in it is executed."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise DataError(f"{file} is missing")
        self.file = file
        self._stream = gzip.open(file)
        with self._described_failures():
            self.shape, self.dtype = self._read_header()
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def read(self, num_rows: int) -> np.ndarray:
        """The next rows."""
        content = self._read_bytes(num_rows * self._row_bytes)
        if len(content) < num_rows * self._row_bytes:
            raise DataError(f"{self.file} ends before its {self.shape[0]} rows")
        return np.frombuffer(content, dtype=self.dtype).reshape(num_rows, *self.shape[1:])

    def skip(self, num_rows: int) -> None:
        """Passes over rows without keeping them."""
        left = num_rows * self._row_bytes
        while left:
            passed = len(self._read_bytes(min(left, _SKIPPED_AT_ONCE)))
            if not passed:
                raise DataError(f"{self.file} ends before its {self.shape[0]} rows")
            left -= passed

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def _read_header(self) -> tuple[tuple[int, ...], np.dtype]:
        version = np.lib.format.read_magic(self._stream)
        if version != (1, 0):
            raise ValueError(f"format {version}")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(self._stream)
        if is_fortran or dtype.hasobject or not shape or not 0 < shape[0] <= LARGEST_PART_STEPS:
            raise ValueError(f"array of {dtype} {shape}")
        return shape, dtype

    def _read_bytes(self, size: int) -> bytes:
        with self._described_failures():
            return self._stream.read(size)

    @contextmanager
    def _described_failures(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError, zlib.error) as error:
            self.close()
            raise DataError(f"{self.file} is not a readable compressed array ({error})") from error


def _read_column(file: Path) -> np.ndarray:
    column = _CompressedArray(file)
    try:
        if len(column.shape) != 1 or column.dtype.kind not in "iufb":
            raise DataError(f"{file} holds {column.dtype} {column.shape}, expected one number a step")
        return column.read(column.shape[0])
    finally:
        column.close()


def recognises(path: Path) -> bool:
    """A folder with a part's frames."""
    return path.is_dir() and any(_PART.fullmatch(file.name) for file in path.iterdir())


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """Frames; the game, and with it the actions, is not in the files."""
    note = "rewards were clipped to [-1, 1] when the data were recorded, so returns are no scores"
    return SourceFacts(ImageSpace(FRAME_SHAPE), None, has_scores=False, notes=(note,))


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """The drawn episodes, all of them where no number of steps is given."""
    if task.frame_shape is None or not task.is_discrete:
        raise DataError(f"dataset {path}: is of an Atari game, and {task.environment_id} is none")
    most = sys.maxsize if options.max_steps is None else options.max_steps
    for number, episode in enumerate(DqnReplay(path, task, max_steps=most, seed=options.seed)):
        flags = np.zeros((2, episode.num_steps), dtype=bool)
        flags[:, -1] = episode.terminated, episode.truncated
        yield RawEpisode(number, episode.observations, episode.actions, episode.rewards, flags[0], flags[1])


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    return list(folder.iterdir())


SOURCE = Source(
    name="DQN-replay",
    looks_like="a folder with $store$_observation_ckpt.0.gz and so on",
    recognises=recognises,
    describe=describe,
    read=read,
    is_drawn_from=True,
)
