"""From a checkpoint to a policy that can be taken away."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from system.config.loading import Overrides, to_dict
from system.envs.registry import is_known
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError
from system.evaluation.policies import planner_policy_name
from system.families.registry import family_of
from system.runs.checkpoint import FOLDER
from system.runs.loaded_agent import LoadedAgent
from system.runs.one_pass import export_program, windows_of
from system.runs.policy_card import write_card
from system.runs.policy_package import CARD, EXAMPLE, PROGRAM, PolicyPackage, check_free, write_package
from system.runs.run_directory import SUMMARY
from system.runs.saved_agent import SavedAgent, open_agent
from system.seeding import numpy_generator
from system.types import TaskSpec

EXAMPLE_STEPS = 8


@dataclass(frozen=True)
class ExportedPolicy:
    """A policy that was taken out of a run.

    Attributes:
        path: its folder.
        policy: its name.
        checkpoint: that it comes from.
        run_dir: of the run; None of a checkpoint that lies by itself.
        has_program: whether it is there as a program, too.
    """

    path: Path
    policy: str
    checkpoint: Path
    run_dir: Path | None
    has_program: bool


def export_policy(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    policy: str | None = None,
    overrides: Overrides = (),
    one_pass: bool = False,
) -> ExportedPolicy:
    """Writes all that it takes to act: `load_agent` takes the folder, where only torch and NumPy are too.

    Args:
        checkpoint: a checkpoint, or a run directory: its newest one.
        folder: a new one, or empty.
        policy: the one that is loaded where none is named; None is the configured planner. The others stay there.
        overrides: of the configuration that is written, for example `planner.target_return_ratio`.
        one_pass: writes the policy as a program of torch alone as well (`torch.export`).

    Raises:
        CheckpointError: the checkpoint is missing, damaged or not of a run.
        ConfigError: the folder is not empty, an override or the policy is wrong, or it does not decide in one
            pass.
        SystemFailure: the program does not decide as the policy does.
    """
    folder = Path(folder)
    check_free(folder)
    saved = open_agent(Path(checkpoint), overrides, device="cpu")
    name = policy or saved.policy or planner_policy_name(saved.config)
    task = saved.tasks[0]
    actor = LoadedAgent(saved.agent, task, saved.config, policy=name, seed=saved.config.seed)
    observations, actions = play_example(actor)
    others = {EXAMPLE: _encode_arrays({"observations": observations, "actions": actions})}
    if one_pass:
        others[PROGRAM] = _program(saved, task, name, observations, actions)
    run_dir = saved.path.parent.parent if saved.path.parent.name == FOLDER else None
    summary = _read_summary(run_dir)
    others[CARD] = write_card(saved, name, summary, has_program=one_pass).encode()
    package = PolicyPackage(
        weights=saved.agent.state_dict(),
        config=to_dict(replace(saved.config, device="auto")),
        task={
            "policy": name,
            "stage": saved.stage,
            "seed": saved.config.seed,
            "spaces": {each.environment_id: describe_spaces(each) for each in saved.tasks},
            "tasks": [asdict(each) for each in saved.tasks],
        },
    )
    write_package(folder, package, others)
    return ExportedPolicy(folder, name, saved.path, run_dir, one_pass)


def play_example(actor: LoadedAgent) -> tuple[np.ndarray, np.ndarray]:
    """Observations of an episode's beginning, and what is done at each.

    Where there is no environment, the observations are numbers by chance: enough to compare decisions with.

    Returns:
        observations [L, …] and actions [L, …], in the environment's own bounds, of L ≤ `EXAMPLE_STEPS` steps.
    """
    task = actor.task
    if not task.has_environment or not is_known(task.environment_id):
        drawn = _drawn_observations(task)
        return drawn, np.stack([actor.act(each) for each in drawn])
    environments = EnvironmentBatch(task, 1)
    try:
        shown, seen, done = environments.reset([0], [actor.config.seed]), [], []
        for _ in range(EXAMPLE_STEPS):
            seen.append(shown[0].copy())
            done.append(actor.act(seen[-1]))
            shown, _, terminated, truncated = environments.step(actor.executed, np.ones(1, bool))
            if terminated[0] or truncated[0] or environments.errors[0]:
                break
    finally:
        environments.close()
    return np.stack(seen), np.stack(done)


def describe_spaces(task: TaskSpec) -> dict[str, Any]:
    """Observation and action of an environment, for a person or another program."""
    frames = task.frame_shape is not None
    observation = {
        "shape": list(task.frame_shape or (task.observation_dim,)),
        "dtype": "uint8" if frames else "float32",
    }
    if task.is_discrete:
        values = [each + task.action_start for each in task.valid_actions]
        action: dict[str, Any] = {"dtype": "int64", "values": values}
    else:
        low, high = (each.tolist() for each in task.action_bounds)
        action = {"shape": [task.action_dim], "dtype": "float32", "low": low, "high": high}
    return {"observation": observation, "action": action}


def _program(
    saved: SavedAgent, task: TaskSpec, name: str, observations: np.ndarray, actions: np.ndarray
) -> bytes:
    family, planner = family_of(saved.config), saved.config.planner
    make = family.one_pass
    if make is None:
        raise ConfigError(f"--one-pass: family {family.name} has no policy that decides in one pass")
    program = make(name, saved.agent, task, saved.config, planner)
    if program is None:
        able = [each for each in family.policies() if make(each, saved.agent, task, saved.config, planner)]
        raise ConfigError(f"--one-pass: policy {name} does not decide in one pass; {' and '.join(able)} do")
    example = windows_of(task, observations, actions, saved.config.context_length)
    return export_program(program, task, example, actions)


def _drawn_observations(task: TaskSpec) -> np.ndarray:
    generator = numpy_generator(0, "example")
    if task.frame_shape is not None:
        return generator.integers(0, 256, (EXAMPLE_STEPS, *task.frame_shape), dtype=np.uint8)
    return generator.standard_normal((EXAMPLE_STEPS, task.observation_dim)).astype(np.float32)


def _read_summary(run_dir: Path | None) -> dict[str, Any]:
    try:
        summary = json.loads((run_dir / SUMMARY).read_text()) if run_dir is not None else {}
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()
