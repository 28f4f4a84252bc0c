"""robosuite's Lift behind Gymnasium's interface, with a stand-in for robosuite, which wants another MuJoCo."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from system.cli.options import PRESETS
from system.config import RunConfig
from system.config.loading import load_config
from system.envs import manipulation

SIZES = {"object-state": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


class Task:
    """Shows its parts in another order, and pays from the third step on."""

    action_spec = (-np.ones(7), np.ones(7))

    def __init__(self) -> None:
        self.rng = self.of_the_sampler = np.random.default_rng()
        self.steps = 0

    def reset(self) -> dict[str, Any]:
        self.steps = 0
        self.drawn = float(self.of_the_sampler.random()), float(np.random.random())
        return self.shown()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, dict[str, Any]]:
        self.steps += 1
        return self.shown(), float(self.steps >= 3), False, {}

    def shown(self) -> dict[str, Any]:
        parts = {name: np.full(size, index + self.steps) for index, (name, size) in enumerate(SIZES.items())}
        return {"camera": np.zeros((2, 2)), **dict(reversed(parts.items()))}


@pytest.fixture
def robosuite(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("robosuite")
    package.make = lambda *args, **kwargs: Task()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "robosuite", package)
    monkeypatch.setitem(sys.modules, "mujoco", SimpleNamespace(MjData=SimpleNamespace(qM=None)))  # type: ignore


@pytest.mark.usefixtures("robosuite")
def test_an_episode_ends_some_steps_after_the_cube_was_lifted() -> None:
    environment = gymnasium.make(manipulation.LIFT)
    observation, _ = environment.reset(seed=0)
    np.testing.assert_array_equal(observation, np.repeat([0.0, 1.0, 2.0, 3.0], list(SIZES.values())))
    assert environment.observation_space.contains(observation)
    rewards, ended = [], False
    while not ended:
        observation, reward, terminated, truncated, _ = environment.step(environment.action_space.sample())
        rewards.append(reward)
        ended = terminated or truncated
    assert rewards == [0.0] * 2 + [1.0] * manipulation.AFTER_SUCCESS
    assert terminated and not truncated
    environment.reset(seed=1)
    assert not environment.step(environment.action_space.sample())[2]


@pytest.mark.usefixtures("robosuite")
def test_a_seed_is_a_start_and_what_others_draw_is_left_alone() -> None:
    """Some versions of robosuite draw from their own generator, others from everyone's."""
    environment = manipulation.Lift()
    np.random.seed(0)
    expected = np.random.random(4)
    np.random.seed(0)

    def start(seed: int | None) -> tuple[float, float]:
        environment.reset(seed=seed)
        return environment._task.drawn

    drawn = [start(seed) for seed in (3, None, 3, 4)]
    assert drawn[0] == drawn[2]
    assert len({*drawn}) == len({own for own, _ in drawn}) == len({everyones for _, everyones in drawn}) == 3
    np.testing.assert_array_equal(np.random.random(4), expected)


@pytest.mark.skipif(hasattr(mujoco.MjData, "qM"), reason="this MuJoCo is one that robosuite works with")
def test_where_it_cannot_work_it_says_how_it_could() -> None:
    with pytest.raises(ImportError, match=r"mujoco .*; in a virtual environment of its own: pip install"):
        manipulation.Lift()


def test_the_preset_asks_for_the_parts_that_the_environment_shows() -> None:
    config = load_config(RunConfig, "lift", presets=PRESETS)
    assert [key.replace("object", "object-state") for key in config.dataset.observation_keys] == list(SIZES)
    assert config.environment.id == manipulation.LIFT
    assert config.environment.reference_max == manipulation.AFTER_SUCCESS
