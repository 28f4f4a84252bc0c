"""The model's open-loop error, with stand-ins for the model whose error is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from configs import masked_config

from system.data.store.episodes import EpisodeStore
from system.decisions import Context
from system.families.masked_trajectory import guidance
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.open_loop import OpenLoopError, open_loop_error
from system.families.masked_trajectory.plan_imagination import Expectations
from system.types import Episode, TaskSpec

TASK = TaskSpec("Toy-v0", observation_dim=2, action_dim=1, max_episode_steps=12)
CONFIG = masked_config(
    model=ModelConfig(context_length=5, width=8, encoder_layers=1, decoder_layers=1, num_heads=1)
)
OBSERVATION_STD = torch.tensor([0.5, 4.0])
REWARD_STD = 3.0
HORIZON = 4

Predict = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def advance(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """o′ = M o + a."""
    return observation @ torch.tensor([[0.9, 0.2], [-0.3, 0.8]]) + action


def reward_of(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """r = o[0] − 2 a."""
    return observation[..., 0] - 2.0 * action[..., 0]


def make_store(lengths: tuple[int, ...] = (12, 4, 3, 7)) -> EpisodeStore:
    """Episodes of the dynamics above, from random starts under random actions."""
    episodes = []
    for index, length in enumerate(lengths):
        generator = np.random.default_rng(index)
        actions = torch.tensor(generator.uniform(-1, 1, size=(length, 1)), dtype=torch.float32)
        observations = [torch.tensor(generator.normal(size=2), dtype=torch.float32)]
        for action in actions:
            observations.append(advance(observations[-1], action))
        stacked = torch.stack(observations)
        episodes.append(
            Episode(
                observations=stacked.numpy(),
                actions=actions.numpy(),
                rewards=reward_of(stacked[:-1], actions).numpy(),
                terminated=True,
                truncated=False,
                complete=True,
            )
        )
    return EpisodeStore.from_episodes(episodes, discount=0.9)


def measure(
    predict: Predict, store: EpisodeStore | None = None, *, seed: int = 0, horizon: int = HORIZON
) -> OpenLoopError | None:
    """The error of a model that predicts `predict(current observation, actions)`: observations and rewards."""
    agent = TrajectoryAgent(TASK, CONFIG)
    agent.model.observation_std.copy_(OBSERVATION_STD)
    agent.model.reward_scale.copy_(torch.tensor([7.0, REWARD_STD]))

    def imagine(model: object, context: Context, plans: torch.Tensor, modalities: object) -> Expectations:
        check_history(context)
        states, rewards = predict(context.observations[:, -1], plans[:, 0])
        return Expectations(states[:, None], torch.zeros_like(rewards)[:, None], rewards[:, None])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guidance, "imagine_plans", imagine)
        return open_loop_error(
            agent,
            make_store() if store is None else store,
            discount=0.9,
            horizon=horizon,
            num_starts=64,
            seed=seed,
        )


def check_history(context: Context) -> None:
    """What the model is told of the past is what happened, and nothing of before the episode."""
    before, after = context.observations[:, :-1], context.observations[:, 1:]
    known = context.valid[:, :-1]
    torch.testing.assert_close(advance(before, context.actions)[known], after[known])
    assert context.valid[:, -1].all()
    assert not before[~known].any()


def perfect(current: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    observations = [current]
    for step in range(actions.shape[1] - 1):
        observations.append(advance(observations[-1], actions[:, step]))
    states = torch.stack(observations, dim=1)
    return states, reward_of(states, actions)


def unmoved(current: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return current[:, None].expand(-1, actions.shape[1], -1), torch.zeros(actions.shape[:2])


def test_a_perfect_model_makes_no_error() -> None:
    error = measure(perfect)
    assert error is not None
    assert error.states.shape == error.unchanged.shape == (HORIZON - 1,)
    assert error.rewards.shape == (HORIZON,)
    assert error.states == pytest.approx(np.zeros(HORIZON - 1), abs=1e-5)
    assert error.rewards == pytest.approx(np.zeros(HORIZON), abs=1e-5)
    assert error.unchanged.min() > 0.1
    assert error.imagined == pytest.approx(error.real, abs=1e-5)
    assert error.real.shape == (HORIZON, 2)


def test_a_model_that_predicts_no_change_is_the_naive_guess() -> None:
    error = measure(unmoved)
    assert error is not None
    assert error.states == pytest.approx(error.unchanged, rel=1e-6)
    assert error.states.min() > 0.1
    assert error.imagined == pytest.approx(np.repeat(error.real[:1], HORIZON, axis=0))


def test_errors_are_root_mean_squares_in_standard_deviations() -> None:
    """One dimension is off by its standard deviation at every step, rewards by half of theirs, each way."""

    def off(current: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, rewards = perfect(current, actions)
        sign = torch.where(torch.arange(len(current)) % 2 == 0, 1.0, -1.0)[:, None]
        states = states.clone()
        states[..., 1] += sign * OBSERVATION_STD[1]
        return states, rewards + 0.5 * sign * REWARD_STD

    error = measure(off)
    assert error is not None
    assert error.states == pytest.approx(np.full(HORIZON - 1, np.sqrt(0.5)), rel=1e-4)
    assert error.rewards == pytest.approx(np.full(HORIZON, 0.5), rel=1e-4)


def test_the_naive_guess_is_measured_against_the_recorded_steps() -> None:
    """An episode as long as the horizon has one window: its own start."""
    store = make_store((HORIZON,))
    error = measure(perfect, store)
    assert error is not None
    observations = store.observations[:HORIZON]
    assert error.real == pytest.approx(observations)
    steps = (observations[1:] - observations[0]) / OBSERVATION_STD.numpy()
    assert error.unchanged == pytest.approx(np.sqrt(np.square(steps).mean(axis=1)), rel=1e-5)


def test_windows_are_drawn_by_the_seed() -> None:
    first, again, other = (measure(unmoved, seed=seed) for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.states.tolist() == again.states.tolist()
    assert first.states.tolist() != other.states.tolist()


def test_every_window_that_fits_is_drawn() -> None:
    store = make_store((HORIZON + 2,))
    errors = [measure(perfect, store, seed=seed) for seed in range(25)]
    starts = {tuple(error.real[0].tolist()) for error in errors if error is not None}
    assert starts == {tuple(observation.tolist()) for observation in store.observations[:3]}


def test_the_window_may_be_all_future() -> None:
    error = measure(perfect, horizon=CONFIG.context_length)
    assert error is not None
    assert error.states == pytest.approx(np.zeros(CONFIG.context_length - 1), abs=1e-5)


def test_episodes_shorter_than_the_horizon_say_nothing() -> None:
    assert measure(perfect, make_store((3, 2))) is None
    assert measure(perfect, make_store().select([])) is None
