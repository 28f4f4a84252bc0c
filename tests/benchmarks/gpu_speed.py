"""What `gpu.sh` runs: every part checks or times one thing and writes a line for each case as soon as it is known.

A line is a JSON object: `part`, `case`, and either `milliseconds` (the median; `slowest`, `first` beside it) with
`ratio`, how many times as fast as the part's first case, or `check` and what was found, or `error`. A part that
fails says so in a line and does not keep the others from running.
"""

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from configs import masked_config, world_config

from system.config import CriticConfig, PlannerConfig, PretrainConfig, RunConfig
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.config import ModelConfig, TrajectoryTrainingConfig
from system.families.masked_trajectory.learner import M3PCLearner
from system.families.masked_trajectory.policies import make_policy
from system.families.registry import family_of
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.config import TokenizerConfig, WorldActionTrainingConfig
from system.families.world_action.imagination import WorldActionImagination
from system.families.world_action.learner import WorldActionLearner
from system.models.optimizer_state import AverageGradients, keep_gradients, mixed_precision
from system.planning.accelerated_model import AcceleratedModel
from system.planning.beam_search import beam_search
from system.types import TaskSpec
from tests.benchmarks.gpu_bench import TINY, Bench, Sizes, in_one_line, keep_by_hand, read
from tests.benchmarks.gpu_gradient_mpc import gradient_model_updates, gradient_mpc_decisions
from tests.support import speed_subjects

VECTORS = TaskSpec("Toy-v0", observation_dim=11, action_dim=3, max_episode_steps=1000)
GAME = TaskSpec(
    "ALE/Pong-v5", 84 * 84, 18, 27000, frame_shape=(84, 84), valid_actions=tuple(range(18)), game=39
)

def card(bench: Bench) -> None:
    """What the device reaches in matrix products."""
    size = bench.sizes.product

    def product(dtype: torch.dtype) -> Callable[[], object]:
        left, right = (torch.randn(size, size, device=bench.device, dtype=dtype) for _ in range(2))
        return lambda: left @ right

    bench.compare(
        "product",
        {"float32": lambda: product(torch.float32), "bfloat16": lambda: product(torch.bfloat16)},
        teraflop=2e-12 * size**3,
    )


def _masked(bench: Bench, model: ModelConfig, batch: int, **keys: Any) -> RunConfig:
    return masked_config(
        model=model,
        training=TrajectoryTrainingConfig(batch_size=batch),
        critic=CriticConfig(),
        pretrain=PretrainConfig(update_steps=100_000),
        device=bench.device.type,
        **keys,
    )


def _agent(bench: Bench, config: RunConfig) -> TrajectoryAgent:
    return TrajectoryAgent(VECTORS, config).to(bench.device)


def _model_update(
    bench: Bench, config: RunConfig, average_gradients: AverageGradients = keep_gradients
) -> Callable[[], object]:
    """An update of the trajectory model alone, its numbers read as the learner worker reads them."""
    agent = _agent(bench, config).train()
    learner = M3PCLearner(agent, config, average_gradients=average_gradients)
    if config.compile:
        compile_models = family_of(config).compile
        assert compile_models is not None
        compile_models(agent)
    segments = speed_subjects.vector_segments(
        VECTORS, config.method.training.batch_size, config.method.model.context_length
    )
    steps = iter(range(1_000_000))
    return lambda: read(learner.update(segments, [], stage="offline", step=next(steps)))


def _by_cudnn(call: Callable[[], object]) -> Callable[[], object]:
    def called() -> object:
        torch.backends.cuda.enable_cudnn_sdp(True)
        try:
            return call()
        finally:
            torch.backends.cuda.enable_cudnn_sdp(False)

    return called


def masked_updates(bench: Bench) -> None:
    """The masked model's update in the paper's and in the CPU preset's size."""
    sizes = bench.sizes
    for part, model, batch in (
        ("masked update, paper size", sizes.paper, sizes.paper_batch),
        ("masked update, CPU preset's size", sizes.preset, sizes.preset_batch),
    ):
        single = _masked(bench, model, batch, precision="float32")
        half = _masked(bench, model, batch, precision="bfloat16")
        cases: dict[str, Callable[[], Callable[[], object]]] = {
            "float32, kernel by kernel": lambda config=single: _model_update(bench, config, keep_by_hand),
            "bfloat16, kernel by kernel": lambda config=half: _model_update(bench, config, keep_by_hand),
            "float32": lambda config=single: _model_update(bench, config),
            "bfloat16": lambda config=half: _model_update(bench, config),
            "bfloat16, cuDNN's attention": lambda config=half: _by_cudnn(_model_update(bench, config)),
        }
        bench.compare(part, cases)


def compiled_updates(bench: Bench) -> None:
    """The same with `compile: true`: the first update holds the compilation, the slowest any later one.

    Compiling takes longer than a quick try may.
    """
    if bench.sizes is TINY:
        return
    config = _masked(bench, bench.sizes.paper, bench.sizes.paper_batch, precision="bfloat16")
    cases = {"bfloat16": config, "bfloat16, compiled": replace(config, compile=True)}
    bench.compare(
        "masked update, compiled",
        {name: lambda each=each: _model_update(bench, each) for name, each in cases.items()},
    )
    from torch._dynamo.utils import counters

    bench.write(part="masked update, compiled", check="graphs compiled", found=counters["stats"]["unique_graphs"])


def critic_updates(bench: Bench) -> None:
    """Implicit Q-learning: one update, and several before anything is read."""
    several = bench.sizes.critics_a_call

    def update(count: int, average_gradients: AverageGradients = keep_gradients) -> Callable[[], object]:
        config = _masked(bench, bench.sizes.preset, bench.sizes.preset_batch)
        agent = _agent(bench, config).train()
        critics = M3PCLearner(agent, config, average_gradients=average_gradients).critics
        batch = speed_subjects.vector_transitions(VECTORS, config.method.critic.batch_size)

        def several_updates() -> object:
            made = [critics.update(batch) for _ in range(count)]
            return read(made[-1])

        return several_updates

    bench.compare(
        "critics' update", {"kernel by kernel": lambda: update(1, keep_by_hand), "one a call": lambda: update(1)}
    )
    bench.compare(
        "critics' update, several a call",
        {"kernel by kernel": lambda: update(several, keep_by_hand), f"{several} a call": lambda: update(several)},
        per_call=several,
    )


def forward_mpc_decisions(bench: Bench) -> None:
    """Whole decisions of forward MPC with critics, from the history on the host to the action on the host."""
    for count in (1, bench.sizes.environments):
        cases: dict[str, Callable[[], Callable[[], object]]] = {
            "float32, kernel by kernel": lambda count=count: _decision(bench, "float32", count, graphed=False),
            "bfloat16, kernel by kernel": lambda count=count: _decision(bench, "bfloat16", count, graphed=False),
            "float32": lambda count=count: _decision(bench, "float32", count),
            "TF32": lambda count=count: _in_tf32(_decision(bench, "float32", count)),
            "bfloat16": lambda count=count: _decision(bench, "bfloat16", count),
        }
        bench.compare("forward MPC, paper size", cases, environments=count)
    if bench.device.type == "cuda":
        decide = _decision(bench, "bfloat16", 1)
        decide(), decide(), decide()
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            decide()
            torch.cuda.set_sync_debug_mode("default")
        bench.write(part="check", check="waits in a decision of forward MPC", found=len(waits))


def _in_tf32(call: Callable[[], object]) -> Callable[[], object]:
    def called() -> object:
        torch.set_float32_matmul_precision("high")
        try:
            return call()
        finally:
            torch.set_float32_matmul_precision("highest")

    return called


def _decision(bench: Bench, precision: Any, count: int, *, graphed: bool = True) -> Callable[[], object]:
    planner = PlannerConfig(num_candidates=bench.sizes.candidates, horizon=4, precision=precision)
    config = _masked(bench, bench.sizes.paper, bench.sizes.paper_batch, planner=planner)
    agent = _agent(bench, config).eval()
    policy = make_policy("forward_mpc_q", agent, VECTORS, config, planner)
    if not graphed:
        policy.model = AcceleratedModel(policy.model.model, bench.device, precision, graphed=False)
    history = speed_subjects.vector_history(VECTORS, count, config.method.model.context_length)
    generator = torch.Generator(bench.device).manual_seed(0)
    return lambda: policy.act(history, np.arange(count), generator).action


def beam_search_decisions(bench: Bench) -> None:
    """Beam search, horizon 2, beam 2, over frames of which a tenth changes."""
    tokenizer = TokenizerConfig()
    for count in (1, bench.sizes.environments):
        cases: dict[str, Callable[[], Callable[[], object]]] = {}
        for precision in ("float32", "bfloat16"):
            cases[precision] = lambda precision=precision, count=count: _search(bench, tokenizer, precision, count)
        bench.compare("beam search", cases, environments=count)


def _search(bench: Bench, tokenizer: TokenizerConfig, precision: str, count: int) -> Callable[[], object]:
    tokens = tokenizer.tokens_per_side**2
    model = speed_subjects.world_model(
        bench.sizes.world, vocabulary=tokenizer.vocabulary, tokens_per_frame=tokens
    )
    config = PlannerConfig(name="beam_search", horizon=2, beam_width=2, td_lambda=1.0, select="argmax")
    context = speed_subjects.token_context(
        count, model.context_length - config.horizon, tokenizer.vocabulary, tokens
    )
    speed_subjects.settle(model, context)
    imagination = WorldActionImagination(model.to(bench.device), discount=0.99)
    moved = replace(context, **{name: value.to(bench.device) for name, value in vars(context).items()})
    generator = torch.Generator(bench.device)

    def decide() -> object:
        with mixed_precision(precision, bench.device):
            return beam_search(imagination, moved, config=config, generator=generator).action.cpu()

    return decide


def world_updates(bench: Bench) -> None:
    """The world-action model's joint update."""
    for model, batch in bench.sizes.world_updates:
        cases: dict[str, Callable[[], Callable[[], object]]] = {}
        for name, average_gradients in ((", kernel by kernel", keep_by_hand), ("", keep_gradients)):
            for precision in ("float32", "bfloat16"):
                config = world_config(
                    model=model,
                    training=WorldActionTrainingConfig(batch_size=batch, world_share=0.0),
                    precision=precision,
                    device=bench.device.type,
                )
                cases[precision + name] = lambda config=config, average_gradients=average_gradients: _world_update(
                    bench, config, average_gradients
                )
        bench.compare("joint update of the world-action model", cases, width=model.width, batch=batch)


def _world_update(bench: Bench, config: RunConfig, average_gradients: AverageGradients) -> Callable[[], object]:
    agent = WorldActionAgent(GAME, config).to(bench.device).train()
    learner = WorldActionLearner(agent, config, average_gradients=average_gradients)
    segments = speed_subjects.token_segments(GAME, config)
    steps = iter(range(1, 1_000_000))
    return lambda: read(learner.update(segments, [], stage="online", step=next(steps)))


def same_as_on_a_cpu(bench: Bench) -> None:
    """Thirty updates in float32 here and on the CPU: the largest relative distance of what is reported."""
    found: list[dict[str, float]] = []
    for device in (torch.device("cpu"), bench.device):
        config = _masked(bench, replace(bench.sizes.preset, dropout=0.0), 16, precision="float32")
        agent = TrajectoryAgent(VECTORS, config).to(device).train()
        learner = M3PCLearner(agent, config)
        segments = speed_subjects.vector_segments(VECTORS, 16, config.method.model.context_length)
        transitions = [speed_subjects.vector_transitions(VECTORS, 32)]
        for step in range(30):
            made = learner.update(segments, transitions, stage="offline", step=step)
        found.append({name: float(value) for name, value in made.items()})
    ours, theirs = found
    distances = {name: abs(ours[name] - theirs[name]) / (1e-3 + abs(ours[name])) for name in ours}
    worst = max(distances, key=lambda name: distances[name])
    bench.write(part="check", check="thirty updates as on a CPU", found=distances[worst], metric=worst)


def suite(bench: Bench) -> None:
    """The tests that need a GPU, where pytest and the simulators are installed."""
    if bench.device.type != "cuda":
        return
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu", "-x"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=150)
        said, passed = (ended.stdout.strip() or ended.stderr.strip()).splitlines(), ended.returncode == 0
    except subprocess.TimeoutExpired:
        said, passed = ["not done within 150 s"], False
    outcome = "found" if passed else "error"
    bench.write(part="check", check="pytest -m gpu tests/gpu", **{outcome: said[-1] if said else ""})


PARTS: Mapping[str, Callable[[Bench], None]] = {
    each.__name__: each
    for each in (
        card,
        same_as_on_a_cpu,
        masked_updates,
        critic_updates,
        forward_mpc_decisions,
        beam_search_decisions,
        gradient_mpc_decisions,
        gradient_model_updates,
        world_updates,
        compiled_updates,
        suite,
    )
}


def main(arguments: list[str]) -> int:
    """Runs the parts in order of what they tell, for as long as there is time."""
    parser = argparse.ArgumentParser(prog="gpu.sh", description="Checks and times what a GPU is for.")
    parser.add_argument("output", type=Path, help="file for the results, a JSON object a line; written anew")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="the same code with sizes for a quick try")
    parser.add_argument("--minutes", type=float, default=5.0, help="after which no further part is begun")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu --tiny tries the script itself")
    started = time.monotonic()
    with given.output.open("w") as output:
        bench = Bench(torch.device(given.device), TINY if given.tiny else Sizes(), output)
        name = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
        bench.write(part="machine", device=name, torch=torch.__version__, tiny=given.tiny)
        for part in given.parts:
            if time.monotonic() - started > 60 * given.minutes:
                bench.write(part=part, error="not begun: the time is over")
                continue
            try:
                PARTS[part](bench)
            except Exception as error:  # noqa: BLE001  likewise
                bench.write(part=part, error=in_one_line(error))
        bench.write(part="end", seconds=time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
