"""Work that is done again and again on tensors: as it is, or on a GPU as a recorded graph of its kernels.

An update of a small model, or a decision, is hundreds of kernels that are each over before the next one has been
launched. Recorded as a CUDA graph all of them are launched by one call. A recording holds for one set of shapes,
and for tensors that stay where they are: whoever replaces a parameter or a moment has to `forget`.
"""

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from system.models.optimizer_state import AverageGradients, keep_gradients

Tensors = dict[str, torch.Tensor]
Work = Callable[[Tensors], Tensors]

WARM_CALLS = 1
MOST_RECORDINGS = 32


class EagerStep:
    """Does its work kernel by kernel.

    Args:
        work: takes tensors by name on `device`, and may change others that it holds; waits for nothing that the
            device computes, so that it can be recorded.
        device: where it works.
    """

    def __init__(self, work: Work, device: torch.device) -> None:
        self.work = work
        self.device = device

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        """The work on inputs that may be on the host or on the device; what it returns is the caller's."""
        return self.work(self._placed(inputs))

    def forget(self) -> None:
        """Nothing is recorded."""

    def _placed(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        """On the device. The host does not wait for what the device still does: its memory is read before."""
        return {name: value.to(self.device, non_blocking=True) for name, value in inputs.items()}


@dataclass(frozen=True)
class Recording:
    """Work that was recorded.

    Attributes:
        inputs: what a replay reads.
        outputs: what it writes.
        replay: does the work once more.
    """

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]


class Recorder(Protocol):
    """Records work on a device."""

    def run(self, work: Work, inputs: Tensors) -> Tensors:
        """Does it without recording it, so that everything is there that is set up at a first call."""
        ...

    def record(self, work: Work, inputs: Tensors) -> Recording:
        """Records it without doing it."""
        ...


class CudaRecorder:
    """Records CUDA graphs, which share their memory: one is replayed at a time, and its outputs are copied before
    the next one is.

    Args:
        device: a GPU.
        generators: that the work draws from, besides the device's own.
    """

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator] = ()) -> None:
        self.generators = generators
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, work: Work, inputs: Tensors) -> Tensors:
        """On the stream that is recorded on."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*constructed with capturable=True")
            outputs = work(inputs)
        current.wait_stream(self.stream)
        return outputs

    def record(self, work: Work, inputs: Tensors) -> Recording:
        """Other threads may use the device meanwhile.

        Raises:
            RuntimeError: it cannot be recorded; the generators are as before.
        """
        kept = {name: value.clone() for name, value in inputs.items()}
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        recorded = torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        )
        try:
            with _no_garbage_collection(), recorded:
                outputs = work(kept)
        except RuntimeError:
            # A recording that broke off leaves its generators waiting for the rest of it.
            for generator in self.generators:
                generator.graphsafe_set_state(generator.clone_state())
            raise
        return Recording(kept, outputs, graph.replay)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A graph of earlier work that is collected while another one is recorded spoils the recording."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class GraphedStep(EagerStep):
    """Does its work by replaying recordings, one for each set of shapes, made at the second call with it.

    Work that cannot be recorded is done kernel by kernel, after a warning.

    Args:
        work, device: as of `EagerStep`.
        recorder: makes recordings.
        most_recordings: with any further set of shapes the work is done kernel by kernel.
    """

    def __init__(
        self, work: Work, device: torch.device, recorder: Recorder, most_recordings: int = MOST_RECORDINGS
    ) -> None:
        super().__init__(work, device)
        self.recorder = recorder
        self.most_recordings = most_recordings
        self._recordings: dict[tuple[object, ...], Recording] = {}
        self._num_calls: dict[tuple[object, ...], int] = {}

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        """As of `EagerStep`."""
        shapes = tuple((name, value.shape, value.dtype) for name, value in inputs.items())
        recording = self._recordings.get(shapes)
        if recording is None:
            placed = self._placed(inputs)
            recording = self._record(shapes, placed)
            if recording is None:
                return self.recorder.run(self.work, placed)
        for name, value in inputs.items():
            recording.inputs[name].copy_(value, non_blocking=True)
        recording.replay()
        return {name: value.clone() for name, value in recording.outputs.items()}

    def forget(self) -> None:
        """Drops every recording; the next calls make new ones."""
        self._recordings.clear()
        self._num_calls.clear()

    def _record(self, shapes: tuple[object, ...], inputs: Tensors) -> Recording | None:
        """A recording for these shapes; None where they are new, too many or cannot be recorded."""
        self._num_calls[shapes] = self._num_calls.get(shapes, 0) + 1
        if self._num_calls[shapes] <= WARM_CALLS or len(self._recordings) >= self.most_recordings:
            return None
        try:
            recording = self.recorder.record(self.work, inputs)
        except RuntimeError as error:
            reason = (str(error).splitlines() or [""])[0]
            warnings.warn(f"{self.device}: work cannot be recorded and is done slowly ({reason})", stacklevel=3)
            self.most_recordings = 0
            self.forget()
            return None
        self._recordings[shapes] = recording
        return recording


def records_updates(device: torch.device, average_gradients: AverageGradients, *, deterministic: bool) -> bool:
    """Whether a learner's updates are recorded.

    Several learners average their gradients on the host, which no recording holds; and recorded kernels may give
    other bits than launched ones.

    Args:
        device: of the weights.
        average_gradients: the learner's hook; `keep_gradients` of a lone one.
        deterministic: the same bits are asked for each time.
    """
    return device.type == "cuda" and average_gradients is keep_gradients and not deterministic


def records_decisions(device: torch.device) -> bool:
    """Whether decisions on a device are recorded: on a GPU, unless algorithms are to be deterministic."""
    return device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()


def repeated_step(
    work: Work, device: torch.device, *, graphed: bool, generators: Sequence[torch.Generator] = ()
) -> EagerStep:
    """A step that is recorded or not.

    Args:
        work, device: as of `EagerStep`.
        graphed: whether to record it; the device is a GPU then.
        generators: that the work draws from, besides the device's own.
    """
    if not graphed:
        return EagerStep(work, device)
    return GraphedStep(work, device, CudaRecorder(device, generators))
