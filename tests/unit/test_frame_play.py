"""Whole episodes played on frames: what is observed, remembered and recorded."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import gymnasium
import numpy as np
import pytest
import torch

from system.decisions import Plan
from system.envs.vector import EnvironmentBatch
from system.evaluation import rollouts
from system.evaluation.rollouts import play_episodes
from system.planning.acting import Decision
from system.planning.history import History
from system.types import Episode

PONG = "ALE/Pong-v5"
VALID = (0, 1, 3, 4, 11, 12)


class Counter(gymnasium.Env):
    """Shows its seed and a count of its steps; the score is the action. Ends after seed modulo 5 + 2 steps."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.start, self.count = int(seed or 0), 0
        return self.frame(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        return self.frame(), float(action), self.count == self.start % 5 + 2, False, {}

    def frame(self) -> np.ndarray:
        frame = np.full((84, 84), self.start, dtype=np.uint8)
        frame[42:] = self.count
        return frame


class Fragile(Counter):
    """Fails at its second step, where its seed is 13."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.start == 13 and self.count == 1:
            raise RuntimeError("the emulator gave up")
        return super().step(action)


@dataclass
class Encoder:
    """Four corners of a frame as its tokens; remembers how many frames it was given."""

    num_frames: int = 0

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        self.num_frames += len(frames)
        return frames[:, ::83, ::83].reshape(len(frames), 4).astype(np.int16)


@dataclass
class Alternating:
    """Valid actions in turn, by the number of steps; remembers the contexts it was shown."""

    seen: list = field(default_factory=list)

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        self.seen.append((rows.copy(), history.token_context(rows, 3, 39, torch.ones(18, dtype=torch.bool))))
        return Decision(np.asarray(VALID)[history.steps[rows] % len(VALID)])


def play(
    count: int,
    seeds: list[int],
    *,
    policy: Alternating | None = None,
    perceive: Callable[[np.ndarray], np.ndarray] | None = None,
    make: Callable[[], gymnasium.Env] = Counter,
) -> tuple[list[Episode], int]:
    batch = EnvironmentBatch(PONG, count, make=make)
    result = play_episodes(
        policy or Alternating(),
        batch,
        seeds,
        history_length=3,
        generator=torch.Generator(),
        perceive=perceive or Encoder(),
    )
    batch.close()
    return [each.episode for each in result.episodes], result.num_dropped


def test_an_episode_holds_tokens_frames_and_numbers_of_actions() -> None:
    (episode,), _ = play(1, [12])
    assert (episode.observations.shape, episode.observations.dtype) == ((5, 4), np.int16)
    assert episode.frames is not None
    assert (episode.frames.shape, episode.frames.dtype) == ((5, 84, 84), np.uint8)
    assert np.array_equal(Encoder()(episode.frames), episode.observations)
    assert episode.frames[:, -1, 0].tolist() == [0, 1, 2, 3, 4]
    assert (episode.actions.tolist(), episode.actions.dtype) == ([0, 1, 3, 4], np.int64)
    assert episode.rewards.tolist() == [0.0, 1.0, 3.0, 4.0]
    assert (episode.terminated, episode.complete, episode.game) == (True, True, 39)


def test_each_frame_is_perceived_once_when_it_arrives() -> None:
    encoder = Encoder()
    episodes, _ = play(3, [10, 11, 12, 13, 14, 15], perceive=encoder)
    assert encoder.num_frames == sum(episode.num_steps + 1 for episode in episodes)


def test_a_decision_takes_as_long_as_perceiving_and_deciding(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(rollouts.time, "perf_counter", lambda: clock.now)
    batch = EnvironmentBatch(PONG, 1, make=Counter)
    result = play_episodes(
        clock, batch, [11], history_length=3, generator=torch.Generator(), perceive=clock.perceive
    )
    assert result.decision_seconds == [11.0, 11.0, 11.0]
    batch.close()


@dataclass
class Clock:
    """Time passes by perceiving, 10 seconds, and by deciding, 1 second."""

    now: float = 0.0

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        self.now += 1.0
        return Decision(np.full(len(rows), 3))

    def perceive(self, frames: np.ndarray) -> np.ndarray:
        self.now += 10.0
        return Encoder()(frames)


def test_frames_are_what_is_observed_where_nothing_perceives_them() -> None:
    batch = EnvironmentBatch(PONG, 1, make=Counter)
    result = play_episodes(RightOnly(), batch, [11], history_length=2, generator=torch.Generator())
    episode = result.episodes[0].episode
    assert episode.frames is None
    assert (episode.observations.shape, episode.observations.dtype) == ((4, 84, 84), np.uint8)
    batch.close()


class RightOnly:
    """Always the same action."""

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        return Decision(np.full(len(rows), 3))


def test_episodes_do_not_depend_on_how_many_are_played_together() -> None:
    seeds = [21, 20, 24, 22, 23]
    (one_by_one, _), (together, _) = play(1, seeds), play(3, seeds)
    assert len(one_by_one) == len(together) == 5
    for first, second in zip(one_by_one, together, strict=True):
        assert np.array_equal(first.observations, second.observations)
        assert np.array_equal(first.actions, second.actions)
        assert np.array_equal(first.frames, second.frames)


def test_the_policy_is_shown_tokens_of_the_right_environments() -> None:
    policy = Alternating()
    play(2, [20, 23], policy=policy)
    rows, context = policy.seen[2]
    assert rows.tolist() == [1], "the first episode is over after two steps"
    assert context.tokens[0].tolist() == [[23, 23, 0, 0], [23, 23, 1, 1], [23, 23, 2, 2]]
    assert context.actions.tolist() == [[0, 1]]
    assert context.valid.tolist() == [[True, True, True]]
    first = policy.seen[0][1]
    assert first.tokens[1].tolist() == [[0] * 4, [0] * 4, [23, 23, 0, 0]]
    assert first.valid.tolist() == [[False, False, True]] * 2
    assert first.game.tolist() == [39, 39]
    assert (first.tokens.dtype, first.actions.dtype) == (torch.int64, torch.int64)
    assert first.valid_actions.shape == (2, 18)


def test_a_context_may_be_shorter_than_what_is_remembered() -> None:
    history = History(1, 4, 2, (), observation_dtype=np.int16, action_dtype=np.int64)
    history.reset([0], np.array([[1, 1]], dtype=np.int16))
    for step in (2, 3, 4):
        history.append(np.array([10 * step]), np.array([[step, step]], dtype=np.int16), np.ones(1, dtype=bool))
    context = history.token_context(np.array([0]), 2, 5, torch.tensor([True, False]))
    assert context.tokens.tolist() == [[[3, 3], [4, 4]]]
    assert context.actions.tolist() == [[40]]
    assert (context.game.tolist(), context.valid_actions.tolist()) == ([5], [[True, False]])
    assert history.token_context(np.array([0]), 1, 5, torch.tensor([True])).actions.shape == (1, 0)


class Unscored(Counter):
    """Gives no number for a reward at its second step, where its seed is 13."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        frame, reward, *ends = super().step(action)
        return frame, float("nan") if self.start == 13 and self.count == 2 else reward, *ends


@pytest.mark.parametrize("make", [Fragile, Unscored])
def test_f04_f06_an_environment_that_fails_costs_its_own_episode(make: Callable[[], gymnasium.Env]) -> None:
    calm, _ = play(2, [12, 14])
    episodes, num_dropped = play(2, [12, 13, 14], make=make)
    assert num_dropped == 1
    assert len(episodes) == 2
    for first, second in zip(calm, episodes, strict=True):
        assert np.array_equal(first.observations, second.observations)
        assert np.array_equal(first.frames, second.frames)


@dataclass
class Planning:
    """Plans with a first action that search has given up."""

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        count = len(rows)
        plan = Plan(
            action=torch.zeros(count, dtype=torch.int64),
            first_actions=torch.arange(3).expand(count, 3),
            probabilities=torch.tensor([0.25, 0.75, 0.0]).expand(count, 3),
            utilities=torch.tensor([4.0, 8.0, -torch.inf]).expand(count, 3),
            selected=torch.zeros(count, dtype=torch.int64),
        )
        return Decision(plan.action.numpy(), plan)


def test_the_expected_utility_leaves_out_actions_that_search_has_given_up() -> None:
    batch = EnvironmentBatch(PONG, 1, make=Counter)
    result = play_episodes(
        Planning(), batch, [11], history_length=2, generator=torch.Generator(), perceive=Encoder()
    )
    assert result.episodes[0].first_utility == pytest.approx(7.0)
    batch.close()


def test_real_games_are_recorded_as_they_can_be_played_again() -> None:
    batch = EnvironmentBatch(PONG, 2, max_episode_steps=6, noop_max=30)
    result = play_episodes(
        Alternating(), batch, [1, 2], history_length=3, generator=torch.Generator(), perceive=Encoder()
    )
    for played, seed in zip(result.episodes, [1, 2], strict=True):
        episode = replace(played.episode)
        assert (episode.truncated, episode.complete) == (True, False), "the limit is not the game's own"
        again = [batch.reset([0], [seed])[0]]
        for action in episode.actions:
            again.append(batch.step(np.array([action, 0]), np.array([True, False]))[0][0])
        assert np.array_equal(episode.frames, np.stack(again))
    batch.close()
