"""Columnar store of whole episodes, and the two ways of drawing from it: segments and transitions.

Rows of all episodes lie behind one another. An episode of L steps has L rows in the columns of steps and
L+1 in `observations`, so that its last observation, which truncated steps bootstrap from, is never lost.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64

from system.data.returns import returns_to_go
from system.errors import DataError
from system.types import Episode, SegmentBatch, TransitionBatch

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "returns_to_go",
    "lengths",
    "step_offsets",
    "terminated",
    "truncated",
    "complete",
)


@dataclass(frozen=True)
class EpisodeStore:
    """Read-only episodes in columns; memory-mapped where it was opened from a folder.

    Attributes:
        observations: o_0 … o_L of every episode; episode i begins at row step_offsets[i] + i.
        actions, rewards, returns_to_go: of every step; episode i begins at row step_offsets[i].
        lengths: L of each episode, at least 1.
        step_offsets: first step row of each episode, and the total at the end.
        terminated, truncated, complete: as in `Episode`.
        discount: γ of `returns_to_go`.
    """

    observations: Float32[np.ndarray, "rows S"]
    actions: Float32[np.ndarray, "steps A"]
    rewards: Float32[np.ndarray, "steps"]
    returns_to_go: Float32[np.ndarray, "steps"]
    lengths: Int64[np.ndarray, "episodes"]
    step_offsets: Int64[np.ndarray, "offsets"]
    terminated: Bool[np.ndarray, "episodes"]
    truncated: Bool[np.ndarray, "episodes"]
    complete: Bool[np.ndarray, "episodes"]
    discount: float

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode], *, discount: float) -> "EpisodeStore":
        """Builds a store in memory.

        Args:
            episodes: at least one; all with the same observation and action dimensions.
            discount: γ of the returns-to-go.

        Raises:
            DataError: there are no episodes, or one is empty or of other dimensions.
        """
        listed = list(episodes)
        if not listed:
            raise DataError("no episodes to store")
        observation_dim, action_dim = listed[0].observations.shape[1], listed[0].actions.shape[1]
        for index, episode in enumerate(listed):
            _check_shapes(index, episode, observation_dim, action_dim)
        return cls._from_columns(
            observations=np.concatenate([episode.observations for episode in listed], dtype=np.float32),
            actions=np.concatenate([episode.actions for episode in listed], dtype=np.float32),
            rewards=np.concatenate([episode.rewards for episode in listed], dtype=np.float32),
            returns=np.concatenate([returns_to_go(episode.rewards, discount) for episode in listed]),
            lengths=np.array([episode.num_steps for episode in listed], dtype=np.int64),
            flags=np.array([(episode.terminated, episode.truncated, episode.complete) for episode in listed]),
            discount=discount,
        )

    @classmethod
    def _from_columns(
        cls,
        *,
        observations: Float32[np.ndarray, "rows S"],
        actions: Float32[np.ndarray, "steps A"],
        rewards: Float32[np.ndarray, "steps"],
        returns: Float32[np.ndarray, "steps"],
        lengths: Int64[np.ndarray, "episodes"],
        flags: Bool[np.ndarray, "episodes 3"],
        discount: float,
    ) -> "EpisodeStore":
        """Derives the offsets and makes every column read-only."""
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        terminated, truncated, complete = np.ascontiguousarray(flags.T)
        columns = (observations, actions, rewards, returns, lengths, offsets, terminated, truncated, complete)
        for column in columns:
            column.setflags(write=False)
        return cls(*columns, discount=discount)

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Number of transitions over all episodes."""
        return len(self.rewards)

    @property
    def observation_dim(self) -> int:
        """S."""
        return self.observations.shape[1]

    @property
    def action_dim(self) -> int:
        """A."""
        return self.actions.shape[1]

    @property
    def episode_returns(self) -> Float64[np.ndarray, "episodes"]:
        """Undiscounted sum of rewards of each episode."""
        if self.num_episodes == 0:
            return np.zeros(0, dtype=np.float64)
        return np.add.reduceat(self.rewards.astype(np.float64), self.step_offsets[:-1])

    def episode(self, index: int) -> Episode:
        """Views of one episode.

        Args:
            index: 0 ≤ index < num_episodes.

        Raises:
            DataError: there is no such episode.
        """
        if not 0 <= index < self.num_episodes:
            raise DataError(f"episode {index} of a store of {self.num_episodes}")
        first, last = int(self.step_offsets[index]), int(self.step_offsets[index + 1])
        return Episode(
            observations=self.observations[first + index : last + index + 1],
            actions=self.actions[first:last],
            rewards=self.rewards[first:last],
            terminated=bool(self.terminated[index]),
            truncated=bool(self.truncated[index]),
            complete=bool(self.complete[index]),
        )

    def select(self, indices: Int[np.ndarray, "chosen"] | Sequence[int]) -> "EpisodeStore":
        """A new in-memory store of some episodes, in the given order.

        Args:
            indices: episodes to copy; may be empty.

        Raises:
            DataError: an index is out of range.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self.num_episodes):
            raise DataError(f"episodes {chosen.min()}…{chosen.max()} of a store of {self.num_episodes}")
        lengths = self.lengths[chosen]
        steps = _ranges(self.step_offsets[chosen], lengths)
        flags = np.stack([self.terminated[chosen], self.truncated[chosen], self.complete[chosen]], axis=1)
        return EpisodeStore._from_columns(
            observations=self.observations[_ranges(self.step_offsets[chosen] + chosen, lengths + 1)],
            actions=self.actions[steps],
            rewards=self.rewards[steps],
            returns=self.returns_to_go[steps],
            lengths=lengths,
            flags=flags,
            discount=self.discount,
        )

    def save(self, folder: Path) -> None:
        """Writes one `.npy` a column and a manifest of their sha256; replaces what is there at once.

        Args:
            folder: appears whole or not at all.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            digests = {}
            for name in COLUMNS:
                np.save(aside / f"{name}.npy", getattr(self, name), allow_pickle=False)
                digests[name] = _sha256(aside / f"{name}.npy")
            manifest = {"format": FORMAT_VERSION, "discount": self.discount, "sha256": digests}
            (aside / MANIFEST).write_text(json.dumps(manifest, indent=1))
            _replace_folder(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @classmethod
    def open(cls, folder: Path) -> "EpisodeStore":
        """Memory-maps a store that `save` wrote.

        Args:
            folder: as given to `save`.

        Raises:
            DataError: the folder is not a store, or a column is missing, changed or does not fit the others.
        """
        manifest = _read_manifest(folder)
        columns = {name: _open_column(folder / f"{name}.npy", manifest["sha256"].get(name)) for name in COLUMNS}
        _check_sizes(folder, columns)
        return cls(**columns, discount=float(manifest["discount"]))


def gather_segments(
    store: EpisodeStore, episode: Int64[np.ndarray, "B"], last_step: Int64[np.ndarray, "B"], length: int
) -> SegmentBatch:
    """Windows that end at a given step, padded on the left where the episode had not begun yet.

    So every step of an episode, its first ones included, occurs at every position of a window.

    Args:
        store: where from.
        episode: index of each window's episode.
        last_step: step at the window's last position, 0 ≤ last_step < L.
        length: T, steps of a window.

    Raises:
        DataError: a step lies outside its episode.
    """
    _check_steps(store, episode, last_step)
    steps = (last_step - (length - 1))[:, None] + np.arange(length)
    padding = steps < 0
    valid = ~padding
    rows = store.step_offsets[episode][:, None] + np.maximum(steps, 0)
    columns = (
        store.observations.take(rows + episode[:, None], axis=0),
        store.actions.take(rows, axis=0),
        store.rewards.take(rows),
        store.returns_to_go.take(rows),
    )
    for column in columns:
        column[padding] = 0.0
    return SegmentBatch(*columns, valid=valid, returns_valid=valid & store.complete[episode][:, None])


def gather_transitions(
    store: EpisodeStore, episode: Int64[np.ndarray, "B"], step: Int64[np.ndarray, "B"]
) -> TransitionBatch:
    """Single steps with the observation that truly followed; `terminated` only at a terminal state.

    Args:
        store: where from.
        episode: index of each step's episode.
        step: 0 ≤ step < L.

    Raises:
        DataError: a step lies outside its episode.
    """
    _check_steps(store, episode, step)
    rows = store.step_offsets[episode] + step
    return TransitionBatch(
        observations=store.observations[rows + episode],
        actions=store.actions[rows],
        rewards=store.rewards[rows],
        next_observations=store.observations[rows + episode + 1],
        terminated=store.terminated[episode] & (step == store.lengths[episode] - 1),
    )


def _check_shapes(index: int, episode: Episode, observation_dim: int, action_dim: int) -> None:
    length = episode.num_steps
    if length == 0:
        raise DataError(f"episode {index} has no steps")
    shapes = (episode.observations.shape, episode.actions.shape)
    expected = ((length + 1, observation_dim), (length, action_dim))
    if shapes != expected:
        raise DataError(
            f"episode {index} of {length} steps has observations {shapes[0]} and actions {shapes[1]}, "
            f"expected {expected[0]} and {expected[1]}"
        )


def _check_steps(store: EpisodeStore, episode: Int64[np.ndarray, "B"], step: Int64[np.ndarray, "B"]) -> None:
    """Refuses what NumPy would read from a neighbouring episode."""
    if episode.size and (episode.min() < 0 or episode.max() >= store.num_episodes):
        raise DataError(f"episodes {episode.min()}…{episode.max()} of a store of {store.num_episodes}")
    outside = np.flatnonzero((step < 0) | (step >= store.lengths[episode]))
    if outside.size:
        first = outside[0]
        raise DataError(
            f"step {step[first]} of episode {episode[first]}, which has {store.lengths[episode[first]]} steps"
        )


def _ranges(starts: Int64[np.ndarray, "E"], counts: Int64[np.ndarray, "E"]) -> Int64[np.ndarray, "total"]:
    """start, start + 1, … of every pair, one behind the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()), dtype=np.int64)


def _replace_folder(aside: Path, folder: Path) -> None:
    """Renames `aside` to `folder`; an earlier folder is moved away first, for a rename cannot overwrite it."""
    discarded = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        if folder.exists():
            os.rename(folder, discarded / "old")
        os.rename(aside, folder)
    finally:
        shutil.rmtree(discarded, ignore_errors=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(folder: Path) -> Mapping:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT_VERSION:
            raise DataError(f"{folder}: format {manifest['format']}, expected {FORMAT_VERSION}")
        float(manifest["discount"]), dict(manifest["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not an episode store ({type(error).__name__}: {error})") from error
    return manifest


def _open_column(file: Path, digest: str | None) -> np.ndarray:
    try:
        if _sha256(file) != digest:
            raise DataError(f"{file}: does not match its checksum")
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {error}") from error


def _check_sizes(folder: Path, columns: Mapping[str, np.ndarray]) -> None:
    """The columns describe the same episodes, so that no index can leave them."""
    episodes, steps = len(columns["lengths"]), int(columns["lengths"].sum())
    expected = {
        "observations": steps + episodes,
        "step_offsets": episodes + 1,
        **dict.fromkeys(("actions", "rewards", "returns_to_go"), steps),
        **dict.fromkeys(("terminated", "truncated", "complete"), episodes),
    }
    for name, rows in expected.items():
        if len(columns[name]) != rows:
            raise DataError(f"{folder}: column {name} has {len(columns[name])} rows, expected {rows}")
    if not np.array_equal(np.diff(columns["step_offsets"]), columns["lengths"]) or columns["step_offsets"][0] != 0:
        raise DataError(f"{folder}: step_offsets do not follow from lengths")
