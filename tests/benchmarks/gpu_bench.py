"""Times calls on a device, of subjects in the papers' sizes or tiny, and writes a line for each case."""

import json
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import torch
from configs import masked_config

from system.families.masked_trajectory.config import ModelConfig
from system.families.world_action.config import WorldActionConfig
from system.models.devices import prepare_process

MOST_CALLS = 200


@dataclass(frozen=True)
class Sizes:
    """What is measured, in the papers' sizes or so small that a CPU runs through it in seconds."""

    product: int = 8192
    paper: ModelConfig = field(
        default_factory=lambda: ModelConfig(
            context_length=8, width=512, encoder_layers=2, decoder_layers=1, num_heads=4, dropout=0.1
        )
    )
    paper_batch: int = 2048
    preset: ModelConfig = field(default_factory=ModelConfig)
    preset_batch: int = 64
    critics_a_call: int = 8
    candidates: int = 625
    environments: int = 64
    futures: int = 64
    world: WorldActionConfig = field(
        default_factory=lambda: WorldActionConfig(width=512, num_layers=4, num_heads=8, q_width=768)
    )
    world_updates: tuple[tuple[WorldActionConfig, int], ...] = (
        (WorldActionConfig(), 16),
        (WorldActionConfig(width=512, num_layers=4, num_heads=8, q_width=768), 64),
        (WorldActionConfig(width=512, num_layers=4, num_heads=8, q_width=768), 256),
    )
    warm_calls: int = 20
    least_calls: int = 5
    seconds: float = 1.5


TINY = Sizes(
    product=64,
    paper=ModelConfig(width=32, num_heads=4, dropout=0.1),
    paper_batch=8,
    preset=ModelConfig(width=16, num_heads=2),
    preset_batch=8,
    critics_a_call=2,
    candidates=6,
    environments=3,
    futures=8,
    world=WorldActionConfig(width=16, num_layers=2, num_heads=2, q_width=16),
    world_updates=((WorldActionConfig(width=16, num_layers=2, num_heads=2, q_width=16), 2),),
    warm_calls=1,
    least_calls=1,
    seconds=0.0,
)


class Bench:
    """Times calls on a device and writes what it finds.

    Args:
        device: what everything runs on.
        sizes: of the subjects.
        output: takes a line for each case.
    """

    def __init__(self, device: torch.device, sizes: Sizes, output: TextIO) -> None:
        self.device = device
        self.sizes = sizes
        self.output = output
        prepare_process(masked_config(device=device.type, precision="float32"))

    def write(self, **entries: Any) -> None:
        """One line, on disk before anything else is tried."""
        self.output.write(json.dumps(entries) + "\n")
        self.output.flush()
        print("  ".join(f"{name} {_short(value)}" for name, value in entries.items()), flush=True)

    def compare(
        self, part: str, cases: Mapping[str, Callable[[], Callable[[], object]]], *, per_call: int = 1, **more: Any
    ) -> None:
        """Times each case after the other; the first is the baseline of the others.

        Args:
            part: what is done.
            cases: by name what makes the call that is timed.
            per_call: how many of what is counted one call does.
            more: written into every line.
        """
        baseline, first_case = None, next(iter(cases))
        for case, make in cases.items():
            try:
                with warnings.catch_warnings(record=True) as warned:
                    warnings.simplefilter("always")
                    found = self._time(make())
            except Exception as error:  # noqa: BLE001  whatever it is, the other cases are to run
                self.write(part=part, case=case, error=in_one_line(error))
                continue
            told = {"warned": str(warned[-1].message)} if warned else {}
            found = {name: value / per_call for name, value in found.items()}
            baseline = found["milliseconds"] if case == first_case else baseline
            ratio = {} if baseline is None else {"ratio": baseline / found["milliseconds"]}
            self.write(part=part, case=case, **found, **ratio, baseline=first_case, **more, **told)

    def _time(self, call: Callable[[], object]) -> dict[str, float]:
        first = self._once(call)
        sizes = self.sizes
        for _ in range(sizes.warm_calls - 1):
            self._once(call)
        taken: list[float] = []
        while len(taken) < MOST_CALLS and (len(taken) < sizes.least_calls or sum(taken) < 1e3 * sizes.seconds):
            taken.append(self._once(call))
        return {"milliseconds": statistics.median(taken), "slowest": max(taken), "first": first}

    def _once(self, call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - started)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def in_one_line(error: Exception) -> str:
    """Its kind, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def keep_by_hand(parameters: object) -> None:
    """Gradients as they are, by a function that could do anything with them: updates are not recorded then."""


def read(metrics: Mapping[str, torch.Tensor]) -> list[float]:
    """Metrics as the learner worker reads them, in one piece."""
    numbers: list[float] = torch.stack([value.float() for value in metrics.values()]).tolist()
    return numbers
