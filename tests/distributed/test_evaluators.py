"""Evaluation actors give what one process gives; one that is lost costs nothing but its time."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from system.config import RunConfig
from system.distributed import evaluator_group
from system.distributed.evaluator_group import EvaluatorGroup
from system.distributed.rollout_group import RolloutGroup
from system.errors import ClusterLost, Interrupted, PlannerError, SystemFailure, WorkerLost
from system.families.building import build_agent
from system.training.evaluator import LocalEvaluators
from system.training.protocols import EvaluationRequest, EvaluationResult, Evaluators, Weights
from system.types import TaskSpec
from tests.distributed.test_placement import changed
from tests.support.tiny_runs import ENVIRONMENT
from tests.support.tiny_workers import (
    MOST_SECONDS,
    kill_process,
    ray_workers,
    tiny_config,
    tiny_data,
    wait_for_end,
)

POLICIES = ("random", "rcbc_mean", "q_only", "iql")
REPORTS = [EvaluationRequest(ENVIRONMENT, policy, "report") for policy in POLICIES]
SCHEDULED = EvaluationRequest(ENVIRONMENT, "forward_mpc_q", "schedule", 0.5)

Toy = tuple[RunConfig, tuple[TaskSpec, ...], Weights]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A tiny run's configuration, task and initial weights."""
    folder = tmp_path_factory.mktemp("evaluators")
    config = tiny_config(folder)
    data = tiny_data(config, folder)
    return config, data.tasks, build_agent(data.task, config, data.foundation).state_dict()


@pytest.fixture
def group(toy: Toy) -> Iterator[Any]:
    """Makes evaluators with the toy's weights."""
    groups = []
    config, tasks, weights = toy

    def make(placement: dict[str, float] | None = None, **evaluators: Any) -> EvaluatorGroup:
        made = changed(config, evaluators=evaluators, placement=placement or {})
        groups.append(EvaluatorGroup(tasks, made))
        groups[-1].set_weights(weights, 0)
        return groups[-1]

    yield make
    for each in groups:
        each.close()


def answers(evaluators: Evaluators, requests: list[EvaluationRequest]) -> list[EvaluationResult]:
    """In the order of the requests; each is answered once."""
    found = list(evaluators.measure(requests, lambda: None))
    assert sorted(index for index, _ in found) == list(range(len(requests)))
    return [result for _, result in sorted(found, key=lambda each: each[0])]


def told(results: list[EvaluationResult]) -> list[object]:
    """All but the times."""
    return [(replace(each.measured, decision_seconds=[]), each.ratio_curve, each.ranking) for each in results]


def stop_at(call: int) -> Any:
    calls = iter(range(call + 1))

    def pause() -> None:
        if next(calls) == call:
            raise Interrupted(15)

    return pause


@pytest.fixture(scope="module")
def expected(toy: Toy) -> list[object]:
    """What one process measures."""
    config, tasks, weights = toy
    local = LocalEvaluators(tasks, config)
    local.set_weights(weights, 0)
    results = answers(local, [*REPORTS, SCHEDULED])
    assert [len(each.ratio_curve) for each in results] == [0, 2, 2, 0, 0]
    assert all(each.measured.decision_seconds for each in results[:-1]), "reports time decisions"
    assert len({str(each.measured.returns) for each in results}) > 1
    assert [index for index, each in enumerate(results) if each.ranking] == [POLICIES.index("q_only")]
    with pytest.raises(Interrupted):
        list(local.measure(REPORTS, stop_at(3)))
    local.close()
    return told(results)


@pytest.mark.usefixtures("ray_session")
def test_several_evaluators_and_one_process_agree(group: Any, expected: list[object]) -> None:
    evaluators = group(num=2)
    deadline = time.monotonic() + MOST_SECONDS
    while len(set(evaluators.process_ids().values())) < 2:
        assert time.monotonic() < deadline, "both start"
        time.sleep(0.05)
    with pytest.raises(Interrupted):
        list(evaluators.measure(REPORTS, stop_at(1)))
    assert told(answers(evaluators, [*REPORTS, SCHEDULED])) == expected, "after a measurement that was stopped"
    assert evaluators.num_lost == 0


@pytest.mark.usefixtures("ray_session")
def test_newer_weights_are_measured(group: Any, toy: Toy, expected: list[object]) -> None:
    evaluators = group(num=1)
    assert told(answers(evaluators, [REPORTS[1]])) == expected[1:2]
    evaluators.set_weights({name: value * 0 for name, value in toy[2].items()}, 1)
    with pytest.raises(PlannerError, match="not finite"):  # as an actor with weights of nothing does
        answers(evaluators, [REPORTS[1]])


@pytest.mark.usefixtures("ray_session")
def test_what_a_killed_evaluator_was_at_is_measured_all_the_same(group: Any, expected: list[object]) -> None:
    evaluators = group(num=1)
    found = []
    for index, result in evaluators.measure([*REPORTS, SCHEDULED], lambda: None):
        if not found:
            before = evaluators.process_ids()[0]
            kill_process(before)
            wait_for_end(before)
        found.append((index, result))
    assert told([result for _, result in sorted(found, key=lambda each: each[0])]) == expected
    assert evaluators.num_lost == 1
    assert evaluators.process_ids()[0] != before


@pytest.mark.usefixtures("ray_session")
def test_evaluators_that_die_again_and_again_end_the_run(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator_group, "MOST_LOSSES_IN_A_ROW", 1)
    evaluators = group(num=1)

    def kill() -> None:
        for process_id in evaluators.process_ids().values():
            kill_process(process_id)

    with pytest.raises(WorkerLost, match="evaluator lost: 2 times in a row"):
        list(evaluators.measure(REPORTS, kill))


@pytest.mark.usefixtures("ray_session")
def test_no_room_for_any_evaluator_ends_the_run(group: Any) -> None:
    said = r"^no room for 1 evaluator of 9 CPU, 0 GPU \(pack\) in 2 s; free: "
    with pytest.raises(ClusterLost, match=said):
        group(num=2, cpus=9, placement={"wait_seconds": 2.0})


@pytest.mark.usefixtures("ray_session")
def test_an_unknown_policy_reads_as_in_one_process(group: Any) -> None:
    with pytest.raises(SystemFailure, match="unknown policy 'beam'"):
        list(group(num=1).measure([EvaluationRequest(ENVIRONMENT, "beam", "report")], lambda: None))
    assert ray.is_initialized()


@pytest.mark.usefixtures("ray_session")
def test_rollout_workers_leave_room_for_an_evaluator_and_for_its_successor(tmp_path: Path) -> None:
    """Four rollout workers want all four CPUs; one is kept, and one of them waits in vain."""
    placement = {"rollout_workers": {"at_least": 1}, "wait_seconds": 60.0}
    config = tiny_config(tmp_path, deterministic=False, rollout_workers=4, evaluators=1, placement=placement)
    workers = ray_workers(config, tmp_path, tmp_path / "run")
    try:
        workers.evaluators.set_weights(workers.learners.weights(), 0)
        ((index, _),) = workers.evaluators.measure([SCHEDULED], lambda: None)
        assert index == 0
        assert isinstance(workers.rollouts, RolloutGroup)
        assert workers.rollouts.num_started() < 4
        assert workers.take_losses() == {}
        kill_process(workers.processes()["evaluator-0"])
        assert len(list(workers.evaluators.measure([SCHEDULED], lambda: None))) == 1
        assert workers.rollouts.num_started() < 4
        assert workers.take_losses() == {"evaluator_lost": 1}
        assert workers.take_losses() == {}
    finally:
        workers.close()
