"""Which policy explores: what did best in the offline evaluation, the unplanned ones among the candidates."""

from typing import Any

import pytest

from system.config import OnlineConfig, RunConfig
from system.training.exploration import choose_exploration
from system.training.protocols import Exploration


def record(policy: str, mean: float, ratio: float | None = 0.8, stage: str = "offline") -> dict[str, Any]:
    return {"stage": stage, "policy": policy, "return_mean": mean, "target_return_ratio": ratio}


MEASURED = [
    record("rcbc_mode", 90.0),  # its decisions hold no candidates to draw from
    record("iql", 95.0, None),
    record("rcbc_mean", 50.0, 1.0),
    record("forward_mpc_m", 40.0, 0.6),
    record("forward_mpc_q", 30.0, 0.8),
    record("forward_mpc_q", 99.0, 0.8, "online"),
]


@pytest.mark.parametrize(
    ("explore_with", "records", "expected"),
    [
        ("best", MEASURED, Exploration("rcbc_mean", 1.0)),
        ("best", [*MEASURED, record("q_only", 51.0, 0.6)], Exploration("q_only", 0.6)),
        ("best", [*MEASURED, record("forward_mpc_am", 52.0, None)], Exploration("forward_mpc_am", 1.0)),
        ("configured", MEASURED, Exploration("forward_mpc_m", 0.6)),
        ("best", [], Exploration("forward_mpc_m", 1.0)),
        ("configured", MEASURED[:3], Exploration("forward_mpc_m", 1.0)),
    ],
)
def test_the_best_measured_policy_that_can_draw_explores(
    explore_with: Any, records: list[dict[str, Any]], expected: Exploration
) -> None:
    config = RunConfig(online=OnlineConfig(explore_with=explore_with))
    if expected.target_return_ratio == 1.0 and expected.policy != "rcbc_mean":
        expected = Exploration(expected.policy, config.planner.target_return_ratio)
    assert choose_exploration(config, records) == expected
