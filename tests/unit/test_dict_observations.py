"""Observations with named parts, as an environment shows them, handed to a loaded agent."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from system.envs.spaces import flatten, observation_slices
from system.errors import ShapeError
from system.runs.loaded_agent import join_parts
from system.types import TaskSpec

SPACE = spaces.Dict(
    {
        "observation": spaces.Box(-1.0, 1.0, (2, 3)),
        "inner": spaces.Dict({"speed": spaces.Box(-1.0, 1.0, (1,)), "lamps": spaces.MultiBinary(2)}),
        "achieved_goal": spaces.Box(-1.0, 1.0, (2,)),
    }
)
TASK = TaskSpec("Mine/Dict-v0", 11, 2, 20, observation_slices=observation_slices("Mine/Dict-v0", SPACE))


def test_parts_are_joined_as_they_were_flattened_for_learning() -> None:
    SPACE.seed(0)
    shown = SPACE.sample()
    np.testing.assert_array_equal(join_parts(TASK, shown), flatten(SPACE, shown))


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_of_parts_is_a_batch_of_vectors(count: int) -> None:
    SPACE.seed(0)
    each = [SPACE.sample() for _ in range(count)]
    batched = gymnasium.vector.utils.batch_space(SPACE, count)
    empty = gymnasium.vector.utils.create_empty_array(SPACE, count)
    together = gymnasium.vector.utils.concatenate(SPACE, each, empty)
    assert batched.contains(together)
    joined = np.atleast_2d(join_parts(TASK, together))
    np.testing.assert_array_equal(joined, np.stack([flatten(SPACE, shown) for shown in each]))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"achieved_goal": None}, r"observation: has no part 'achieved_goal', which Mine/Dict-v0 shows"),
        ({"inner": {"speed": [0.0]}}, r"observation: has no part 'inner.lamps'"),
        ({"achieved_goal": [0.0, 1.0, 2.0]}, r"observation: 'achieved_goal' has shape \(3,\), but 2 numbers"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict, expected: str) -> None:
    shown = {name: value for name, value in {**SPACE.sample(), **changes}.items() if value is not None}
    with pytest.raises(ShapeError, match=expected):
        join_parts(TASK, shown)


def test_a_mapping_is_not_for_environments_that_show_vectors() -> None:
    with pytest.raises(ShapeError, match="a mapping, but Pendulum-v1 shows a vector"):
        join_parts(TaskSpec("Pendulum-v1", 3, 1, 200), {"observation": [0.0, 0.0, 0.0]})
