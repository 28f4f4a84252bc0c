"""What a model can do by name: every held-out window counted once, in variances, against plain guesses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from configs import masked_config

from system.config import PlannerConfig
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore
from system.data.store.statistics import compute_statistics
from system.evaluation.capability_summary import capability_record, format_capabilities, ratio_interval
from system.families.masked_trajectory import capabilities
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.capabilities import measure_capability
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.masks import ACTIONS, RETURNS, REWARDS, STATES, TASK_MASKS
from system.families.masked_trajectory.model import Tokens
from system.types import Episode, PredictionErrors, TaskSpec

WINDOW, AHEAD = 5, 3
TASK = TaskSpec("Toy-v0", observation_dim=2, action_dim=1, max_episode_steps=20)
CONFIG = masked_config(
    model=ModelConfig(context_length=WINDOW, width=8, encoder_layers=1, decoder_layers=1, num_heads=1),
    planner=PlannerConfig(name="forward_mpc", horizon=AHEAD),
)


def episode(length: int, seed: int, speed: float = 0.0) -> Episode:
    """A straight line at a speed, or noise."""
    generator = np.random.default_rng(seed)
    line = np.arange(length + 1, dtype=np.float32)[:, None] * np.array([speed, -speed], np.float32)
    noise = 0.0 if speed else generator.normal(size=(length + 1, 2))
    return Episode(
        observations=(line + noise).astype(np.float32),
        actions=generator.uniform(-1, 1, size=(length, 1)).astype(np.float32),
        rewards=generator.normal(size=length).astype(np.float32),
        terminated=True,
        truncated=False,
        complete=True,
    )


def prepared(*held_out: Episode) -> PreparedData:
    training = EpisodeStore.from_episodes([episode(9, 10 + seed) for seed in range(4)], discount=0.9)
    validation = EpisodeStore.from_episodes(held_out, discount=0.9)
    return PreparedData((TASK,), training, validation, compute_statistics(training, 20), 0, {})


@pytest.fixture(scope="module")
def agent() -> TrajectoryAgent:
    torch.manual_seed(0)
    agent = TrajectoryAgent(TASK, CONFIG).eval()
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    agent.set_statistics(prepared(episode(4, 0)).foundation)
    return agent


def one_by_one(name: str, agent: TrajectoryAgent, data: PreparedData) -> dict[str, np.ndarray]:
    """Sums over every window of an episode, each by a pass of its own."""
    mask = TASK_MASKS[
        {"id": "inverse_dynamics", "fd": "forward_dynamics", "rp": "reward_return", "pi": "path_inference"}[name]
    ]
    current, std = WINDOW - 1 - AHEAD, agent.model.observation_std.numpy()
    variance = np.asarray(data.training.actions).var(axis=0)
    sums: dict[str, list[np.ndarray]] = {}
    for index in range(data.validation.num_episodes):
        each = data.validation.episode(index)
        returns = data.validation.returns_to_go[data.validation.step_offsets[index] :]
        totals: dict[str, np.ndarray] = {}
        for step in range(each.num_steps - AHEAD):
            past = range(step - current, step + AHEAD + 1)
            valid = [at >= 0 for at in past]
            rows = [max(at, 0) for at in past]
            tokens = Tokens(
                torch.tensor(each.observations[rows][None]),
                torch.tensor(returns[rows][None]),
                torch.tensor(each.actions[rows][None]),
                torch.tensor(each.rewards[rows][None]),
                torch.tensor([valid]),
            )
            with torch.no_grad():
                all_of_it = (STATES, RETURNS, ACTIONS, REWARDS)
                found = agent.model.reconstruct(
                    tokens, mask(WINDOW, current), first_step=current, modalities=all_of_it
                )
            truth = each.observations[step + 1 : step + AHEAD + 1]
            states = np.square((found.states[0, 1:].numpy() - truth) / std).mean(-1)
            inferred = found.actions.mode()[0, :-1].numpy()
            actions = np.square(inferred - each.actions[step : step + AHEAD]) / variance
            reward = (float(found.rewards[0, 0]) - each.rewards[step]) / float(agent.model.reward_scale[1])
            value = (float(found.returns[0, 0]) - returns[step]) / float(agent.model.return_scale[1])
            errors = {
                "id": {"actions": actions.mean(-1)},
                "fd": {"states": states},
                "pi": {"states": states[:-1]},
                "rp": {"rewards": np.array([reward**2]), "returns": np.array([value**2])},
            }[name]
            for what, error in errors.items():
                totals[what] = totals.get(what, 0.0) + error
        for what, total in totals.items():
            sums.setdefault(what, []).append(total)
    return {what: np.stack(rows) for what, rows in sums.items()}


@pytest.mark.parametrize("name", capabilities.MEASURED)
@pytest.mark.parametrize("batch", [2, 512])
def test_every_window_counts_once(
    name: str, batch: int, agent: TrajectoryAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "BATCH", batch)
    data = prepared(episode(7, 0), episode(4, 1))
    measured = {each.what: each for each in measure_capability(name, agent, data, CONFIG)}
    for what, sums in one_by_one(name, agent, data).items():
        assert np.allclose(measured[what].sums, sums, rtol=1e-3, atol=1e-4), what
        assert measured[what].counts.tolist() == [[4.0] * sums.shape[1], [1.0] * sums.shape[1]]


def test_plain_guesses_are_right_where_they_hold(agent: TrajectoryAgent) -> None:
    data = prepared(episode(8, 0, speed=0.5))
    line = {each.what: each for each in measure_capability("pi", agent, data, CONFIG)}["states on a straight line"]
    assert np.allclose(line.sums, 0.0, atol=1e-8)
    dynamics = measure_capability("fd", agent, data, CONFIG)
    still = {each.what: each for each in dynamics}["states if nothing changed"]
    std = agent.model.observation_std.numpy()
    expected = [np.square(0.5 * ahead / std).mean() for ahead in range(1, AHEAD + 1)]
    assert np.allclose(still.sums[0] / still.counts[0], expected, rtol=1e-4)


def test_episodes_too_short_for_a_window_are_not_counted(agent: TrajectoryAgent) -> None:
    data = prepared(episode(AHEAD, 0), episode(AHEAD + 1, 1))
    found = measure_capability("fd", agent, data, CONFIG)[0]
    assert found.counts.tolist() == [[0.0] * AHEAD, [1.0] * AHEAD]
    record = capability_record("offline", found)
    assert (record["episodes"], record["windows"], record["steps_ahead"]) == (1, 1, [1, 2, 3])
    assert "fd" in format_capabilities([record])


def test_the_interval_is_that_of_a_ratio_of_sums() -> None:
    """Episodes count by their windows: two kinds of episodes, so that resampled ratios can be told."""
    sums, counts = np.array([[4.0], [0.0], [1.0]]), np.array([[4.0], [0.0], [3.0]])
    low, high = ratio_interval(sums, counts)
    assert (float(low[0]), float(high[0])) == pytest.approx((1.0 / 3.0, 1.0))
    record = capability_record("offline", PredictionErrors("fd", "states", sums, counts))
    assert record["error"] == pytest.approx([5.0 / 7.0])


def test_looking_ahead_stays_within_the_window(agent: TrajectoryAgent) -> None:
    config = replace(CONFIG, planner=replace(CONFIG.planner, horizon=WINDOW))
    found = measure_capability("fd", agent, prepared(episode(9, 0)), config)[0]
    assert found.sums.shape[1] == WINDOW - 1
