"""Parts of `gpu_speed`: decisions of gradient MPC, and the updates of what they are made with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import system.config
from system.config import RunConfig
from system.config.loading import load_config
from system.families.differentiable.agent import WorldModelAgent
from system.families.differentiable.learner import WorldModelLearner
from system.families.differentiable.policies import make_policy
from system.models.optimizer_state import AverageGradients, keep_gradients
from system.types import TaskSpec
from tests.benchmarks.gpu_bench import Bench, keep_by_hand, read
from tests.support import speed_subjects

PRESETS = Path(system.config.__file__).parent / "presets"
TASK = TaskSpec("Toy-v0", observation_dim=11, action_dim=3, max_episode_steps=1000)


def gradient_mpc_decisions(bench: Bench) -> None:
    """H = 5, E = 1, M = 64, at the size of the Hopper preset; changes are taken where they are better."""
    for kind in ("mean_flow", "diffusion", "ensemble"):
        for count in (1, bench.sizes.environments):
            cases: dict[str, Callable[[], Callable[[], object]]] = {}
            for name, recorded in (("kernel by kernel", False), ("float32", True)):
                cases[name] = lambda kind=kind, count=count, recorded=recorded: _ascent(
                    bench, kind, count, recorded=recorded
                )
            bench.compare(f"gradient MPC, {kind}", cases, environments=count)


def _ascent(bench: Bench, kind: str, count: int, *, recorded: bool) -> Callable[[], object]:
    words = [f"differentiable.model.kind={kind}", f"device={bench.device.type}"]
    config = load_config(RunConfig, "dwm-hopper-medium-replay", words, presets=PRESETS)
    agent = WorldModelAgent(TASK, config).to(bench.device).eval()
    ascent = replace(config.planner.ascent, num_noise=bench.sizes.futures)
    policy = make_policy("gradient_mpc", agent, TASK, config, replace(config.planner, ascent=ascent))
    policy.is_recorded &= recorded
    history = speed_subjects.vector_history(TASK, count, 1)
    generator = torch.Generator(bench.device).manual_seed(0)
    return lambda: policy.act(history, np.arange(count), generator).action


def gradient_model_updates(bench: Bench) -> None:
    """An update of ReBRAC twice and of the world model, at the size of the Hopper preset."""
    cases: dict[str, Callable[[], Callable[[], object]]] = {}
    for name, average_gradients in (("kernel by kernel", keep_by_hand), ("float32", keep_gradients)):
        cases[name] = lambda average_gradients=average_gradients: _gradient_update(bench, average_gradients)
    bench.compare("update of a differentiable world model and ReBRAC", cases)


def _gradient_update(bench: Bench, average_gradients: AverageGradients) -> Callable[[], object]:
    config = load_config(
        RunConfig, "dwm-hopper-medium-replay", [f"device={bench.device.type}"], presets=PRESETS
    )
    agent = WorldModelAgent(TASK, config).to(bench.device).train()
    learner = WorldModelLearner(agent, config, average_gradients=average_gradients)
    batch = speed_subjects.vector_transitions(TASK, config.method.critic.batch_size)
    followed = np.ones(len(batch.rewards), dtype=bool)
    transitions = [replace(batch, next_actions=batch.actions, next_known=followed)]
    transitions *= config.method.critic.updates_per_step
    segments = speed_subjects.vector_segments(TASK, 1, 2)
    steps = iter(range(1_000_000))
    return lambda: read(learner.update(segments, transitions, stage="offline", step=next(steps)))
