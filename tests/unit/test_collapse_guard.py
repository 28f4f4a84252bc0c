"""What a scheduled evaluation compares: returns of one task, scores of several."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from frame_factory import BREAKOUT, PONG

from system.config import RunConfig
from system.training.collapse_guard import CollapseGuard
from system.training.experiment import Experiment
from system.training.protocols import EvaluationRequest
from system.types import TaskSpec

LOW = replace(PONG, reference_min=-20.0, reference_max=0.0)
HIGH = replace(BREAKOUT, reference_min=0.0, reference_max=400.0)
RETURNS = {LOW.environment_id: [-10.0, 0.0], HIGH.environment_id: [100.0, 200.0]}


def guard_of(*tasks: TaskSpec) -> CollapseGuard:
    def measure(requests: Sequence[EvaluationRequest]) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(requests))):  # evaluators finish in any order
            assert requests[index].purpose == "schedule"
            played = SimpleNamespace(returns=RETURNS[requests[index].environment])
            yield index, SimpleNamespace(measured=played)

    progress = SimpleNamespace(ratio_curves={}, env_steps=7)
    run = SimpleNamespace(
        config=RunConfig(), progress=progress, measure=measure, data=SimpleNamespace(tasks=tasks, task=tasks[0])
    )
    guard = CollapseGuard.__new__(CollapseGuard)
    guard.run = cast(Experiment, run)
    return guard


@pytest.mark.parametrize(
    ("tasks", "mean"), [((LOW,), -5.0), ((HIGH,), 150.0), ((LOW, HIGH), (50.0 + 100.0 + 25.0 + 50.0) / 4)]
)
def test_one_task_is_judged_by_its_returns_and_several_by_their_scores(
    tasks: tuple[TaskSpec, ...], mean: float
) -> None:
    entry = guard_of(*tasks)._measure()
    assert entry["mean"] == pytest.approx(mean)
    assert entry["low"] <= entry["mean"] <= entry["high"]
