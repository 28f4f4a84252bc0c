"""Scheduled evaluations: when they are due, what they compare, and when the policy has collapsed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from frame_factory import BREAKOUT, PONG

from system.config import OnlineConfig, RunConfig
from system.runs.progress import Progress
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

    progress = SimpleNamespace(evaluations=[], env_steps=7, online_update_steps=3)
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


class ScheduledRun:
    """Stands in for a run: its scores are those of a list, one for each evaluation."""

    def __init__(self, *scores: float, every: int = 40, guards: bool = True) -> None:
        self.config = RunConfig(online=OnlineConfig(evaluate_every_env_steps=every, collapse_guard=guards))
        self.progress = Progress()
        self.data = SimpleNamespace(tasks=(LOW,), task=LOW)
        self.tracker = SimpleNamespace(log_metrics=self._log)
        self.scores = list(scores)
        self.done: list[tuple[str, int]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []

    def measure(self, requests: Sequence[EvaluationRequest]) -> Iterator[tuple[int, Any]]:
        self._note("measured")
        score = self.scores.pop(0)
        yield 0, SimpleNamespace(measured=SimpleNamespace(returns=[score - 1.0, score, score + 1.0]))

    def save_best(self) -> None:
        self._note("saved")

    def roll_back(self) -> None:
        self._note("rolled back")

    def take_best(self, reason: str) -> None:
        assert reason
        self._note("took the best")

    def after(self, *env_steps: int) -> list[tuple[str, int]]:
        """What the guard does when it is asked at these points of the online stage."""
        guard = CollapseGuard.__new__(CollapseGuard)
        guard.run = cast(Experiment, self)
        for step in env_steps:
            self.progress.env_steps = self.progress.online_update_steps = step
            guard.evaluate_if_due()
        return self.done

    def ends(self, env_steps: int, update_steps: int, keep: Literal["best", "final"] = "best") -> list[str]:
        """What the guard does at the end of the stage."""
        self.config = replace(self.config, online=replace(self.config.online, keep=keep))
        self.progress.env_steps, self.progress.online_update_steps = env_steps, update_steps
        self.done.clear()
        guard = CollapseGuard.__new__(CollapseGuard)
        guard.run = cast(Experiment, self)
        guard.judge_the_last()
        return [what for what, _ in self.done]

    def _note(self, what: str) -> None:
        self.done.append((what, self.progress.env_steps))

    def _log(self, metrics: dict[str, float], *, step: int) -> None:
        self.logged.append((step, metrics))


def test_the_schedule_begins_before_the_first_round_and_goes_on_by_env_steps() -> None:
    run = ScheduledRun(*range(10), guards=False)
    run.after(0, 0, 12, 39, 40, 41, 79, 130, 159, 160)
    assert [step for what, step in run.done if what == "measured"] == [0, 40, 130, 160]
    assert run.progress.next_evaluation_env_steps == 200
    assert [entry["env_steps"] for entry in run.progress.schedule] == [0.0, 40.0, 130.0, 160.0]
    assert [entry["mean"] for entry in run.progress.schedule] == [0.0, 1.0, 2.0, 3.0]
    assert [step for step, _ in run.logged] == [0, 40, 130, 160]
    for (_, metrics), entry in zip(run.logged, run.progress.schedule, strict=True):
        names = ("mean", "low", "high")
        assert [metrics[f"schedule/return_{name}"] for name in names] == [entry[name] for name in names]


def test_the_best_weights_are_kept_and_a_collapse_goes_back_to_them() -> None:
    run = ScheduledRun(10.0, 12.0, 12.0, 11.5, 2.0)
    run.after(0, 40, 80, 120, 160)
    changes = [(what, step) for what, step in run.done if what != "measured"]
    assert changes == [("saved", 0), ("saved", 40), ("rolled back", 160)]
    assert run.progress.best_score == 12.0


def test_a_fall_from_the_best_is_a_collapse_even_above_the_first() -> None:
    run = ScheduledRun(10.0, 30.0, 20.0)
    run.after(0, 40, 80)
    assert run.done[-1] == ("rolled back", 80)


def test_the_last_updates_are_judged_and_the_best_weights_left() -> None:
    run = ScheduledRun(10.0, 30.0, 29.5)
    run.after(0, 40)
    assert run.ends(50, 50) == ["measured", "took the best"]
    assert run.progress.kept_env_steps == 40
    assert [entry["update_steps"] for entry in run.progress.schedule] == [0.0, 40.0, 50.0]


def test_what_is_judged_is_not_measured_again() -> None:
    run = ScheduledRun(10.0, 30.0)
    run.after(0, 40)
    assert run.ends(50, 40) == []
    assert run.progress.kept_env_steps == 40


def test_the_last_weights_are_left_where_they_are_the_best_or_wanted() -> None:
    run = ScheduledRun(10.0, 9.5, 31.0)
    run.after(0, 40)
    assert run.ends(50, 50) == ["measured", "saved"]
    assert run.progress.kept_env_steps == 50
    run = ScheduledRun(10.0, 9.5)
    run.after(0, 40)
    assert run.ends(40, 40, keep="final") == []
    assert run.progress.kept_env_steps == 40


def test_an_interval_that_touches_the_first_one_is_no_collapse() -> None:
    run = ScheduledRun(10.0, 10.0)
    run.after(0)
    entry = run.progress.schedule[0]
    touching = entry["low"] - 1.0  # the upper end of three returns a unit apart is a unit above their middle
    run.scores = [touching]
    run.after(40)
    assert run.progress.schedule[1]["high"] == pytest.approx(entry["low"])
    assert ("rolled back", 40) not in run.done


def test_without_the_guard_nothing_is_rolled_back() -> None:
    run = ScheduledRun(10.0, -50.0, guards=False)
    run.after(0, 40)
    assert run.done == [("measured", 0), ("saved", 0), ("measured", 40)]
