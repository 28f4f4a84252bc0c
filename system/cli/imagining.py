"""How `imagine` takes a checkpoint and its dataset to a dataset of imagined episodes."""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from system.cli.options import RUNS, refuse_address, resolve_checkpoint
from system.config.loading import to_dict
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.prepared import PreparedData
from system.data.sources.minari_layout import check_dataset_id, default_root
from system.data.store.episodes import EpisodeStore
from system.data.writer import Provenance, write_dataset
from system.envs.registry import environment_specification
from system.errors import ConfigError, SystemFailure
from system.evaluation.imagined_summary import describe, format_imagined
from system.families.registry import Imagining, family_of
from system.files import write_durably
from system.runs.checkpoint import package_versions
from system.runs.run_directory import SUMMARY, RunDirectory
from system.runs.saved_agent import SavedAgent, open_agent
from system.tracking.console import ConsoleTracker
from system.training.evaluator import LocalEvaluators
from system.training.imagining import about_imagining, imagine_dataset
from system.training.interruption import Interruption
from system.training.preparation import prepare_data
from system.training.protocols import Evaluators
from system.training.results import VERSIONS

AUTHOR = "offline-to-online"
CHUNKS, STORE, ROLLOUTS = "chunks", "dataset", "rollouts.safetensors"


def imagine_from_checkpoint(arguments: argparse.Namespace) -> int:
    """Imagines from every episode that the checkpoint's run was trained on, and prints what came of it.

    Args:
        arguments: of the verb `imagine`.

    Raises:
        ConfigError: the family does not imagine, or options do not go together.
    """
    seed = [] if arguments.seed is None else [f"seed={arguments.seed}"]
    saved = open_agent(resolve_checkpoint(arguments), [*arguments.overrides, *seed])
    imagining = _imagining(saved, arguments)
    path = arguments.run_dir or RUNS / f"imagine-{Path(arguments.checkpoint).name}-{saved.config.seed}"
    with (
        RunDirectory.claim(path, saved.config, restart=arguments.restart) as run_dir,
        Interruption() as interruption,
    ):
        if (path / SUMMARY).exists():
            summary = json.loads((path / SUMMARY).read_text())
        else:
            run_dir.write_processes({"driver": os.getpid()})
            summary = _imagine(saved, imagining, run_dir.path, arguments, interruption)
            run_dir.write_summary(summary)
    print(format_summary(summary))
    return 0


def _imagining(saved: SavedAgent, arguments: argparse.Namespace) -> Imagining:
    """What can be refused before anything is loaded."""
    imagining = family_of(saved.config).imagining
    if imagining is None:
        raise ConfigError(f"{saved.path}: family {saved.config.family} does not imagine from a dataset")
    if arguments.workers < 0:
        raise ConfigError(f"--workers: {arguments.workers} is less than 0")
    if arguments.workers == 0:
        refuse_address(arguments.address)
    if arguments.minari is not None:
        folder = _root(arguments) / check_dataset_id(arguments.minari)
        if folder.exists():
            raise ConfigError(f"--minari: {arguments.minari} exists already in {_root(arguments)}")
    elif arguments.output is not None:
        raise ConfigError("--output: goes with --minari")
    return imagining


def _imagine(
    saved: SavedAgent,
    imagining: Imagining,
    folder: Path,
    arguments: argparse.Namespace,
    interruption: Interruption,
) -> dict[str, Any]:
    config, console, began = saved.config, ConsoleTracker(quiet=arguments.quiet), time.monotonic()
    data = prepare_data(config, folder.parent / "dataset-cache")
    imagining.begin(saved.agent, data, config)
    about = about_imagining(saved.agent, data.training, config)
    with _evaluators(saved, arguments) as evaluators:
        rollouts = imagine_dataset(
            lambda chunks: evaluators.imagine(data.training, chunks, interruption.raise_if_asked),
            data.training,
            folder / CHUNKS,
            about,
            progress=lambda done, total: console.progress("imagine", done, total, "chunks"),
            throw_away=False,
        )
    console.close()
    if not len(rollouts):
        raise SystemFailure(f"{saved.path}: nothing was imagined ({format_imagined(describe(rollouts, 0))})")
    seconds = time.monotonic() - began
    episodes = rollouts.to_episodes()
    EpisodeStore.write(
        folder / STORE, episodes, discount=data.training.discount, readings=data.training.readings
    )
    write_durably(folder / ROLLOUTS, rollouts.to_bytes())
    summary = {
        "config": to_dict(config),
        "seed": config.seed,
        "versions": package_versions(*VERSIONS),
        "checkpoint": str(saved.path),
        "model": about["model"],
        "dataset": data.description,
        "imagined": describe(rollouts, data.training.num_steps),
        "seconds": seconds,
        "steps_per_second": rollouts.num_steps / seconds,
        "workers": arguments.workers,
        "store": str(folder / STORE),
        "minari": None,
    }
    if arguments.minari is not None:
        summary["minari"] = str(_write_minari(saved, data, rollouts, about["model"], arguments))
    return summary


@contextmanager
def _evaluators(saved: SavedAgent, arguments: argparse.Namespace) -> Iterator[Evaluators]:
    """What imagines: this process, or Ray actors."""
    config, weights = replace(saved.config, evaluators=arguments.workers), saved.agent.state_dict()
    if arguments.workers == 0:
        local = LocalEvaluators(saved.tasks, config)
        local.set_weights(weights, 0)
        yield local
        return
    from system.distributed.environment import prepare_environment

    prepare_environment(arguments.address)
    from system.distributed.evaluator_group import evaluators_over_ray

    with evaluators_over_ray(weights, saved.tasks, config, arguments.address) as group:
        yield group


def _write_minari(
    saved: SavedAgent, data: PreparedData, rollouts: ImaginedRollouts, model: str, arguments: argparse.Namespace
) -> Path:
    task = data.task
    return write_dataset(
        _root(arguments),
        arguments.minari,
        rollouts.to_episodes(),
        task=task,
        environment_specification=environment_specification(task) if task.has_environment else "",
        author=AUTHOR,
        algorithm_name=f"{saved.config.family}, imagined",
        description=f"Imagined, not recorded: `o2o imagine` of a model trained on {data.description['id']}.",
        provenance=Provenance(
            model=model,
            dataset=str(data.description["id"]),
            disagreements=[
                rollouts.disagreements[row, :length] for row, length in enumerate(rollouts.lengths.tolist())
            ],
        ),
    )


def _root(arguments: argparse.Namespace) -> Path:
    return arguments.output or default_root()


def format_summary(summary: dict[str, Any]) -> str:
    """What was imagined, and where it lies."""
    record = summary["imagined"]
    lines = [
        f"{summary['checkpoint']}: {format_imagined(record)}",
        f"disagreement   median {record['disagreement_median']:.3g}   largest {record['disagreement_max']:.3g}",
        f"{summary['steps_per_second']:.0f} imagined steps a second, {summary['seconds']:.0f} s",
        f"written to {summary['store']}",
    ]
    if summary["minari"]:
        lines.append(f"written to {summary['minari']}")
    return "\n".join(lines)
