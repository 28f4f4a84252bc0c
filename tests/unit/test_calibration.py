"""Predicted against real error by tenth, and errors by steps ahead, of a world whose errors are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from system.data.store.episodes import EpisodeStore
from system.families.imagination.diagnostics import calibration, open_loop_error
from system.models.probabilistic_ensemble import Foresight
from tests.support.tiny_imagination import in_known_world, tiny_agent, tiny_config, tiny_store

CONFIG = tiny_config()


def counting_store(length: int) -> EpisodeStore:
    """States that grow by one a step."""
    store = tiny_store(length)
    return store.with_observations(np.arange(length + 1, dtype=np.float32)[:, None].repeat(3, 1))


def test_disagreement_and_errors_are_means_of_tenths_in_order() -> None:
    """Members err, and disagree, the more the larger the state: the least tenth comes first."""
    store = counting_store(40)
    agent = tiny_agent(CONFIG, store)
    world = in_known_world(agent)
    std = agent.world.observation_std[0].item()

    def foresee(observations: torch.Tensor, actions: torch.Tensor) -> Foresight:
        off = 0.1 * (40.0 - observations[..., :1])
        following = observations + 1.0 + off
        return Foresight(
            torch.stack([following - off, following + off]),
            torch.ones(2, *observations.shape),
            torch.zeros_like(observations[..., 0]),
            torch.zeros_like(observations[..., 0]),
        )

    world.forward = foresee  # type: ignore[method-assign]
    found = calibration(agent, store)
    assert found is not None
    errors = 0.1 * np.arange(1.0, 41.0)
    np.testing.assert_allclose(found.error, (errors / std).reshape(10, 4).mean(1), rtol=1e-4)
    predicted = np.sqrt(1.0 + errors**2) / std
    np.testing.assert_allclose(found.predicted, predicted.reshape(10, 4).mean(1), rtol=1e-4)
    assert (np.diff(found.disagreement) > 0).all()
    assert found.correlation == pytest.approx(1.0)
    assert calibration(agent, store.select([])) is None


def test_errors_by_steps_ahead_add_up() -> None:
    store = counting_store(12)
    agent = tiny_agent(CONFIG, store)
    in_known_world(agent, step=1.5)
    std = agent.world.observation_std[0].item()
    agent.world.reward_scale = torch.tensor([0.0, 1.0])
    found = open_loop_error(agent, store, 3)
    np.testing.assert_allclose(found["states"], np.array([0.5, 1.0, 1.5]) / std, rtol=1e-4)
    np.testing.assert_allclose(found["unchanged"], np.array([1.0, 2.0, 3.0]) / std, rtol=1e-4)
    assert found["rewards"].shape == (3,)
    assert open_loop_error(agent, store, 13) == {}


def test_the_family_draws_both(tmp_path: Path) -> None:
    from system.data.prepared import PreparedData
    from system.families.imagination.diagnostics import diagnose

    store = tiny_store(8, 9)
    agent = tiny_agent(CONFIG, store)
    data = PreparedData((agent.task,), store, store, {}, 0, {})
    curves = diagnose(agent, data, CONFIG, tmp_path, "offline")
    assert {len(each) for name, each in curves.items() if name.endswith("decile")} == {10}
    assert len(curves["states"]) == 2
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "calibration_offline.png",
        "open_loop_error_offline.png",
    ]
    empty = PreparedData((agent.task,), store, store.select([]), {}, 0, {})
    assert diagnose(agent, empty, CONFIG, tmp_path, "online") == {}
