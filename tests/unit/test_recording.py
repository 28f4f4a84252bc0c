"""A recording is what happened: whole episodes, executed actions, the task's own rewards."""

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest

from system.envs.recording import RecordingEnvironment, make_recorded_environment
from system.envs.registry import find_task, make_environment
from system.errors import SystemFailure
from system.types import Episode

NAME = "InvertedPendulum-v5"


def push(value: float) -> np.ndarray:
    return np.array([value], dtype=np.float32)


def play(environment: gymnasium.Env, seed: int | None, value: float = 0.5) -> tuple[np.ndarray, list[float]]:
    """Observations and rewards as the environment's user sees them, to the episode's end."""
    observations, rewards, ended = [environment.reset(seed=seed)[0]], [], False
    while not ended:
        observation, reward, terminated, truncated, _ = environment.step(push(value))
        observations.append(observation)
        rewards.append(float(reward))
        ended = terminated or truncated
    return np.stack(observations), rewards


def the_one(recording: RecordingEnvironment) -> Episode:
    ((_, episode),) = recording.drain().episodes
    return episode


def test_a_recording_holds_what_happened_whatever_the_learner_is_shown() -> None:
    shown = make_recorded_environment(find_task(NAME), reward_scale=0.1)
    recording = shown.env
    assert isinstance(recording, RecordingEnvironment)
    observations, scaled = play(shown, 3)
    assert set(scaled) == {0.0, 0.1}
    shown.reset()
    shown.step(push(0.5))
    drained = recording.drain()
    ((ended_at, episode),) = drained.episodes
    assert (ended_at, drained.env_steps, drained.num_dropped) == (len(scaled), len(scaled) + 1, 0)
    assert np.array_equal(episode.observations, observations)
    assert episode.observations.dtype == episode.actions.dtype == episode.rewards.dtype == np.float32
    assert np.array_equal(episode.actions, np.full((len(scaled), 1), 0.5))
    assert episode.rewards.tolist() == [1.0] * (len(scaled) - 1) + [0.0]
    assert (episode.terminated, episode.truncated, episode.complete) == (True, False, True)
    shown.close()


def test_what_was_drained_does_not_come_again_and_unfinished_episodes_never_come() -> None:
    recording = RecordingEnvironment(lambda: make_environment(NAME))
    observations, _ = play(recording, 1)
    length = len(observations) - 1
    assert len(recording.drain().episodes) == 1
    recording.reset(seed=2)
    recording.step(push(0.0))
    drained = recording.drain()
    assert (drained.env_steps, drained.episodes) == (1, [])
    again, _ = play(recording, 1)
    ((ended_at, episode),) = recording.drain().episodes
    assert np.array_equal(again, observations)
    assert np.array_equal(episode.observations, observations), "the step of the unfinished episode is not in it"
    assert ended_at == 2 * length + 1
    recording.close()


def test_the_tasks_own_time_limit_is_a_truncation_of_a_complete_episode() -> None:
    recording = RecordingEnvironment(lambda: make_environment(NAME, max_episode_steps=2))
    play(recording, 1, 0.0)
    episode = the_one(recording)
    assert (episode.terminated, episode.truncated, episode.complete) == (False, True, True)
    recording.close()


def test_a_fall_at_the_time_limit_is_a_termination_and_not_a_truncation() -> None:
    recording = RecordingEnvironment(lambda: make_environment(NAME))
    length = len(play(recording, 1)[1])
    recording.close()
    recording = RecordingEnvironment(lambda: make_environment(NAME, max_episode_steps=length))
    recording.reset(seed=1)
    ends = [recording.step(push(0.5))[2:4] for _ in range(length)]
    assert ends[-1] == (True, True), "the environment says both"
    episode = the_one(recording)
    assert (episode.terminated, episode.truncated, episode.complete) == (True, False, True)
    recording.close()


def test_an_array_that_its_owner_changes_later_stays_as_it_was() -> None:
    recording = RecordingEnvironment(lambda: make_environment(NAME, max_episode_steps=2))
    recording.reset(seed=1)
    action = push(0.25)
    recording.step(action)
    action[:] = -1.0
    recording.step(action)
    assert the_one(recording).actions[:, 0].tolist() == [0.25, -1.0]
    recording.close()


def test_a_step_without_an_episode_is_refused() -> None:
    recording = RecordingEnvironment(lambda: make_environment(NAME, max_episode_steps=1))
    with pytest.raises(gymnasium.error.ResetNeeded):
        recording.step(push(0.0))
    play(recording, 1, 0.0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        recording.step(push(0.0))
    recording.close()


class Failing(gymnasium.Wrapper):
    """Fails at its third step and, `resets_left` times over all its instances, when it is reset."""

    resets_left = 0

    def __init__(self, fail: Callable[[], tuple]) -> None:
        super().__init__(make_environment(NAME))
        self.fail = fail
        self.count = 0

    def reset(self, **options: object) -> tuple:
        if Failing.resets_left:
            Failing.resets_left -= 1
            raise RuntimeError("no start")
        return self.env.reset(**options)

    def step(self, action: np.ndarray) -> tuple:
        self.count += 1
        return self.fail() if self.count == 3 else self.env.step(action)


def raise_error() -> tuple:
    raise RuntimeError("the simulator gave up")


def give_nan_observation() -> tuple:
    return np.full(4, np.nan, dtype=np.float32), 1.0, False, False, {}


def give_infinite_reward() -> tuple:
    return np.zeros(4, dtype=np.float32), np.inf, False, False, {}


@pytest.mark.parametrize("fail", [raise_error, give_nan_observation, give_infinite_reward])
def test_f04_f06_an_episode_whose_environment_fails_is_left_out(fail: Callable[[], tuple]) -> None:
    made = iter([lambda: Failing(fail), lambda: make_environment(NAME)])
    recording = RecordingEnvironment(lambda: next(made)())
    observations, rewards = play(recording, 3, 0.0)
    assert np.isfinite(observations).all()
    assert rewards == [1.0, 1.0, 0.0]
    assert np.array_equal(observations[-1], observations[-2]), "the last sound observation is shown again"
    drained = recording.drain()
    assert (drained.env_steps, drained.episodes, drained.num_dropped) == (3, [], 1)
    observations, _ = play(recording, None)
    assert np.array_equal(the_one(recording).observations, observations)
    recording.close()


def test_f04_what_follows_a_failure_can_be_repeated() -> None:
    starts = []
    for seed in (3, 3, 4):
        made = iter([lambda: Failing(raise_error), lambda: make_environment(NAME)])
        recording = RecordingEnvironment(lambda made=made: next(made)())
        play(recording, seed, 0.0)
        starts.append(recording.reset()[0].tolist())
        recording.close()
    assert starts[0] == starts[1]
    assert starts[0] != starts[2]


def test_f04_a_reset_is_given_up_after_three_attempts() -> None:
    recording = RecordingEnvironment(lambda: Failing(raise_error))
    Failing.resets_left = 2
    recording.reset(seed=1)
    Failing.resets_left = 3
    with pytest.raises(SystemFailure, match="3 attempts"):
        recording.reset(seed=1)
    assert recording.drain().num_dropped == 0
    recording.close()
