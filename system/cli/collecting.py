"""How `collect` takes a run directory to a finished Minari dataset."""

import argparse
from pathlib import Path

import numpy as np

from system.config import CollectConfig
from system.data.minari_layout import check_dataset_id
from system.data.minari_writer import write_dataset
from system.distributed.collection import Collection, Collector
from system.envs.registry import environment_specification, find_task
from system.errors import ConfigError, Interrupted
from system.tracking.console import ConsoleTracker
from system.training.checkpoint import package_versions
from system.training.interruption import Interruption
from system.training.run_directory import RunDirectory

AUTHOR = "offline-to-online"


def collect_dataset(config: CollectConfig, path: Path, arguments: argparse.Namespace) -> int:
    """Collects what the configuration asks for and writes it as a dataset.

    Args:
        config: resolved.
        path: run directory; an unfinished collection in it goes on.
        arguments: of the verb `collect`.

    Raises:
        ConfigError: the dataset exists already, or the kind does not go with the policy.
    """
    check_dataset_id(config.dataset_id)
    folder = Path(config.output) / config.dataset_id
    if folder.exists():
        raise ConfigError(f"dataset_id: {config.dataset_id} exists already in {config.output}")
    if (config.kind == "random") != (config.policy == "random"):
        raise ConfigError(f"kind: {config.kind} does not go with policy {config.policy}")
    console = ConsoleTracker(quiet=arguments.quiet)
    with RunDirectory.claim(path, config, restart=arguments.restart) as run_dir, Interruption() as interruption:

        def stop_if_asked() -> None:
            if interruption.signal_number:
                raise Interrupted(interruption.signal_number)

        collector = Collector(
            config,
            run_dir.path,
            lambda stage, done, total: console.progress(stage, done, total, "env steps"),
            stop_if_asked,
        )
        collection = collector.collect(arguments.address)
        console.close()
        write_dataset(
            Path(config.output),
            config.dataset_id,
            collection.episodes,
            task=find_task(config.environment),
            environment_specification=environment_specification(config.environment),
            author=AUTHOR,
            algorithm_name=collection.algorithm_name,
            description=describe(config, collection),
        )
    print(format_collection(config, collection))
    return 0


def describe(config: CollectConfig, collection: Collection) -> str:
    """Provenance, in a sentence: what acted, for how long, with which versions."""
    versions = ", ".join(
        f"{name} {version}" for name, version in package_versions("ray", "gymnasium", "mujoco").items()
    )
    trained = f" trained for {collection.training_env_steps} steps" if collection.training_env_steps else ""
    return (
        f"{config.kind} data of {config.environment}: {collection.algorithm_name}{trained}, seed {config.seed}, "
        f"recorded with `o2o collect`; {versions}."
    )


def format_collection(config: CollectConfig, collection: Collection) -> str:
    """What was written, and what to type next."""
    returns = np.array([episode.episode_return for episode in collection.episodes])
    steps = sum(episode.num_steps for episode in collection.episodes)
    return (
        f"{config.dataset_id}: {len(returns)} episodes, {steps} steps\n"
        f"return   min {returns.min():.1f}   mean {returns.mean():.1f}   max {returns.max():.1f}\n"
        f"written to {Path(config.output) / config.dataset_id}\n\n"
        f"next: o2o data check {config.dataset_id} --path {config.output}"
    )
