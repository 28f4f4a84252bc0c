"""What `run`, `pretrain` and `finetune` have in common: a run directory taken to a stage.

Everything is put together here and handed to the stages: data, workers (local or over Ray), tracker,
checkpoint. Whether the directory is new, half done or finished decides where the work starts.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from system.cli.options import resolve_run, resolve_tracking_uri
from system.config import RunConfig
from system.config_io import flatten, to_dict
from system.errors import Interrupted
from system.tracking.composite import make_tracker
from system.training.checkpoint import CheckpointContent, FoundCheckpoint, find_checkpoint
from system.training.experiment import Experiment
from system.training.interruption import Interruption
from system.training.local_workers import LocalWorkers
from system.training.preparation import PreparedData, prepare_data, tokenize
from system.training.progress import Stage
from system.training.protocols import Artifact, Tracker, Weights, Workers
from system.training.results import format_summary, summarize
from system.training.run_directory import CONFIG, SUMMARY, RunDirectory
from system.training.saved_agent import load_run_checkpoint
from system.training.stages import work_through


def launch(arguments: argparse.Namespace, *, until: Stage, start: Path | None = None) -> int:
    """Works a run directory through its stages, up to but without `until`, and prints the result.

    Args:
        arguments: of a verb with configuration, work and tracking options.
        until: first stage that is not worked on.
        start: a checkpoint whose learners' state replaces pretraining.
    """
    config, path = resolve_run(arguments, RunConfig)
    with RunDirectory.claim(path, config, restart=arguments.restart) as run_dir:
        summary = run_dir.finished(until)
        if summary is None:
            summary = _work(config, run_dir, arguments, until, start)
    print(format_summary(summary))
    uri = resolve_tracking_uri(arguments)
    if config.tracking.mlflow and uri.startswith("sqlite:"):
        print(f"\nall of it, with curves and figures: mlflow ui --backend-store-uri {uri}")
    return 0


def _work(
    config: RunConfig, run_dir: RunDirectory, arguments: argparse.Namespace, until: Stage, start: Path | None
) -> dict[str, Any]:
    found = run_dir.newest_checkpoint()
    start = find_checkpoint(start) if start is not None and found is None else None
    content = load_run_checkpoint(start) if start is not None else None if found is None else found.content
    cache_folder = run_dir.path.parent / "dataset-cache"
    data = prepare_data(config, cache_folder)
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        tracker = stack.enter_context(_tracking(config, run_dir, arguments))
        data = tokenize(
            data,
            config,
            cache_folder,
            weights=_tokenizer_weights(content),
            progress=lambda done, total: tracker.progress("tokenizer", done, total, "updates"),
            stop_if_asked=interruption.raise_if_asked,
        )
        epoch = (
            0 if found is None or config.deterministic else found.content.documents["faults"]["driver_resumed"] + 1
        )
        workers = stack.enter_context(closing(_make_workers(config, data, run_dir, arguments.address, epoch)))
        run = stack.enter_context(closing(Experiment(config, data, run_dir, tracker, workers, interruption)))
        if found is None:
            _begin(run, start, content)
        else:
            _resume(run, found)
        work_through(run, until)
        summary = summarize(run)
        run_dir.write_summary(summary)
        tracker.log_artifact(Artifact(run_dir.path / SUMMARY))
    return summary


def _tokenizer_weights(content: CheckpointContent | None) -> Weights | None:
    """Those that a checkpoint's model was trained with; None where there is no checkpoint."""
    if content is None:
        return None
    prefix = "agent.tokenizer."
    state = content.tensors["learner"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _begin(run: Experiment, start: Path | None, content: CheckpointContent | None) -> None:
    """A new run: everything that describes it is tracked once, and there is a checkpoint from the first."""
    run.tracker.log_parameters(flatten(to_dict(run.config)))
    run.tracker.set_tags({"dataset": run.config.dataset.id, "algorithm": run.config.algorithm})
    run.tracker.log_artifact(Artifact(run.run_dir.path / CONFIG))
    if start is not None and content is not None:
        run.start_from(start, content)
        run.progress.stage = "offline_evaluation"
    run.save()


def _resume(run: Experiment, found: FoundCheckpoint) -> None:
    run.restore(found.content)
    run.faults.driver_resumed += 1
    run.faults.checkpoint_corrupt += len(found.skipped)
    for line in found.skipped:
        run.tracker.note(f"skipped: {line}")
    progress = run.progress
    run.tracker.note(
        f"resumed from {found.path.name}: {progress.pretrain_steps} + {progress.online_update_steps} updates, "
        f"{progress.env_steps} env steps"
    )
    run.save()


@contextmanager
def _tracking(config: RunConfig, run_dir: RunDirectory, arguments: argparse.Namespace) -> Iterator[Tracker]:
    """A tracker that is told how the run ended."""
    tracker = make_tracker(
        config,
        run_dir.path,
        tracking_uri=resolve_tracking_uri(arguments),
        run_name=run_dir.path.name,
        quiet=arguments.quiet,
    )
    try:
        yield tracker
    except (Interrupted, KeyboardInterrupt):
        tracker.close("KILLED")
        raise
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def _make_workers(
    config: RunConfig, data: PreparedData, run_dir: RunDirectory, address: str | None, epoch: int
) -> Workers:
    """In this process, or over Ray where the configuration asks for actors."""
    if config.learners == 0 and config.rollout_workers == 0:
        return LocalWorkers(data, config, run_dir.path, epoch)
    from system.distributed.environment import prepare_environment

    prepare_environment(address)
    from system.distributed.workers import RayWorkers

    return RayWorkers(data, config, run_dir.path, epoch, address=address)
