"""What every source of episodes promises the algorithms. A new source is one line in `SOURCES`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import ENVIRONMENTS as TOY_ENVIRONMENTS
from dataset_factory import SPECIFICATION, TASK, make_dataset, make_episodes
from file_factory import LAYOUTS, read_file, write_layout
from frame_factory import BREAKOUT, GAMES, frame_dataset, frame_episodes, token_episode

from system.config import DatasetConfig
from system.data.conversion import convert
from system.data.loading import load_dataset
from system.data.opening import open_source
from system.data.sources.minari_layout import SHIPPED_ROOT
from system.data.sources.protocol import SOURCES as REGISTERED
from system.data.sources.protocol import ReadOptions, source_of
from system.data.store.episodes import COLUMNS, EpisodeStore, concatenate, gather_segments, gather_transitions
from system.data.store.returns import EndReadings, worth_of_going_on
from system.data.store.split import split_episodes
from system.data.store.statistics import compute_statistics
from system.data.validation import to_episode
from system.envs.registry import Environments

DISCOUNT = 0.97
BY_DEFAULT = EndReadings(DatasetConfig().limit_ends, DatasetConfig().cut_episodes)
LENGTH = 5


def in_memory(folder: Path) -> EpisodeStore:
    return EpisodeStore.from_episodes(make_episodes(), discount=DISCOUNT)


def memory_mapped(folder: Path) -> EpisodeStore:
    in_memory(folder).save(folder / "store")
    return EpisodeStore.open(folder / "store")


def minari_dataset(folder: Path) -> EpisodeStore:
    make_dataset(folder)
    config = DatasetConfig(id="toy/mixed-v0", path=str(folder), download=False)
    return load_dataset(config, environments=TOY_ENVIRONMENTS, discount=DISCOUNT).store


def cached_minari_dataset(folder: Path) -> EpisodeStore:
    make_dataset(folder)
    config = DatasetConfig(id="toy/mixed-v0", path=str(folder), download=False)
    for _ in range(2):
        loaded = load_dataset(
            config, environments=TOY_ENVIRONMENTS, discount=DISCOUNT, cache_folder=folder / "cache"
        )
    return loaded.store


def shipped_dataset(folder: Path) -> EpisodeStore:
    config = DatasetConfig(download=False)
    if not (SHIPPED_ROOT / config.id).exists():
        pytest.skip(f"{config.id} is not part of this checkout")
    return load_dataset(config, environments=Environments(), discount=DISCOUNT).store


def frames(folder: Path) -> EpisodeStore:
    frame_dataset(folder)
    config = DatasetConfig(id="toy/frames-v0", path=str(folder), download=False)
    return load_dataset(config, environments=GAMES, discount=DISCOUNT, cache_folder=folder / "cache").store


def two_games(folder: Path) -> EpisodeStore:
    other = EpisodeStore.from_episodes(frame_episodes(BREAKOUT), discount=DISCOUNT, readings=BY_DEFAULT)
    return concatenate([frames(folder), other]).select([7, 0, 3, 9, 1, 2])


def tokens(folder: Path) -> EpisodeStore:
    kinds = [(4, "terminated"), (6, "time_limit"), (3, "cut"), (1, "terminated")]
    episodes = [token_episode(length, ending, seed) for seed, (length, ending) in enumerate(kinds)]
    return EpisodeStore.from_episodes(episodes, discount=DISCOUNT)


def other_layout(layout: str) -> Callable[[Path], EpisodeStore]:
    """Read from a file as another project lays it out."""

    def read(folder: Path) -> EpisodeStore:
        episodes = [to_episode(each, TASK) for each in read_file(write_layout(folder, layout))]
        return EpisodeStore.from_episodes(episodes, discount=DISCOUNT, readings=BY_DEFAULT)

    return read


def converted(layout: str) -> Callable[[Path], EpisodeStore]:
    """The same file, made a Minari dataset."""

    def load(folder: Path) -> EpisodeStore:
        path = write_layout(folder, layout)
        convert(
            open_source(source_of(path), path, ReadOptions(), TOY_ENVIRONMENTS, TASK.environment_id),
            "toy/converted-v0",
            root=folder / "datasets",
            environment_specification=SPECIFICATION,
        )
        config = DatasetConfig(id="toy/converted-v0", path=str(folder / "datasets"), download=False)
        return load_dataset(config, environments=TOY_ENVIRONMENTS, discount=DISCOUNT).store

    return load


SOURCES: dict[str, Callable[[Path], EpisodeStore]] = {
    "in memory": in_memory,
    "memory-mapped": memory_mapped,
    "minari": minari_dataset,
    "minari, cached": cached_minari_dataset,
    "shipped": shipped_dataset,
    "frames": frames,
    "two games": two_games,
    "tokens": tokens,
    **{layout: other_layout(layout) for layout in LAYOUTS},
    **{f"{layout}, converted": converted(layout) for layout in LAYOUTS},
}


@pytest.fixture(scope="module", params=SOURCES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    return SOURCES[request.param](tmp_path_factory.mktemp("source"))


@pytest.fixture
def some_episodes(store: EpisodeStore) -> list[int]:
    """Every episode of a small source; of a large one some of each ending, and the longest."""
    if store.num_episodes <= 20:
        return list(range(store.num_episodes))
    chosen = {int(store.lengths.argmax()), int(store.lengths.argmin())}
    for flags in (store.terminated, store.truncated, ~store.complete):
        chosen.update(np.flatnonzero(flags)[:3].tolist())
    return sorted(chosen)


def skip_unless_vectors(store: EpisodeStore) -> None:
    """`TransitionBatch`, which critics of continuous control learn from, holds vectors."""
    if store.observations.dtype != np.float32:
        pytest.skip("no vectors")


def pair(episode: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([episode]), np.array([step])


def test_only_the_last_step_of_a_terminated_episode_is_terminal(
    store: EpisodeStore, some_episodes: list[int]
) -> None:
    skip_unless_vectors(store)
    for index in some_episodes:
        episode, length = store.episode(index), int(store.lengths[index])
        batch = gather_transitions(store, np.full(length, index), np.arange(length))
        assert batch.terminated.tolist() == [False] * (length - 1) + [episode.terminated]
        np.testing.assert_array_equal(batch.observations, episode.observations[:-1])
        np.testing.assert_array_equal(batch.actions, episode.actions)
        np.testing.assert_array_equal(batch.rewards, episode.rewards)


def test_the_next_observation_is_the_true_one_at_truncation_too(
    store: EpisodeStore, some_episodes: list[int]
) -> None:
    skip_unless_vectors(store)
    for index in some_episodes:
        episode, length = store.episode(index), int(store.lengths[index])
        batch = gather_transitions(store, np.full(length, index), np.arange(length))
        np.testing.assert_array_equal(batch.next_observations, episode.observations[1:])
        if index + 1 < store.num_episodes:
            assert not np.array_equal(batch.next_observations[-1], store.episode(index + 1).observations[0])


def test_returns_are_valid_at_the_time_limit_and_unknown_where_cut(
    store: EpisodeStore, some_episodes: list[int]
) -> None:
    for index in some_episodes:
        batch = gather_segments(store, *pair(index, int(store.lengths[index]) - 1), LENGTH)
        expected = batch.valid if store.episode(index).complete else np.zeros_like(batch.valid)
        np.testing.assert_array_equal(batch.returns_valid, expected)
    truncated = np.flatnonzero(store.truncated & ~store.terminated)
    assert set(store.lengths[truncated[store.complete[truncated]]]) <= {store.lengths.max()}
    assert store.complete[store.terminated].all()


def test_every_step_occurs_at_the_end_of_a_window(store: EpisodeStore, some_episodes: list[int]) -> None:
    for index in some_episodes:
        episode, length = store.episode(index), min(int(store.lengths[index]), 40)
        batch = gather_segments(store, np.full(length, index), np.arange(length), LENGTH)
        np.testing.assert_array_equal(batch.observations[:, -1], episode.observations[:length])
        np.testing.assert_array_equal(batch.actions[:, -1], episode.actions[:length])
        np.testing.assert_array_equal(batch.rewards[:, -1], episode.rewards[:length])
        assert batch.valid[:, -1].all()


def test_windows_are_consecutive_steps_padded_on_the_left_with_zeros(
    store: EpisodeStore, some_episodes: list[int]
) -> None:
    for index in some_episodes:
        episode = store.episode(index)
        for last in range(min(int(store.lengths[index]), 3 * LENGTH)):
            batch = gather_segments(store, *pair(index, last), LENGTH)
            padding = max(LENGTH - 1 - last, 0)
            window = slice(last + 1 - (LENGTH - padding), last + 1)
            assert batch.valid[0].tolist() == [False] * padding + [True] * (LENGTH - padding)
            for name in ("observations", "actions", "rewards"):
                values = getattr(batch, name)[0]
                assert not values[:padding].any()
                np.testing.assert_array_equal(values[padding:], getattr(episode, name)[window])
            assert not batch.returns_to_go[0, :padding].any()


def goes_on(store: EpisodeStore, index: int) -> bool:
    """Whether its labels hold what would have come behind the time limit."""
    at_limit = bool(store.complete[index] and not store.terminated[index])
    return at_limit and store.readings.limit_ends == "continued"


def test_returns_to_go_are_brute_force_sums_with_the_step_included(
    store: EpisodeStore, some_episodes: list[int]
) -> None:
    for index in some_episodes:
        rewards = store.episode(index).rewards.astype(np.float64)
        if store.actions.dtype == np.int64:
            rewards = np.sign(rewards)  # a game's scores are of its own scale
        length = min(len(rewards), 60)
        batch = gather_segments(store, np.full(length, index), np.arange(length), 1)
        if goes_on(store, index):
            rewards = np.append(rewards, worth_of_going_on(rewards, DISCOUNT))
        sums = [sum(DISCOUNT ** (k - t) * rewards[k] for k in range(t, len(rewards))) for t in range(length)]
        np.testing.assert_allclose(batch.returns_to_go[:, 0], sums, rtol=1e-5, atol=1e-5)


def test_statistics_know_nothing_of_padding_and_validation(store: EpisodeStore) -> None:
    train, validation = split_episodes(store.num_episodes, 0.3, 0)
    training = store.select(train)
    statistics = compute_statistics(training, 1000)
    lasts = np.concatenate([np.arange(length) for length in training.lengths])
    owners = np.repeat(np.arange(training.num_episodes), training.lengths)
    batch = gather_segments(training, owners, lasts, 1)
    if store.observations.dtype == np.float32:
        seen = batch.observations[:, 0].astype(np.float64)
        np.testing.assert_allclose(statistics.observation_mean, seen.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(statistics.observation_std, seen.std(axis=0), rtol=1e-4, atol=1e-5)
    known = batch.returns_to_go[batch.returns_valid].astype(np.float64)
    assert statistics.return_mean == pytest.approx(known.mean(), rel=1e-4)
    altered = [store.episode(index) for index in range(store.num_episodes)]
    for index in validation:
        altered[index] = replace(altered[index], rewards=altered[index].rewards + 1e3)
    again = EpisodeStore.from_episodes(altered, discount=DISCOUNT, readings=store.readings)
    again = compute_statistics(again.select(train), 1000)
    assert again.return_mean == statistics.return_mean
    np.testing.assert_array_equal(again.target_returns, statistics.target_returns)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_converted_file_loads_with_the_arrays_of_the_file_itself(layout: str, tmp_path: Path) -> None:
    stores = [other_layout(layout)(tmp_path / "file"), converted(layout)(tmp_path / "converted")]
    assert stores[0].num_episodes == stores[1].num_episodes > 0
    for name in (*COLUMNS, "lengths", "terminated", "truncated", "complete"):
        np.testing.assert_array_equal(*(getattr(store, name) for store in stores), err_msg=name)


def test_every_registered_layout_is_enrolled(tmp_path: Path) -> None:
    tried = {source_of(write_layout(tmp_path / layout, layout)).name for layout in LAYOUTS}
    assert tried == REGISTERED.keys() - {"DQN-replay"}, (
        "which tests/unit/test_dqn_replay.py tries, with whole frames"
    )
