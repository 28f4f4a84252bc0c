"""How `collect` takes a run directory to a finished Minari dataset."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from system.config import CollectConfig
from system.config.loading import to_dict
from system.data.sources.minari_layout import check_dataset_id
from system.data.writer import write_dataset
from system.distributed.collection import Collection, Collector
from system.envs.registry import collected_task, environment_specification
from system.errors import ConfigError
from system.runs.checkpoint import package_versions
from system.runs.run_directory import SUMMARY, RunDirectory
from system.tracking.console import ConsoleTracker
from system.training.interruption import Interruption
from system.training.results import VERSIONS

AUTHOR = "offline-to-online"
PONG = "ALE/Pong-v5"


def collect_dataset(config: CollectConfig, path: Path, arguments: argparse.Namespace) -> int:
    """Collects what the configuration asks for and writes it as a dataset.

    Args:
        config: resolved.
        path: run directory; an unfinished collection in it goes on, of a finished one the table is printed.
        arguments: of the verb `collect`.

    Raises:
        ConfigError: the dataset exists already, or keys do not go together.
    """
    check_dataset_id(config.dataset_id)
    check_keys(config)
    written = Path(config.output) / config.dataset_id
    if written.exists() and (arguments.restart or not (path / SUMMARY).exists()):
        raise ConfigError(f"dataset_id: {config.dataset_id} exists already in {config.output}")
    with RunDirectory.claim(path, config, restart=arguments.restart) as run_dir, Interruption() as interruption:
        if written.exists():
            summary = json.loads((path / SUMMARY).read_text())
        else:
            run_dir.write_processes({"driver": os.getpid()})
            collection = _collect(config, run_dir.path, interruption, arguments)
            # The summary comes first: a dataset without one could not be told from somebody else's.
            summary = summarize(config, collection)
            run_dir.write_summary(summary)
            _write(config, collection)
    print(format_summary(summary))
    return 0


def check_keys(config: CollectConfig) -> None:
    """Refuses keys that contradict each other, rather than ignore one of them.

    Raises:
        ConfigError: naming the key.
    """
    fitting = {
        "random": ("random",),
        "checkpoint": ("medium", "expert"),
        "ppo": ("medium-replay", "medium", "expert"),
        "tracker": ("mixed",),
    }
    if config.kind not in fitting[config.policy]:
        raise ConfigError(f"kind: {config.kind} does not go with policy {config.policy}")
    if config.policy != "checkpoint":
        for key, value in (("checkpoint", config.checkpoint), ("action_noise", config.action_noise)):
            if value:
                raise ConfigError(f"{key}: does not go with policy {config.policy}")
    if (config.policy == "tracker") != bool(config.noise_levels):
        raise ConfigError("noise_levels: given for policy tracker, and for no other")
    if (config.policy == "tracker") != (config.environment == PONG) and config.policy != "random":
        raise ConfigError(f"environment: policy {config.policy} does not play {config.environment}")
    is_discrete = collected_task(config).is_discrete
    if is_discrete and config.policy == "ppo":
        raise ConfigError(
            f"policy: ppo learns continuous actions, those of {config.environment} are discrete; random, or "
            "checkpoint of a trained agent, plays it"
        )
    if is_discrete and config.action_noise:
        raise ConfigError(f"action_noise: the actions of {config.environment} are discrete, nothing can be added")


def _collect(
    config: CollectConfig, folder: Path, interruption: Interruption, arguments: argparse.Namespace
) -> Collection:
    console = ConsoleTracker(quiet=arguments.quiet)

    def report(stage: str, done: int, total: int) -> None:
        console.progress(stage, done, total, "env steps")

    try:
        return Collector(config, folder, report, interruption.raise_if_asked).collect(arguments.address)
    finally:
        console.close()


def _write(config: CollectConfig, collection: Collection) -> None:
    write_dataset(
        Path(config.output),
        config.dataset_id,
        collection.episodes,
        task=collected_task(config),
        environment_specification=environment_specification(collected_task(config)),
        author=AUTHOR,
        algorithm_name=collection.algorithm_name,
        description=describe(config, collection),
    )


def describe(config: CollectConfig, collection: Collection) -> str:
    """Provenance, in a sentence: what acted, for how long, with which versions."""
    frames = collected_task(config).frame_shape is not None
    packages = ("gymnasium", "ale-py") if frames else ("ray", "gymnasium", "mujoco")
    versions = ", ".join(f"{name} {version}" for name, version in package_versions(*packages).items())
    trained = f" trained for {collection.training_env_steps} steps" if collection.training_env_steps else ""
    return (
        f"{config.kind} data of {config.environment}: {collection.algorithm_name}{trained}, seed {config.seed}, "
        f"recorded with `o2o collect`; {versions}."
    )


def summarize(config: CollectConfig, collection: Collection) -> dict[str, Any]:
    """What summary.json holds."""
    returns = np.array([episode.episode_return for episode in collection.episodes])
    return {
        "config": to_dict(config),
        "seed": config.seed,
        "versions": package_versions(*VERSIONS),
        "dataset": {
            "id": config.dataset_id,
            "path": config.output,
            "episodes": len(returns),
            "steps": sum(episode.num_steps for episode in collection.episodes),
            "return_min": float(returns.min()),
            "return_mean": float(returns.mean()),
            "return_max": float(returns.max()),
            "normalized_return_mean": collected_task(config).normalized(float(returns.mean())),
        },
        "algorithm_name": collection.algorithm_name,
        "training_env_steps": collection.training_env_steps,
        "faults": {"episode_dropped": collection.num_dropped},
    }


def format_summary(summary: dict[str, Any]) -> str:
    """What was written, and what to type next."""
    dataset, dropped = summary["dataset"], summary["faults"]["episode_dropped"]
    lines = [
        f"{dataset['id']}: {dataset['episodes']} episodes, {dataset['steps']} steps",
        f"return   min {dataset['return_min']:.1f}   mean {dataset['return_mean']:.1f}"
        f"   max {dataset['return_max']:.1f}",
        f"written to {Path(dataset['path']) / dataset['id']}",
    ]
    if dropped:
        lines.append(f"survived: episode_dropped {dropped}")
    modules = summary["config"]["modules"]
    known = f" --modules {','.join(modules)}" if modules else ""
    return "\n".join([*lines, "", f"next: o2o data check {dataset['id']} --path {dataset['path']}{known}"])
