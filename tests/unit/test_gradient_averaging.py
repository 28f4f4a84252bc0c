"""Two learners on half batches are one learner on the whole batch."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.replay.buffer import ReplayBuffer
from system.distributed.learner_group import average_over_group
from system.distributed.placement import gpus_per_learner
from system.errors import WorkerLost
from system.training.learner_worker import LearnerWorker
from system.training.protocols import UpdateRequest
from system.types import EpisodeKey
from tests.support.tiny_workers import relative_difference, tiny_config, tiny_data

WORLD = 2
MAX_STEPS = 1000


class ThreadGroup:
    """The all-reduce of a learner group, between threads."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(WORLD, timeout=60)
        self.offered: dict[int, list[torch.Tensor]] = {}

    def average(self, rank: int, parameters: Iterable[nn.Parameter]) -> None:
        own = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.offered[rank] = [gradient.clone() for gradient in own]
        self.barrier.wait()
        for index, gradient in enumerate(own):
            gradient.copy_(sum(self.offered[other][index] for other in range(WORLD)) / WORLD)
        self.barrier.wait()


def make_worker(
    config: RunConfig, data: PreparedData, rank: int = 0, group: ThreadGroup | None = None
) -> LearnerWorker:
    replay = ReplayBuffer(
        data.training, context_length=config.context_length, max_episode_steps=MAX_STEPS
    )
    replay.add_episodes([replace(data.training.episode(index), key=EpisodeKey(0, 0, index)) for index in range(3)])
    if group is None:
        return LearnerWorker(data.task, config, data.foundation, replay)
    return LearnerWorker(
        data.task,
        config,
        data.foundation,
        replay,
        average_gradients=lambda parameters: group.average(rank, parameters),
        shard=(rank, WORLD),
    )


CASES: dict[str, dict[str, Any]] = {
    "masked_trajectory": {"critic": {"updates_per_step": 2}},
    "differentiable": {
        "family": "differentiable",
        "differentiable": {
            "model": {"width": 16, "layers": 1},
            "critic": {"hidden_width": 16, "hidden_layers": 2, "batch_size": 16, "updates_per_step": 2},
        },
        "evaluation": {"policies": ["rebrac"]},
    },
}


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("stage", ["offline", "online"])
def test_two_learners_on_half_batches_equal_one_on_the_whole(stage: str, family: str, tmp_path: Path) -> None:
    # One update: Adam turns the rounding of gradients that are zero (the key biases') into whole steps later on.
    request = UpdateRequest(stage, 3, 1, 0.6)
    config = tiny_config(tmp_path, **CASES[family])
    data = tiny_data(config, tmp_path)
    whole = make_worker(config, data)
    group = ThreadGroup()
    workers = [make_worker(config, data, rank, group) for rank in range(WORLD)]
    whole.update(request)
    with ThreadPoolExecutor(WORLD) as executor:
        list(executor.map(lambda worker: worker.update(request), workers))
    first, second = (worker.state() for worker in workers)
    assert relative_difference(first, second) == 0.0
    assert relative_difference(first, whole.state()) <= 1e-6


def test_a_group_whose_connection_ends_is_a_lost_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tensor: torch.Tensor) -> None:
        raise RuntimeError("connection closed by peer\nmore")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    with pytest.raises(WorkerLost, match=r"^learner lost: the connection to another learner ended$"):
        average_over_group([parameter])


def test_all_gradients_are_averaged_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def add_another_members(tensor: torch.Tensor) -> None:
        calls.append(tensor.clone())
        tensor += torch.tensor([3.0, 3.0, 5.0])

    monkeypatch.setattr(torch.distributed, "all_reduce", add_another_members)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    vector, unused, scalar = (nn.Parameter(torch.zeros(size)) for size in ((1, 2), (4,), ()))
    vector.grad, scalar.grad = torch.ones(1, 2), torch.tensor(1.0)
    average_over_group(iter([vector, unused, scalar]))
    assert len(calls) == 1
    assert vector.grad.tolist() == [[2.0, 2.0]]
    assert scalar.grad.item() == 3.0
    assert unused.grad is None


@pytest.mark.parametrize(
    ("device", "learners", "available", "share"),
    [("auto", 2, 0.0, 0), ("auto", 2, 2.0, 1), ("auto", 2, 8.0, 1), ("auto", 2, 1.0, 0.5), ("cpu", 1, 4.0, 0)],
)
def test_gpus_are_shared(device: str, learners: int, available: float, share: float, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, device=device, learners=learners, deterministic=False)
    assert gpus_per_learner(config, available) == share
