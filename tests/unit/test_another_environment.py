"""What was learnt on data alone, or elsewhere, in an environment that a person names."""

from dataclasses import replace

import own_environments  # noqa: F401  registers them
import pytest

from system.config import EnvironmentConfig
from system.envs.another_environment import task_acted_in
from system.envs.registry import find_task
from system.errors import ConfigError

RESERVOIR, SWITCH = find_task("Own/Reservoir-v0"), find_task("Own/Switch-v0")
LOGS = replace(
    RESERVOIR,
    environment_id="logs",
    has_environment=False,
    max_episode_steps=5,
    action_low=(-0.25, 0.5),
    action_high=(0.5, 1.0),
    reference_min=-7.0,
    reference_max=3.0,
)


def test_actions_keep_the_scale_that_they_were_learnt_in() -> None:
    task = task_acted_in(LOGS, EnvironmentConfig(id="Own/Reservoir-v0", kwargs={"goal": 2.0}))
    assert task.has_environment and task.environment_id == "Own/Reservoir-v0"
    assert (task.action_low, task.action_high) == (LOGS.action_low, LOGS.action_high)
    assert (task.max_episode_steps, task.environment_kwargs) == (RESERVOIR.max_episode_steps, {"goal": 2.0})
    assert (task.reference_min, task.reference_max) == (-7.0, 3.0)


def test_scores_that_a_person_names_come_first() -> None:
    task = task_acted_in(LOGS, EnvironmentConfig("Own/Reservoir-v0", reference_min=-1.0, reference_max=1.0))
    assert (task.reference_min, task.reference_max) == (-1.0, 1.0)


def test_without_an_id_it_is_the_environment_that_was_trained_for() -> None:
    task = task_acted_in(RESERVOIR, EnvironmentConfig(kwargs={"goal": 3.0}))
    assert task == replace(RESERVOIR, environment_kwargs={"goal": 3.0})
    made = replace(RESERVOIR, environment_kwargs={"goal": 4.0}, max_episode_steps=7)
    assert task_acted_in(made, EnvironmentConfig(reference_min=0.0, reference_max=1.0)) == replace(
        made, reference_min=0.0, reference_max=1.0
    )
    assert task_acted_in(made, EnvironmentConfig(max_episode_steps=3)) == replace(made, max_episode_steps=3)


@pytest.mark.parametrize(
    ("learnt", "config", "message"),
    [
        (LOGS, EnvironmentConfig(), "environment.id: logs has no simulator; name one"),
        (LOGS, EnvironmentConfig("none"), "environment.id: logs has no simulator; name one"),
        (
            LOGS,
            EnvironmentConfig("Hopper-v5"),
            "Hopper-v5 has 11 observation dimensions, the policy sees 4",
        ),
        (
            replace(LOGS, observation_dim=2),
            EnvironmentConfig("Own/Switch-v0"),
            "Own/Switch-v0 has 3 discrete actions from 5, the policy 2 action dimensions",
        ),
        (
            replace(SWITCH, action_start=0),
            EnvironmentConfig("Own/Switch-v0"),
            "has 3 discrete actions from 5, the policy 3 discrete actions from 0",
        ),
        (
            replace(LOGS, action_high=(0.5, 2.5)),
            EnvironmentConfig("Own/Reservoir-v0"),
            r"has action bounds \[0, 2\] of dimension 1, the policy acts in \[0.5, 2.5\]",
        ),
        (
            find_task("ALE/Pong-v5"),
            EnvironmentConfig("Own/Reservoir-v0"),
            "ALE/Pong-v5 are measured in that game alone",
        ),
    ],
)
def test_one_that_the_policy_cannot_act_in_is_refused(learnt, config: EnvironmentConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task_acted_in(learnt, config)
