"""Recorded work: when it is recorded, what a replay reads and gives, and that updates can be recorded at all."""

import gc
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from configs import masked_config
from torch import nn

from system.config import CriticConfig, PretrainConfig, RunConfig
from system.families import agent_learner as base_module
from system.families.masked_trajectory import learner as learner_module
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.learner import M3PCLearner
from system.families.world_action import learner as world_module
from system.families.world_action.learner import WorldActionLearner
from system.models.graphed_step import (
    CudaRecorder,
    EagerStep,
    GraphedStep,
    Recording,
    Tensors,
    Work,
    records_updates,
    repeated_step,
)
from system.models.optimizer_state import (
    keep_gradients,
    move_towards,
    rates_as_tensors,
    set_learning_rate,
    step_where_finite,
)
from system.types import TaskSpec
from system.values import iql as iql_module
from tests.support import jowa_windows, speed_subjects
from tests.support.calling_recorder import CallingRecorder

CPU = torch.device("cpu")
TASK = TaskSpec("Toy-v0", observation_dim=3, action_dim=2, max_episode_steps=10)


def double(inputs: Tensors) -> Tensors:
    return {"twice": 2.0 * inputs["number"]}


def test_a_shape_is_run_then_recorded_then_replayed() -> None:
    recorder = CallingRecorder()
    step = GraphedStep(double, CPU, recorder)
    found = [step({"number": torch.full((2,), value)})["twice"] for value in (1.0, 2.0, 3.0)]
    assert [each.tolist() for each in found] == [[2.0, 2.0], [4.0, 4.0], [6.0, 6.0]]
    assert (recorder.num_run, recorder.num_recorded, recorder.num_replayed) == (1, 1, 2)
    assert step({"number": torch.ones(3)})["twice"].tolist() == [2.0] * 3
    assert step({"number": torch.ones(2, dtype=torch.float64)})["twice"].dtype == torch.float64
    assert (recorder.num_run, recorder.num_recorded) == (3, 1), "another shape or type is another recording"


def test_recordings_are_dropped_and_have_an_end() -> None:
    recorder = CallingRecorder()
    step = GraphedStep(double, CPU, recorder, most_recordings=1)
    for size in (1, 1, 2, 2, 2):
        assert step({"number": torch.ones(size)})["twice"].tolist() == [2.0] * size
    assert (recorder.num_run, recorder.num_recorded) == (4, 1)
    step.forget()
    for _ in range(2):
        step({"number": torch.ones(2)})
    assert (recorder.num_run, recorder.num_recorded) == (5, 2)


def test_work_that_cannot_be_recorded_is_done_all_the_same() -> None:
    class Refusing(CallingRecorder):
        def record(self, work: Work, inputs: Tensors) -> Recording:
            raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors …")

    step = GraphedStep(double, CPU, Refusing())
    step({"number": torch.ones(1)})
    with pytest.warns(UserWarning, match="cpu: work cannot be recorded.*not permitted when stream is capturing"):
        assert step({"number": torch.ones(1)})["twice"].item() == 2.0
    assert step({"number": torch.ones(1)})["twice"].item() == 2.0


class FakeGraph:
    """What `torch.cuda` has for recordings, where there is none."""

    def __init__(self, *_: object, **__: object) -> None:
        self.registered: list[object] = []

    def register_generator_state(self, generator: object) -> None:
        self.registered.append(generator)

    def replay(self) -> None:
        raise AssertionError

    def __enter__(self) -> None:
        assert not gc.isenabled(), "a collected graph would spoil the recording"

    def __exit__(self, *_: object) -> None:
        return None


class FakeGenerator(torch.Generator):
    states: int = 0

    def clone_state(self) -> torch.Generator:
        return torch.Generator()

    def graphsafe_set_state(self, state: torch.Generator) -> None:
        self.states += 1


def test_nothing_is_collected_while_recording_and_generators_outlive_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("Stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    generator = FakeGenerator()
    recorder = CudaRecorder(torch.device("cuda"), [generator])

    def broken(inputs: Tensors) -> Tensors:
        raise RuntimeError("operation failed due to a previous error during capture")

    assert recorder.record(double, {"number": torch.ones(2)}).outputs["twice"].tolist() == [2.0, 2.0]
    assert gc.isenabled()
    assert generator.states == 0
    with pytest.raises(RuntimeError, match="previous error"):
        recorder.record(broken, {"number": torch.ones(2)})
    assert gc.isenabled()
    assert generator.states == 1


def test_without_a_graph_the_work_is_called() -> None:
    step = repeated_step(double, torch.device("meta"), graphed=False)
    assert type(step) is EagerStep
    assert step({"number": torch.ones(2)})["twice"].device.type == "meta"
    step.forget()


def config() -> RunConfig:
    return masked_config(
        model=ModelConfig(context_length=4, width=16, encoder_layers=1, decoder_layers=1, num_heads=2),
        training=TrajectoryTrainingConfig(batch_size=4, warmup_steps=0),
        critic=CriticConfig(hidden_width=8, beside=False),
        pretrain=PretrainConfig(update_steps=50),
    )


SEGMENTS = speed_subjects.vector_segments(TASK, 4, 4, padded=0.5)
TRANSITIONS = [speed_subjects.vector_transitions(TASK, 8)] * 2


def updated(learner: M3PCLearner, first: int, last: int) -> list[dict[str, float]]:
    made = [learner.update(SEGMENTS, TRANSITIONS, stage="offline", step=step) for step in range(first, last)]
    return [{name: float(value) for name, value in metrics.items()} for metrics in made]


def recorded_learner() -> tuple[M3PCLearner, list[CallingRecorder]]:
    learner = M3PCLearner(TrajectoryAgent(TASK, config()), config())

    def addresses() -> object:
        optimizers = (learner.optimizer, learner.alpha_optimizer, learner.critics.optimizer)
        moments = [value for each in optimizers for state in each.state.values() for value in state.values()]
        kept = [*learner.agent.state_dict().values(), *learner.average.weights.values()]
        kept += [learner.log_alpha, *moments]
        return [each.data_ptr() for each in kept]

    recorders = [CallingRecorder(addresses), CallingRecorder(addresses)]
    for owner, recorder in zip((learner, learner.critics), recorders, strict=True):
        owner._step = GraphedStep(owner._step.work, CPU, recorder)
    learner._repeated = [learner._step]
    return learner, recorders


def test_recorded_updates_learn_what_others_do() -> None:
    plain, (graphed, recorders) = M3PCLearner(TrajectoryAgent(TASK, config()), config()), recorded_learner()
    assert updated(plain, 0, 30) == updated(graphed, 0, 30)
    assert all(recorder.num_replayed > 0 for recorder in recorders)
    states = plain.state(), graphed.state()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_restored_learner_records_anew() -> None:
    plain, (graphed, recorders) = M3PCLearner(TrajectoryAgent(TASK, config()), config()), recorded_learner()
    updated(plain, 0, 6)
    updated(graphed, 3, 9)
    recorded = [recorder.num_recorded for recorder in recorders]
    graphed.load_state(plain.state())
    assert updated(plain, 6, 12) == updated(graphed, 6, 12)
    assert all(new.num_recorded > old for new, old in zip(recorders, recorded, strict=True))


@pytest.mark.parametrize("discrete", [False, True])
def test_an_update_waits_for_nothing_on_the_device(discrete: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's `meta` device, whose tensors have no values, whoever looks at one is found out. (Fused optimisers
    and automatic precision are not to be had there.)"""
    for module in (learner_module, iql_module):
        monkeypatch.setattr(module, "step_where_finite", lambda optimizer, norm: torch.isfinite(norm))
    monkeypatch.setattr(base_module, "mixed_precision", lambda precision, device: nullcontext())
    task = TaskSpec("Toy-v0", 3, 3, 10, valid_actions=(0, 1, 2)) if discrete else TASK
    learner = M3PCLearner(TrajectoryAgent(task, config()).to("meta"), config())
    segments, transitions = SEGMENTS, TRANSITIONS[0]
    if discrete:
        segments, transitions = (numbered(each) for each in (segments, transitions))
    for step in range(2):
        made = learner.update(segments, [transitions], stage="offline", step=step)
    assert {value.device.type for value in made.values()} == {"meta"}
    with pytest.raises(RuntimeError, match="meta"):
        float(made["critic/q_loss"])


def numbered(batch: Any) -> Any:
    return replace(batch, actions=(batch.actions[..., 0] > 0).astype("int64"))


def test_updates_are_recorded_by_a_lone_learner_on_a_gpu_that_may_round_otherwise() -> None:
    gpu = torch.device("cuda")
    assert records_updates(gpu, keep_gradients, deterministic=False)
    assert not records_updates(CPU, keep_gradients, deterministic=False)
    assert not records_updates(gpu, lambda parameters: None, deterministic=False)
    assert not records_updates(gpu, keep_gradients, deterministic=True)


def test_updates_are_recorded_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def noted(work: Work, device: torch.device, *, graphed: bool) -> EagerStep:
        asked.append(graphed)
        return EagerStep(work, device)

    monkeypatch.setattr(base_module, "repeated_step", noted)
    M3PCLearner(TrajectoryAgent(TASK, config()), config())
    assert asked == [False]


def test_a_step_is_made_where_the_gradient_is_finite() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter], lr=0.1, fused=True)
    parameter.grad = torch.ones(2)
    assert step_where_finite(optimizer, parameter.grad.norm()).item() is True
    moved, moments = parameter.detach().clone(), [each.clone() for each in optimizer.state[parameter].values()]
    assert (moved < 1.0).all()
    parameter.grad = torch.tensor([1.0, float("nan")])
    assert step_where_finite(optimizer, parameter.grad.norm()).item() is False
    assert torch.equal(parameter, moved)
    assert all(map(torch.equal, optimizer.state[parameter].values(), moments)), "steps and moments stay too"
    parameter.grad = torch.ones(2)
    step_where_finite(optimizer, parameter.grad.norm())
    assert (parameter < moved).all()


def test_moving_averages_and_rates_are_changed_in_place() -> None:
    target, newest = torch.zeros(2), torch.full((2,), 4.0)
    move_towards([target], [newest], torch.tensor(0.25))
    assert target.tolist() == [1.0, 1.0]
    move_towards([target], [newest], torch.tensor(0.0))
    assert target.tolist() == [1.0, 1.0]
    optimizer = torch.optim.SGD([nn.Parameter(target)], lr=0.5)
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.25
    rates_as_tensors(optimizer, CPU)
    rate = optimizer.param_groups[0]["lr"]
    set_learning_rate(optimizer, 0.125)
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.125


def frame_updates(learner: WorldActionLearner, steps: range, stage: str = "online") -> list[dict[str, float]]:
    made = [learner.update(jowa_windows.draw_segments(seed=step), [], stage=stage, step=step) for step in steps]
    return [{name: float(value) for name, value in metrics.items()} for metrics in made]


def test_recorded_updates_of_the_world_action_model_learn_what_others_do() -> None:
    """With and without value losses, over copies of the target and a restored state."""
    plain, graphed = (WorldActionLearner(jowa_windows.make_agent(), jowa_windows.CONFIG) for _ in range(2))
    recorders = []
    for flag, step in graphed._steps.items():
        recorders.append(CallingRecorder(lambda: moments_of(graphed)))
        graphed._steps[flag] = GraphedStep(step.work, CPU, recorders[-1])
    graphed._repeated = list(graphed._steps.values())
    assert frame_updates(plain, range(6)) == frame_updates(graphed, range(6))
    graphed.load_state(plain.state())
    assert frame_updates(plain, range(6, 12)) == frame_updates(graphed, range(6, 12))
    assert [recorder.num_recorded for recorder in recorders] == [2, 0]
    assert frame_updates(plain, range(4), "offline") == frame_updates(graphed, range(4), "offline")
    assert recorders[1].num_replayed > 0


def moments_of(learner: WorldActionLearner) -> list[int]:
    states = [state for each in learner.optimizers.values() for state in each.state.values()]
    return [value.data_ptr() for state in states for value in state.values()]


def test_an_update_of_the_world_action_model_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, on torch's `meta` device."""
    monkeypatch.setattr(world_module, "step_where_finite", lambda optimizer, norm: torch.isfinite(norm))
    monkeypatch.setattr(base_module, "mixed_precision", lambda precision, device: nullcontext())
    learner = WorldActionLearner(jowa_windows.make_agent().to("meta"), jowa_windows.CONFIG)
    for stage in ("offline", "online"):
        made = learner.update(jowa_windows.draw_segments(), [], stage=stage, step=1)
        assert {value.device.type for value in made.values()} == {"meta"}
