"""Batches of environments, and whole episodes played in them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import gymnasium
import numpy as np
import pytest
import torch

from system.envs.registry import find_task, make_environment
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError, PlannerError, ShapeError, SystemFailure
from system.evaluation.rollouts import play_episodes
from system.planning.acting import Decision
from system.planning.history import History
from system.planning.random_policies import RandomVectors

NAME = "InvertedPendulum-v5"


@pytest.mark.parametrize(
    "name", ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "InvertedPendulum-v5", "Reacher-v5"]
)
def test_every_known_task_is_what_its_specification_says(name: str) -> None:
    task, environment = find_task(name), make_environment(name)
    observation, _ = environment.reset(seed=0)
    assert observation.shape == (task.observation_dim,)
    assert observation.dtype == np.float32
    assert environment.action_space.shape == (task.action_dim,)
    assert environment.action_space.low.min() == -1.0
    assert environment.action_space.high.max() == 1.0
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == task.max_episode_steps
    environment.close()


def test_an_unknown_environment_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="Hopper-v5"):
        find_task("Hoper-v5")


def test_a_batch_steps_like_single_environments() -> None:
    batch = EnvironmentBatch(NAME, 3)
    singles = [make_environment(NAME) for _ in range(3)]
    seeds = [5, 6, 7]
    together = batch.reset([0, 1, 2], seeds)
    alone = np.stack([each.reset(seed=seed)[0] for each, seed in zip(singles, seeds, strict=True)])
    assert np.array_equal(together, alone)
    generator = np.random.default_rng(0)
    for _ in range(4):
        actions = generator.uniform(-1, 1, size=(3, 1)).astype(np.float32)
        observations, rewards, terminated, truncated = batch.step(actions, np.ones(3, dtype=bool))
        for row, single in enumerate(singles):
            observation, reward, ended, cut, _ = single.step(actions[row])
            assert np.array_equal(observations[row], observation)
            assert (rewards[row], terminated[row], truncated[row]) == (np.float32(reward), ended, cut)
    batch.close()


def test_inactive_environments_are_left_alone() -> None:
    batch = EnvironmentBatch(NAME, 2)
    first = batch.reset([0, 1], [1, 1])
    assert np.array_equal(first[0], first[1])
    actions = np.full((2, 1), 0.1, dtype=np.float32)
    moved = batch.step(actions, np.array([True, False]))[0]
    assert not moved[1].any()
    caught_up = batch.step(actions, np.array([False, True]))[0]
    assert np.array_equal(moved[0], caught_up[1])
    batch.close()


def test_actions_that_are_not_finite_or_of_another_shape_are_refused() -> None:
    batch = EnvironmentBatch(NAME, 2)
    batch.reset([0, 1], [1, 2])
    with pytest.raises(PlannerError, match="environment 1"):
        batch.step(np.array([[0.0], [np.nan]], dtype=np.float32), np.ones(2, dtype=bool))
    with pytest.raises(ShapeError):
        batch.step(np.zeros((3, 1), dtype=np.float32), np.ones(3, dtype=bool))
    batch.close()


class Failing(gymnasium.Wrapper):
    """Fails once, at its third step."""

    failures_left = 1

    def __init__(self, fail: Callable[[], tuple]) -> None:
        super().__init__(make_environment(NAME))
        self.fail = fail
        self.count = 0

    def step(self, action: np.ndarray) -> tuple:
        self.count += 1
        if self.count == 3 and Failing.failures_left:
            Failing.failures_left -= 1
            return self.fail()
        return self.env.step(action)


def raise_error() -> tuple:
    raise RuntimeError("the simulator gave up")


def give_nan() -> tuple:
    return np.full(4, np.nan, dtype=np.float32), 1.0, False, False, {}


class NeverStarting(gymnasium.Wrapper):
    """Cannot be reset `failures_left` times, over all its instances."""

    failures_left = 0

    def __init__(self) -> None:
        super().__init__(make_environment(NAME))

    def reset(self, **options: object) -> tuple:
        if NeverStarting.failures_left:
            NeverStarting.failures_left -= 1
            raise RuntimeError("no start")
        return self.env.reset(**options)


def test_f04_a_reset_that_fails_is_tried_again_in_a_new_environment_and_given_up_after_three_attempts() -> None:
    batch, calm = EnvironmentBatch(NAME, 1, make=NeverStarting), EnvironmentBatch(NAME, 1)
    NeverStarting.failures_left = 2
    assert np.array_equal(batch.reset([0], [9]), calm.reset([0], [9]))
    assert batch.num_rebuilt == 2
    NeverStarting.failures_left = 3
    with pytest.raises(SystemFailure, match="environment 0 could not be reset"):
        batch.reset([0], [9])
    batch.close()
    calm.close()


@pytest.mark.parametrize("fail", [raise_error, give_nan])
def test_f04_f06_a_failed_environment_is_marked_and_its_neighbour_is_stepped(fail: Callable[[], tuple]) -> None:
    Failing.failures_left = 1
    batch = EnvironmentBatch(NAME, 2, make=lambda: Failing(fail))
    batch.reset([0, 1], [1, 2])
    for _ in range(2):
        batch.step(np.zeros((2, 1), dtype=np.float32), np.ones(2, dtype=bool))
        assert not batch.errors.any()
    observations, rewards, terminated, truncated = batch.step(
        np.zeros((2, 1), dtype=np.float32), np.ones(2, dtype=bool)
    )
    assert batch.errors.tolist() == truncated.tolist() == [True, False]
    assert terminated.tolist() == [False, False]
    assert not observations[0].any()
    assert (observations[1].any(), rewards.tolist()) == (True, [0.0, 1.0])
    batch.step(np.zeros((2, 1), dtype=np.float32), np.array([False, True]))
    assert not batch.errors.any(), "errors are of the last step"
    batch.close()


@pytest.mark.parametrize("fail", [raise_error, give_nan])
def test_f04_f06_an_environment_that_fails_is_rebuilt_and_costs_its_episode_alone(
    fail: Callable[[], tuple],
) -> None:
    Failing.failures_left = 1
    batch = EnvironmentBatch(NAME, 2, make=lambda: Failing(fail))
    play = play_episodes(
        RandomVectors(1), batch, [1, 2, 3, 4], history_length=2, generator=torch.Generator().manual_seed(0)
    )
    assert play.num_dropped == 1
    assert batch.num_rebuilt == 1
    assert len(play.episodes) == 3
    assert all(np.isfinite(each.episode.observations).all() for each in play.episodes)
    batch.close()


@dataclass
class Scripted:
    """Always the same action; remembers what it was shown."""

    value: float = 0.0
    seen: list[np.ndarray] = field(default_factory=list)

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        self.seen.append(history.observations[rows, -1].copy())
        return Decision(np.full((len(rows), 1), self.value, dtype=np.float32))


def play(count: int, seeds: list[int], limit: int | None) -> list:
    batch = EnvironmentBatch(NAME, count, max_episode_steps=limit)
    result = play_episodes(Scripted(), batch, seeds, history_length=3, generator=torch.Generator())
    batch.close()
    return result.episodes


def test_episodes_do_not_depend_on_how_many_are_played_together() -> None:
    seeds = [11, 12, 13, 14, 15]
    one_by_one, together = play(1, seeds, 30), play(4, seeds, 30)
    assert [each.position for each in together] == list(range(5))
    for first, second in zip(one_by_one, together, strict=True):
        assert np.array_equal(first.episode.observations, second.episode.observations)
        assert np.array_equal(first.episode.rewards, second.episode.rewards)


def test_no_episode_begins_once_enough_steps_were_made() -> None:
    batch = EnvironmentBatch(NAME, 2, max_episode_steps=5)

    def played(most_steps: int | None) -> list[int]:
        result = play_episodes(
            Scripted(), batch, range(6), history_length=3, generator=torch.Generator(), most_steps=most_steps
        )
        assert all(each.episode.num_steps == 5 for each in result.episodes), "those that have begun are finished"
        return [each.position for each in result.episodes]

    assert played(None) == played(21) == [0, 1, 2, 3, 4, 5]
    assert played(20) == played(11) == [0, 1, 2, 3]
    assert played(1) == [0, 1]
    batch.close()


def test_the_history_says_which_episode_an_environment_is_in() -> None:
    @dataclass
    class Noting(Scripted):
        episodes: list[list[int]] = field(default_factory=list)

        def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
            self.episodes.append(history.episodes[rows].tolist())
            return super().act(history, rows, generator)

    policy, batch = Noting(), EnvironmentBatch(NAME, 2, max_episode_steps=2)
    play_episodes(policy, batch, [1, 2, 3], history_length=3, generator=torch.Generator())
    batch.close()
    assert policy.episodes == [[0, 1], [0, 1], [2], [2]]


def test_a_limit_of_ones_own_leaves_episodes_incomplete() -> None:
    (played,) = play(1, [1], 3)
    assert played.episode.num_steps == 3
    assert (played.episode.terminated, played.episode.truncated, played.episode.complete) == (False, True, False)


def test_the_history_holds_the_newest_steps_and_marks_what_was_before() -> None:
    history = History(2, 3, 4, 1)
    history.reset([0, 1], np.ones((2, 4), dtype=np.float32))
    assert history.valid.tolist() == [[False, False, True]] * 2
    active = np.array([True, False])
    history.append(np.full((2, 1), 0.5, np.float32), np.full((2, 4), 2.0, np.float32), active)
    assert history.valid.tolist() == [[False, True, True], [False, False, True]]
    assert history.steps.tolist() == [1, 0]
    context = history.context(np.array([0]), torch.zeros(1), 2)
    assert context.observations[0, :, 0].tolist() == [1.0, 2.0]
    assert context.actions[0, :, 0].tolist() == [0.5]
