"""Any environment that Gymnasium knows is a task: read off it, flattened, rescaled, or refused in one line."""

import json
from dataclasses import asdict, replace

import gymnasium
import numpy as np
import own_environments  # noqa: F401  registers them
import pytest
from gymnasium import spaces

from system.config import CollectConfig, EnvironmentConfig
from system.data.sources.minari_layout import observation_parts
from system.envs.registry import (
    Environments,
    collected_task,
    environment_specification,
    find_task,
    make_environment,
)
from system.envs.spaces import flatten, observation_slices
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError, DataError
from system.runs.loaded_agent import in_own_bounds
from system.types import TaskSpec

RESERVOIR, SWITCH = "Own/Reservoir-v0", "Own/Switch-v0"


def test_parts_of_an_observation_stand_in_alphabetical_order_and_keep_their_names() -> None:
    task = find_task(RESERVOIR)
    assert task.observation_slices == (("alarms", 0, 2), ("desired_goal", 2, 3), ("level", 3, 4))
    assert task.observation_names == ("alarms[0]", "alarms[1]", "desired_goal[0]", "level[0]")
    environment = make_environment(task)
    shown, _ = environment.reset(seed=3)
    raw, _ = gymnasium.make(RESERVOIR).reset(seed=3)
    assert shown.dtype == np.float32 and shown.shape == (4,)
    assert shown.tolist() == np.float32([*raw["alarms"], *raw["desired_goal"], *raw["level"]]).tolist()


def test_unequal_bounds_are_reached_from_the_unit_cube() -> None:
    task = find_task(RESERVOIR)
    assert (task.action_low, task.action_high) == ((-0.5, 0.0), (0.5, 2.0))
    environment = make_environment(task)
    before = environment.reset(seed=0)[0][3]
    after = environment.step(np.array([1.0, -1.0], dtype=np.float32))[0][3]
    assert after - before == pytest.approx(0.5, abs=1e-6), "all of the first valve, nothing of the second"
    assert environment.step(np.array([0.0, 1.0], dtype=np.float32))[0][3] - after == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_no_action_leaves_the_bounds_by_rounding(kind: type) -> None:
    generator = np.random.default_rng(0)
    ends = np.float32([[1.0, -1.0], [-1.0, 1.0]])
    for _ in range(20):
        low = generator.uniform(-3.0, 1.0, 2).astype(kind)
        high = (low + generator.uniform(0.1, 4.0, 2)).astype(kind)
        space = spaces.Box(low, high, dtype=kind)
        task = find_task("Own/Strict-v0", EnvironmentConfig(kwargs={"action_space": space}))
        batch = EnvironmentBatch(task, 2)
        batch.reset([0, 1], [0, 1])
        batch.step(ends, np.ones(2, dtype=bool))
        assert not batch.errors.any(), (low, high)
        taken = in_own_bounds(task, ends).astype(np.float64)
        assert (taken >= low).all() and (taken <= high).all(), (low, high)
        reached = np.array([[high[0], low[1]], [low[0], high[1]]], dtype=np.float64)
        assert taken == pytest.approx(reached, rel=1e-6, abs=1e-6)


def test_discrete_actions_count_from_0_here_and_from_their_start_there() -> None:
    task = find_task(SWITCH)
    assert (task.action_dim, task.valid_actions, task.action_start) == (3, (0, 1, 2), 5)
    batch = EnvironmentBatch(task, 3)
    batch.reset([0, 1, 2], [0, 1, 2])
    shown, rewards, _, _ = batch.step(np.array([0, 1, 2]), np.ones(3, dtype=bool))
    assert not batch.errors.any()
    assert shown.dtype == np.float32 and shown[:, 1].tolist() == [5.0, 6.0, 7.0]
    assert rewards.tolist() == [0.0, 1.0, 0.0]


def test_keyword_arguments_and_a_time_limit_come_from_the_configuration() -> None:
    config = EnvironmentConfig(kwargs={"goal": 4.0}, max_episode_steps=3, reference_min=-9.0, reference_max=0.0)
    task = find_task(RESERVOIR, config)
    assert (task.max_episode_steps, task.reference_min, task.reference_max) == (3, -9.0, 0.0)
    batch = EnvironmentBatch(task, 1)
    assert batch.reset([0], [0])[0, 2] == 4.0
    still = np.zeros((1, 2), dtype=np.float32)
    ends = [bool(batch.step(still, np.ones(1, dtype=bool))[3][0]) for _ in range(3)]
    assert ends == [False, False, True]
    assert json.loads(environment_specification(task))["kwargs"] == {"goal": 4.0}
    assert find_task(RESERVOIR).environment_kwargs == {}


def test_the_registered_specification_keeps_its_own_arguments() -> None:
    environment_specification(find_task(RESERVOIR, EnvironmentConfig(kwargs={"goal": 4.0})))
    assert gymnasium.spec(RESERVOIR).kwargs == {}


@pytest.mark.parametrize("name", [RESERVOIR, SWITCH, "Hopper-v5", "ALE/Pong-v5"])
def test_a_task_survives_json(name: str) -> None:
    task = find_task(name, EnvironmentConfig(kwargs={"goal": 2.0}) if name == RESERVOIR else None)
    assert TaskSpec.from_dict(json.loads(json.dumps(asdict(task)))) == task


def test_a_task_of_an_earlier_version_is_read() -> None:
    """As a checkpoint held it before environments had arguments, starts, slices and bounds of their own."""
    known = asdict(find_task("InvertedPendulum-v5"))
    for later in ("action_start", "observation_slices", "environment_kwargs", "has_environment"):
        known.pop(later)
    assert TaskSpec.from_dict(known) == find_task("InvertedPendulum-v5")


def test_a_small_grid_of_bytes_is_a_vector_and_not_a_picture() -> None:
    cells = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    assert observation_slices("Grid-v0", spaces.Dict({"cells": cells, "facing": spaces.Discrete(4)})) == (
        ("cells", 0, 147),
        ("facing", 147, 151),
    )
    shown = np.arange(147, dtype=np.uint8).reshape(7, 7, 3)
    assert flatten(cells, shown).tolist() == list(range(147))
    assert observation_parts("grid/v0", {"type": "Box", "dtype": "uint8", "shape": [7, 7, 3]})[0].dim == 147
    with pytest.raises(DataError, match="observation_space is a Box"):
        observation_parts("grid/v0", {"type": "Box", "dtype": "uint8", "shape": [84, 84, 3]})


@pytest.mark.parametrize(
    ("part", "space", "message"),
    [
        (
            "observation_space",
            spaces.Box(0, 255, (84, 84, 3), np.uint8),
            "pictures are served of Atari games only",
        ),
        ("observation_space", spaces.Text(5), "observation space Text"),
        (
            "observation_space",
            spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))}),
            "observation a space Sequence",
        ),
        ("observation_space", spaces.Tuple((spaces.Discrete(2),)), "observation space Tuple"),
        ("action_space", spaces.MultiDiscrete([2, 3]), "action space MultiDiscrete"),
        ("action_space", spaces.Box(-np.inf, np.inf, (2,)), "a bound is infinite or empty here"),
        ("action_space", spaces.Box(0, 5, (2,), np.int64), "bounded Box of floats and Discrete are"),
    ],
)
def test_spaces_that_cannot_be_handled_are_named(part: str, space: gymnasium.Space, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        find_task("Own/Strange-v0", EnvironmentConfig(kwargs={part: space}))
    assert str(refusal.value).startswith("environment Own/Strange-v0: ")
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        (
            "Hoper-v5",
            EnvironmentConfig(),
            "environment 'Hoper-v5' is not known to Gymnasium; did you mean 'Hopper-v",
        ),
        ("os:Anything-v0", EnvironmentConfig(), "is not known to Gymnasium; `modules` names modules"),
        ("Own/Endless-v0", EnvironmentConfig(), "has no time limit; set environment.max_episode_steps"),
        (RESERVOIR, EnvironmentConfig(kwargs={"gaol": 1.0}), "cannot be made: TypeError"),
    ],
)
def test_environments_that_cannot_be_had_are_named(name: str, config: EnvironmentConfig, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        find_task(name, config)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_time_limit_may_be_given_to_one_that_has_none() -> None:
    task = find_task("Own/Endless-v0", EnvironmentConfig(max_episode_steps=4))
    assert task.max_episode_steps == 4


def test_data_may_name_what_is_known_and_nothing_else() -> None:
    environments = Environments()
    assert environments.get(SWITCH) == find_task(SWITCH)
    assert environments.get("own_environments:Switch-v1") is None
    assert environments.get("Nothing-v0") is None


def test_data_say_how_their_environment_was_made_unless_the_configuration_does() -> None:
    recorded = {"goal": 4.0, "render_mode": "rgb_array"}
    assert Environments().get(RESERVOIR, recorded, 7) == find_task(
        RESERVOIR, EnvironmentConfig(kwargs={"goal": 4.0}, max_episode_steps=7)
    )
    own = EnvironmentConfig(kwargs={"goal": 2.0}, max_episode_steps=3)
    assert Environments(own).get(RESERVOIR, {**recorded, "file": "/etc/passwd"}, 7) == find_task(RESERVOIR, own)


@pytest.mark.parametrize("value", ["/etc/passwd", "..", {"path": "model.xml"}, [["a/b"]], "x" * 80, [[[[[0]]]]]])
def test_data_give_no_path_and_no_structure_to_an_environment(value: object) -> None:
    with pytest.raises(ConfigError, match=r"environment\.kwargs: .file. = .* is not taken from data"):
        Environments().get(RESERVOIR, {"file": value})


def test_references_are_established_ones_alone() -> None:
    assert find_task("Hopper-v4").reference_max == find_task("Hopper-v5").reference_max == 3234.3
    assert find_task("Ant-v5").reference_max is None
    assert find_task("Ant-v5").normalized(100.0) is None


def test_a_task_whose_modules_were_not_imported_says_what_to_name() -> None:
    """As a checkpoint holds it, for whoever evaluates it without the key `modules`."""
    with pytest.raises(ConfigError, match=r"'Own/Gone-v0' is not known to Gymnasium; .*`modules` names modules"):
        make_environment(replace(find_task(SWITCH), environment_id="Own/Gone-v0"))


def test_where_there_is_no_simulator_nothing_is_made() -> None:
    with pytest.raises(ConfigError, match="has no simulator"):
        make_environment(replace(find_task(SWITCH), has_environment=False))


def test_an_environment_without_a_time_limit_is_collected_in_with_one_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"has no time limit; set .*environment_max_episode_steps"):
        collected_task(CollectConfig(environment="Own/Endless-v0"))
    task = collected_task(CollectConfig(environment="Own/Endless-v0", environment_max_episode_steps=7))
    assert task.max_episode_steps == 7
