"""The replay: immutable offline episodes and a growing, durable set of online ones."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int64

from system.data.replay.episode_log import EpisodeLog
from system.data.replay.growing_store import GrowingStore
from system.data.replay.sampling import ReplayStats, SampleRequest
from system.data.replay.step_draws import BalancedSteps, Steps, draw_by_return, draw_uniform
from system.data.store.episodes import EpisodeStore, gather_segments, gather_transitions
from system.data.store.statistics import target_return_table
from system.types import Episode, SegmentBatch, TransitionBatch

Batch = TypeVar("Batch", SegmentBatch, TransitionBatch)


class ReplayBuffer:
    """Draws batches with an exact split between offline and online rows, and of these between the games.

    Args:
        offline: the training split.
        context_length: T of the segments.
        log: where online episodes are made durable; None keeps them in memory only.
        max_episode_steps: length of the target-return table.
    """

    def __init__(
        self, offline: EpisodeStore, *, context_length: int, max_episode_steps: int, log: EpisodeLog | None = None
    ) -> None:
        self.offline = offline
        self.context_length = context_length
        self.log = log
        self.online = GrowingStore(offline.layout, offline.discount, offline.readings)
        self._offline_steps = BalancedSteps(offline)
        self._keys: set[object] = set()
        self._duplicates = 0
        self._offline_table = target_return_table(offline, max_episode_steps)
        self._tables: list[Float32[np.ndarray, "steps"]] = []
        if log is not None:
            self._insert(log.episodes)

    def add_episodes(self, episodes: Sequence[Episode]) -> int:
        """Stores episodes durably before returning; returns how many were new (idempotent by key)."""
        if self.log is not None:
            new = self.log.append(episodes)
        else:
            new = list({each.key: each for each in episodes if each.key not in self._keys}.values())
            self._keys.update(each.key for each in new)
        self._insert(new)
        self._duplicates += len(episodes) - len(new)
        return len(new)

    def sample_segments(self, request: SampleRequest) -> SegmentBatch:
        """Windows of the kind that is asked for."""
        drawn, order = self._draw(request)
        return _join(
            [gather_segments(store, episode, step, self.context_length) for store, (episode, step) in drawn], order
        )

    def sample_transitions(self, request: SampleRequest) -> TransitionBatch:
        """The drawn steps."""
        drawn, order = self._draw(replace(request, windows="ending"))
        return _join([gather_transitions(store, episode, step) for store, (episode, step) in drawn], order)

    def target_returns(self, visible_episodes: int | None) -> Float32[np.ndarray, "steps"]:
        """The best known return-to-go at each step, over offline and visible online episodes."""
        visible = self._visible(visible_episodes)
        return (self._tables[visible - 1] if visible else self._offline_table).copy()

    def online_episodes(self, first: int, last: int) -> list[Episode]:
        """Online episodes number `first` to `last` − 1, in the order in which they were acknowledged."""
        view = self.online.view(min(last, self.online.num_episodes))
        return [view.episode(index) for index in range(first, view.num_episodes)]

    def stats(self) -> ReplayStats:
        """Counters."""
        return ReplayStats(
            offline_episodes=self.offline.num_episodes,
            offline_transitions=self.offline.num_steps,
            online_episodes=self.online.num_episodes,
            online_transitions=self.online.num_steps,
            duplicates=self._duplicates,
            quarantined=0 if self.log is None else len(self.log.quarantined),
        )

    def _insert(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            self.online.append([episode])
            table = self._tables[-1] if self._tables else self._offline_table
            self._tables.append(self._raise_table(table))

    def _raise_table(self, table: Float32[np.ndarray, "steps"]) -> Float32[np.ndarray, "steps"]:
        """The table with the newest online episode taken in; the same array where nothing rises."""
        index = self.online.num_episodes - 1
        newest = self.online.view(index + 1)
        steps = slice(int(newest.step_offsets[index]), None)
        known = np.where(newest.returns_valid[steps], newest.returns_to_go[steps], np.float32(-np.inf))
        returns = known[: len(table)]
        if (returns <= table[: len(returns)]).all():
            return table
        raised = table.copy()
        np.maximum(raised[: len(returns)], returns, out=raised[: len(returns)])
        return np.maximum.accumulate(raised)

    def _visible(self, visible_episodes: int | None) -> int:
        count = self.online.num_episodes
        return count if visible_episodes is None else min(visible_episodes, count)

    def _draw(self, request: SampleRequest) -> tuple[list[tuple[EpisodeStore, Steps]], Int64[np.ndarray, "R"]]:
        """([(store, (episodes, last steps))] of this shard's offline rows, then of its online ones; their order).

        Online rows are spread evenly over the whole batch and the games of offline rows alternate, so that
        every shard has its equal share of each kind, give or take one row. The shards one after the other are
        the whole batch.
        """
        if request.batch_size == 0:
            nothing = np.zeros(0, dtype=np.int64)
            return [(self.offline, (nothing, nothing))], nothing
        generator = np.random.default_rng(request.seed)
        online = self.online.view(self._visible(request.visible_episodes))
        size, num_online = request.batch_size, 0
        beyond = self.context_length - 1 if request.windows == "touching" else 0
        if online.num_episodes:
            num_online = size - round(request.offline_fraction * size)
        episode, step = self._offline_steps.draw(size - num_online, generator, beyond)
        draw_online = draw_uniform if request.weighting == "uniform" else draw_by_return
        online_episode, online_step = draw_online(online, num_online, generator, beyond)
        rank, world = request.shard
        rows = np.arange(rank * size // world, (rank + 1) * size // world + 1)
        online_before = rows * num_online // size
        own_offline = slice(rows[0] - online_before[0], rows[-1] - online_before[-1])
        own_online = slice(online_before[0], online_before[-1])
        drawn = [
            (self.offline, (episode[own_offline], step[own_offline])),
            (online, (online_episode[own_online], online_step[own_online])),
        ]
        order = np.argsort(np.argsort(np.diff(online_before), kind="stable"))
        return [(store, steps) for store, steps in drawn if len(steps[0])], order


def _join(parts: list[Batch], order: Int64[np.ndarray, "R"]) -> Batch:
    """The rows of all parts in the given order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    columns = {
        each.name: np.concatenate([getattr(part, each.name) for part in parts])[order] for each in fields(first)
    }
    return type(first)(**columns)
