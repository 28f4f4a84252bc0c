"""A stand-in for what records CUDA graphs, where there is no GPU."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from system.models.graphed_step import EagerStep, GraphedStep, Recording, Tensors, Work


class CallingRecorder:
    """Replays by calling the work, on the very tensors that a graph would read and write.

    Args:
        addresses: of what a graph would find where it was when it was recorded.
    """

    def __init__(self, addresses: Callable[[], object] = lambda: None) -> None:
        self.addresses = addresses
        self.num_run = self.num_recorded = self.num_replayed = 0

    def run(self, work: Work, inputs: Tensors) -> Tensors:
        self.num_run += 1
        return work(inputs)

    def record(self, work: Work, inputs: Tensors) -> Recording:
        self.num_recorded += 1
        kept = {name: torch.full_like(value, 0) for name, value in inputs.items()}
        outputs: Tensors = {}
        there = self.addresses()

        def replay() -> None:
            assert self.addresses() == there, "a graph would read and write what is no longer used"
            self.num_replayed += 1
            for name, value in work(kept).items():
                outputs.setdefault(name, torch.empty_like(value)).copy_(value)

        return Recording(kept, outputs, replay)


def record_by_calling(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[CallingRecorder]:
    """The recorders of the graphed steps that a module makes from now on, in order."""
    recorders: list[CallingRecorder] = []

    def step(work: Work, device: torch.device, *, graphed: bool, generators: object = ()) -> EagerStep:
        if not graphed:
            return EagerStep(work, device)
        recorders.append(CallingRecorder())
        return GraphedStep(work, device, recorders[-1])

    monkeypatch.setattr(module, "repeated_step", step)
    return recorders
