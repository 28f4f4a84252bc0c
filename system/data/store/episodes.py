"""Columnar store of whole episodes, and the two ways of drawing from it: segments and transitions.

Rows of all episodes lie behind one another. An episode of L steps has L rows in the columns of steps and
L+1 in `observations`, so that its last observation, which truncated steps bootstrap from, is never lost.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64, Shaped

from system.config.sections import EndReading
from system.data.store.column_files import ColumnWriter, new_folder, open_columns, write_column, write_manifest
from system.data.store.episode_columns import COLUMNS, EpisodeLayout
from system.data.store.returns import AS_OBSERVED, EndReadings
from system.data.store.row_view import Column, RowView, join_columns, read_rows, select_rows
from system.errors import DataError
from system.types import Episode, SegmentBatch, TransitionBatch

OF_STEPS = ("actions", "rewards", "returns_to_go", "returns_valid")
OF_EPISODES = ("lengths", "terminated", "truncated", "complete", "game")


@dataclass(frozen=True)
class EpisodeStore:
    """Read-only episodes in columns; memory-mapped where it was opened from a folder.

    Attributes:
        observations: o_0 … o_L of every episode; episode i begins at row step_offsets[i] + i. Float32
            vectors, uint8 frames or int16 tokens; frames may be a view that reads what it is asked for.
        actions: float32 vectors, or int64 numbers of discrete actions.
        actions, rewards, returns_to_go, returns_valid: of every step; episode i begins at row step_offsets[i].
            Returns-to-go are of rewards, where observations are frames or tokens of their signs.
        lengths: L of each episode, at least 1.
        step_offsets: first step row of each episode, and the total at the end.
        terminated, truncated, complete, game: as in `Episode`.
        discount: γ of `returns_to_go`.
        readings: of ends without termination, in `returns_to_go` and `returns_valid`.
    """

    observations: Shaped[np.ndarray, "rows *observation"] | RowView
    actions: Shaped[np.ndarray, "steps *action"]
    rewards: Float32[np.ndarray, "steps"]
    returns_to_go: Float32[np.ndarray, "steps"]
    returns_valid: Bool[np.ndarray, "steps"]
    lengths: Int64[np.ndarray, "episodes"]
    step_offsets: Int64[np.ndarray, "offsets"]
    terminated: Bool[np.ndarray, "episodes"]
    truncated: Bool[np.ndarray, "episodes"]
    complete: Bool[np.ndarray, "episodes"]
    game: Int64[np.ndarray, "episodes"]
    discount: float
    readings: EndReadings = AS_OBSERVED

    @classmethod
    def from_episodes(
        cls, episodes: Iterable[Episode], *, discount: float, readings: EndReadings = AS_OBSERVED
    ) -> "EpisodeStore":
        """Builds a store in memory.

        Args:
            episodes: at least one; all with the same kind of observations and actions.
            discount: γ of the returns-to-go.
            readings: of ends without termination.

        Raises:
            DataError: there are no episodes, or one is empty or of another kind.
        """
        listed = list(episodes)
        if not listed:
            raise DataError("no episodes to store")
        layout = EpisodeLayout.of(listed[0])
        parts = [layout.columns(index, episode, discount, readings) for index, episode in enumerate(listed)]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return cls._from_columns(columns, discount, readings)

    @classmethod
    def _from_columns(
        cls, columns: Mapping[str, Any], discount: float, readings: EndReadings
    ) -> "EpisodeStore":
        """Derives the offsets and makes every column read-only."""
        complete = {**columns, "step_offsets": _offsets(columns["lengths"])}
        for column in complete.values():
            if isinstance(column, np.ndarray):
                column.setflags(write=False)
        return cls(**complete, discount=discount, readings=readings)

    @classmethod
    def write(
        cls,
        folder: Path,
        episodes: Iterable[Episode],
        *,
        discount: float,
        readings: EndReadings = AS_OBSERVED,
    ) -> None:
        """Writes a store from episodes that come one by one; never more than one of them is in memory.

        Args:
            folder: appears whole or not at all; replaces what is there.
            episodes: at least one; all with the same kind of observations and actions.
            discount: γ of the returns-to-go.
            readings: of ends without termination.

        Raises:
            DataError: there are no episodes, or one is empty or of another kind.
        """
        layout: EpisodeLayout | None = None
        writers: dict[str, ColumnWriter] = {}
        lengths: list[int] = []
        with new_folder(folder) as aside:
            try:
                for index, episode in enumerate(episodes):
                    layout = layout or EpisodeLayout.of(episode)
                    for name, values in layout.columns(index, episode, discount, readings).items():
                        if name not in writers:
                            writers[name] = ColumnWriter(aside / f"{name}.npy", values.dtype, values.shape[1:])
                        writers[name].append(values)
                    lengths.append(episode.num_steps)
            finally:
                for writer in writers.values():
                    writer.close()
            if not lengths:
                raise DataError("no episodes to store")
            write_column(aside / "step_offsets.npy", _offsets(np.array(lengths)))
            write_manifest(aside, COLUMNS, _labels(discount, readings))

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Number of transitions over all episodes."""
        return len(self.rewards)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation: (S,), (height, width) or (K,)."""
        return tuple(self.observations.shape[1:])

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action: (A,), or () of discrete ones."""
        return tuple(self.actions.shape[1:])

    @property
    def layout(self) -> EpisodeLayout:
        """Shapes and types of observations and actions."""
        return EpisodeLayout(
            self.observation_shape, self.observations.dtype, self.action_shape, self.actions.dtype
        )

    @property
    def games(self) -> Int64[np.ndarray, "games"]:
        """The games that occur, in ascending order."""
        return np.unique(self.game)

    def game_of_observations(self) -> Int64[np.ndarray, "rows"]:
        """The game of each row of `observations`."""
        return np.repeat(self.game, self.lengths + 1)

    @property
    def episode_returns(self) -> Float64[np.ndarray, "episodes"]:
        """Undiscounted sum of rewards of each episode; not a number where they were not recorded."""
        if self.num_episodes == 0:
            return np.zeros(0, dtype=np.float64)
        return np.add.reduceat(self.rewards.astype(np.float64), self.step_offsets[:-1])

    def episode(self, index: int) -> Episode:
        """One episode, as views where the columns are arrays.

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
            game=int(self.game[index]),
        )

    def select(self, indices: Int[np.ndarray, "chosen"] | Sequence[int]) -> "EpisodeStore":
        """A new store of some episodes, in the given order; frames are not copied, everything else is.

        Args:
            indices: episodes to take; may be empty.

        Raises:
            DataError: an index is out of range.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self.num_episodes):
            raise DataError(f"episodes {chosen.min()}…{chosen.max()} of a store of {self.num_episodes}")
        lengths = self.lengths[chosen]
        steps = _ranges(self.step_offsets[chosen], lengths)
        columns: dict[str, Column] = {
            "observations": select_rows(
                self.observations, _ranges(self.step_offsets[chosen] + chosen, lengths + 1)
            ),
            **{name: getattr(self, name)[steps] for name in OF_STEPS},
            **{name: getattr(self, name)[chosen] for name in OF_EPISODES},
        }
        return EpisodeStore._from_columns(columns, self.discount, self.readings)

    def with_observations(self, rows: Shaped[np.ndarray, "rows *observation"]) -> "EpisodeStore":
        """The same episodes with other observations, such as the tokens of their frames.

        Args:
            rows: one for each row of `observations`, in the same order; float32, uint8 or int16.

        Raises:
            DataError: there are more or fewer rows.
        """
        if len(rows) != len(self.observations):
            raise DataError(f"{len(rows)} observations for a store of {len(self.observations)}")
        fixed = rows.view()
        fixed.setflags(write=False)
        return dataclasses.replace(self, observations=fixed)

    def save(self, folder: Path) -> None:
        """Writes one `.npy` a column and a manifest of their sha256; replaces what is there at once.

        Args:
            folder: appears whole or not at all.
        """
        with new_folder(folder) as aside:
            for name in COLUMNS:
                write_column(aside / f"{name}.npy", getattr(self, name))
            write_manifest(aside, COLUMNS, _labels(self.discount, self.readings))

    @classmethod
    def open(cls, folder: Path) -> "EpisodeStore":
        """Memory-maps a store that `save` or `write` wrote.

        Args:
            folder: as given to `save`.

        Raises:
            DataError: the folder is not a store, or a column is missing, changed or does not fit the others.
        """
        columns, manifest = open_columns(folder, COLUMNS)
        _check_sizes(folder, columns)
        readings: list[Any] = [manifest.get("limit_ends"), manifest.get("cut_episodes")]
        if not all(each in get_args(EndReading) for each in readings):
            raise DataError(f"{folder}: not an episode store ({readings} are no readings of ends)")
        return cls(**columns, discount=float(manifest["discount"]), readings=EndReadings(*readings))


def concatenate(stores: Sequence[EpisodeStore]) -> EpisodeStore:
    """All episodes of several stores as one; frames are not copied, everything else is.

    Args:
        stores: at least one; of the same layout, discount and readings.

    Raises:
        DataError: there are none, or they differ.
    """
    if not stores:
        raise DataError("no stores to concatenate")
    first = stores[0]
    if len(stores) == 1:
        return first
    for other in stores[1:]:
        if (other.layout, other.discount) != (first.layout, first.discount):
            raise DataError(
                f"a store of {other.layout} and discount {other.discount:g} can't follow one of {first.layout} "
                f"and discount {first.discount:g}"
            )
        if other.readings != first.readings:
            raise DataError(f"a store of {other.readings} can't follow one of {first.readings}")
    joined = [name for name in COLUMNS if name != "step_offsets"]
    columns = {name: join_columns([getattr(store, name) for store in stores]) for name in joined}
    return EpisodeStore._from_columns(columns, first.discount, first.readings)


def gather_segments(
    store: EpisodeStore, episode: Int64[np.ndarray, "B"], last_step: Int64[np.ndarray, "B"], length: int
) -> SegmentBatch:
    """Windows that end at a given step, padded where the episode had not begun yet and where it is over.

    Args:
        store: where from.
        episode: index of each window's episode.
        last_step: step at the window's last position, 0 ≤ last_step < L + T − 1, so that it holds at least one.
        length: T, steps of a window.

    Raises:
        DataError: a window lies outside its episode.
    """
    _check_steps(store, episode, last_step, beyond=length - 1)
    steps = (last_step - (length - 1))[:, None] + np.arange(length)
    final = store.lengths[episode][:, None] - 1
    valid = (steps >= 0) & (steps <= final)
    rows = store.step_offsets[episode][:, None] + np.clip(steps, 0, final)
    columns = (
        read_rows(store.observations, rows + episode[:, None]),
        store.actions.take(rows, axis=0),
        store.rewards.take(rows),
        store.returns_to_go.take(rows),
    )
    known = store.returns_valid.take(rows)
    for column in columns:
        column[~valid] = 0
    return SegmentBatch(
        *columns,
        valid=valid,
        returns_valid=valid & known,
        terminated=(steps == final) & store.terminated[episode][:, None],
        game=store.game[episode],
    )


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
    is_last = step == store.lengths[episode] - 1
    next_actions = store.actions[rows + ~is_last]
    next_actions[is_last] = 0
    return TransitionBatch(
        observations=read_rows(store.observations, rows + episode),
        actions=store.actions[rows],
        rewards=store.rewards[rows],
        next_observations=read_rows(store.observations, rows + episode + 1),
        terminated=store.terminated[episode] & is_last,
        next_actions=next_actions,
        next_known=~is_last,
    )


def _check_steps(
    store: EpisodeStore, episode: Int64[np.ndarray, "B"], step: Int64[np.ndarray, "B"], beyond: int = 0
) -> None:
    """Refuses what NumPy would read from a neighbouring episode; steps may go `beyond` an episode's last."""
    if episode.size and (episode.min() < 0 or episode.max() >= store.num_episodes):
        raise DataError(f"episodes {episode.min()}…{episode.max()} of a store of {store.num_episodes}")
    outside = np.flatnonzero((step < 0) | (step >= store.lengths[episode] + beyond))
    if outside.size:
        first = outside[0]
        raise DataError(
            f"step {step[first]} of episode {episode[first]}, which has {store.lengths[episode[first]]} steps"
        )


def _labels(discount: float, readings: EndReadings) -> dict[str, Any]:
    """What a manifest says of the returns-to-go."""
    return {"discount": discount, **dataclasses.asdict(readings)}


def _offsets(lengths: Int64[np.ndarray, "episodes"]) -> Int64[np.ndarray, "offsets"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _ranges(starts: Int64[np.ndarray, "E"], counts: Int64[np.ndarray, "E"]) -> Int64[np.ndarray, "total"]:
    """start, start + 1, … of every pair, one behind the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()), dtype=np.int64)


def _check_sizes(folder: Path, columns: Mapping[str, np.ndarray]) -> None:
    """The columns describe the same episodes, so that no index can leave them."""
    episodes, steps = len(columns["lengths"]), int(columns["lengths"].sum())
    expected = {
        "observations": steps + episodes,
        "step_offsets": episodes + 1,
        **dict.fromkeys(OF_STEPS, steps),
        **dict.fromkeys(OF_EPISODES, episodes),
    }
    for name, rows in expected.items():
        if len(columns[name]) != rows:
            raise DataError(f"{folder}: column {name} has {len(columns[name])} rows, expected {rows}")
    if not np.array_equal(np.diff(columns["step_offsets"]), columns["lengths"]) or columns["step_offsets"][0] != 0:
        raise DataError(f"{folder}: step_offsets do not follow from lengths")
