"""Actors get what is configured, begin without those there is no room for, and say what is missing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from system.config import RunConfig
from system.config.loading import config_from_dict, to_dict
from system.data.replay.buffer import ReplayBuffer
from system.distributed.placement import (
    ReservedPlaces,
    gpus_per_learner,
    least_rollout_workers,
    refuse_if_too_small,
    required,
)
from system.distributed.rollout_group import RolloutGroup
from system.errors import ClusterLost
from tests.support.tiny_workers import EXPLORATIONS, collect_rounds, tiny_config, tiny_data


@ray.remote(num_cpus=2)
class Tenant:
    """Takes half of the session's CPUs."""

    def is_there(self) -> bool:
        return True


def changed(config: RunConfig, **settings: Any) -> RunConfig:
    return config_from_dict(
        RunConfig, to_dict(config), [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    )


def test_what_a_run_needs() -> None:
    config = changed(
        RunConfig(),
        learners={"num": 2, "cpus": 3},
        rollout_workers={"num": 5, "cpus": 0.5, "gpus": 0.25, "at_least": 2},
        evaluators={"num": 3, "cpus": 0.25},
    )
    assert (config.learners, config.rollout_workers, config.evaluators) == (2, 5, 3)
    assert least_rollout_workers(config) == 2
    assert required(config, 1.0, to_begin=False) == {"CPU": 9.25, "GPU": 2.25}
    assert required(config, 0.0, to_begin=True) == {"CPU": 7.25, "GPU": 0.5}
    assert gpus_per_learner(changed(config, learners={"gpus": 2}), 1.0) == 2


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Any]:
    """Makes groups of rollout workers, each of which takes two of the session's four CPUs."""
    groups = []

    def make(wait_seconds: float = 300.0, **rollout_workers: Any) -> RolloutGroup:
        config = tiny_config(tmp_path, deterministic=False, placement={"wait_seconds": wait_seconds})
        config = changed(config, rollout_workers={"cpus": 2, **rollout_workers})
        data = tiny_data(config, tmp_path)
        replay = ReplayBuffer(data.training, context_length=4, max_episode_steps=10)  # every worker gets a copy
        groups.append(RolloutGroup((data.task,), config, replay, 0))
        return groups[-1]

    yield make
    for each in groups:
        each.close()


@pytest.mark.usefixtures("ray_session")
def test_a_worker_without_room_joins_later(group: Any) -> None:
    tenant = Tenant.remote()
    assert ray.get(tenant.is_there.remote())
    workers = group(num=2, at_least=1)
    workers.wait_until_started()
    assert workers.num_started() == workers.num_idle() == 1
    workers.submit(EXPLORATIONS["masked_trajectory"], 2)
    assert workers.num_pending() == 1, "no round with old weights waits for the other one"
    assert workers.num_idle() == 0
    ray.kill(tenant)
    while workers.num_started() < 2:
        workers.collect(wait=True)
    results = collect_rounds(workers, 2)
    assert {result.worker for result in results} <= {0, 1}
    assert workers.num_lost == 0


@pytest.mark.usefixtures("ray_session")
def test_no_room_for_anyone_ends_the_run(group: Any) -> None:
    tenants = [Tenant.remote() for _ in range(2)]
    assert all(ray.get([tenant.is_there.remote() for tenant in tenants]))
    workers = group(wait_seconds=3.0, num=1)
    said = r"^0 of 1 rollout workers started in 3 s: each takes 2 CPU, 0 GPU; free: 0 CPU, 0 GPU$"
    with pytest.raises(ClusterLost, match=said):
        workers.wait_until_started()
    with pytest.raises(ClusterLost, match=said):
        while True:
            assert workers.collect(wait=True) == []
    for tenant in tenants:
        ray.kill(tenant)


@pytest.mark.usefixtures("ray_session")
def test_learners_are_placed_together_or_not_at_all() -> None:
    places = ReservedPlaces("learners", [{"CPU": 1.0, "GPU": 0.0}] * 2, "pack", 60.0)
    assert places.options(1)["scheduling_strategy"].placement_group_bundle_index == 1
    said = r"^no room for 3 learners of 1 CPU, 0 GPU \(pack\) in 1 s; free: 2 CPU, 0 GPU$"
    with pytest.raises(ClusterLost, match=said):
        ReservedPlaces("learners", [{"CPU": 1.0, "GPU": 0.0}] * 3, "pack", 1.0)
    places.close()
    again = ReservedPlaces("learners", [{"CPU": 1.0}] * 4, "pack", 60.0)
    again.close()


@pytest.mark.usefixtures("ray_session")
def test_a_cluster_that_is_too_small_is_refused_at_once() -> None:
    config = changed(RunConfig(), learners=2, rollout_workers={"num": 9, "at_least": 3})
    said = r"^the cluster has 4 CPUs, the run needs 5: 2 learners, 3 rollout workers$"
    with pytest.raises(ClusterLost, match=said):
        refuse_if_too_small(config)
    smaller = changed(config, rollout_workers={"at_least": 2})
    refuse_if_too_small(smaller)
    with pytest.raises(ClusterLost, match=r"needs 5: 2 learners, 2 rollout workers, 1 evaluator$"):
        refuse_if_too_small(changed(smaller, evaluators=2))
    with pytest.raises(ClusterLost, match=r"^the cluster has 0 GPUs, the run needs 2: 2 learners, 2 rollout"):
        refuse_if_too_small(changed(config, rollout_workers={"at_least": 2}, learners={"gpus": 1}))
