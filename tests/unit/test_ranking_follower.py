"""Who goes on after a candidate's first action when planners are ranked in a run."""

from dataclasses import replace
from typing import Any

import pytest

from system.config import EvaluationConfig
from system.evaluation import measurement
from system.evaluation.measurement import Measurer
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.policies import ReferenceActor, ReturnConditionedMode
from system.types import TaskSpec
from tests.support.configs import masked_config

TASK = TaskSpec("InvertedPendulum-v5", observation_dim=4, action_dim=1, max_episode_steps=10)


@pytest.mark.parametrize(
    ("policy", "expected"), [("forward_mpc_m", ReturnConditionedMode), ("forward_mpc_am", ReferenceActor)]
)
def test_the_policy_whose_plans_the_candidates_are_goes_on(
    policy: str, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = EvaluationConfig(num_environments=1, ranked_states=1, ranked_candidates=2)
    config = replace(masked_config(), evaluation=replace(evaluation, policies=(policy,)))
    followers: list[Any] = []

    def note(planner: Any, follower: Any, *_: Any, **__: Any) -> None:
        followers.append(follower)

    monkeypatch.setattr(measurement, "rank_utilities", note)
    measurer = Measurer(TrajectoryAgent(TASK, config).eval(), TASK, config, lambda: None)
    try:
        measurer.rank(policy, None)
    finally:
        measurer.close()
    (follower,) = followers
    inner = getattr(follower, "policy", follower)
    assert isinstance(inner, expected)
