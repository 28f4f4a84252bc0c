"""What `run`, `pretrain` and `finetune` have in common: a run directory taken to a stage.

Everything is put together here and handed to the stages: data, workers (local or over Ray), tracker,
checkpoint. Whether the directory is new, half done or finished decides where the work starts.
"""

import argparse
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.cli.options import refuse_address, resolve_run, resolve_tracking_uri
from system.cli.registering import check_model_name, register_files
from system.cli.report import FOLDER as REPORT_FOLDER
from system.cli.report import write_page
from system.config import RunConfig
from system.config.loading import flatten, to_dict
from system.data.prepared import PreparedData
from system.errors import CheckpointError, ConfigError, Interrupted
from system.families.registry import family_of
from system.models.devices import resolve_device
from system.runs.checkpoint import FOLDER, CheckpointContent, FoundCheckpoint, find_checkpoint
from system.runs.progress import Progress, Stage
from system.runs.run_directory import CONFIG, SUMMARY, RunDirectory
from system.runs.saved_agent import check_same_model, load_run_checkpoint, open_agent
from system.tracking.composite import CompositeTracker, make_tracker
from system.tracking.console import ConsoleTracker
from system.tracking.provenance import DESCRIPTION, source_tags
from system.tracking.sending import send_rest, send_to_mlflow
from system.training.evaluation_stage import take_measured
from system.training.experiment import Experiment
from system.training.interruption import Interruption
from system.training.local_workers import LocalWorkers
from system.training.preparation import prepare_data
from system.training.protocols import Artifact, Tracker, Weights, Workers
from system.training.results import format_summary, summarize
from system.training.stages import work_through


def launch(arguments: argparse.Namespace, *, until: Stage, start: Path | None = None) -> int:
    """Works a run directory through its stages, up to but without `until`, and prints the result.

    Args:
        arguments: of a verb with configuration, work and tracking options.
        until: first stage that is not worked on.
        start: a checkpoint whose learners' state replaces pretraining.
    """
    config, path = resolve_run(arguments, RunConfig)
    if arguments.register is not None and not config.tracking.mlflow:
        raise ConfigError("--register: tracking.mlflow is false, so there is no registry")
    check_model_name(arguments.register)
    uri = resolve_tracking_uri(arguments)
    summary = run_until(
        config,
        path,
        until=until,
        start=start,
        tracking_uri=uri,
        address=arguments.address,
        restart=arguments.restart,
        quiet=arguments.quiet,
    )
    version = None
    if arguments.register is not None:
        checkpoint = find_checkpoint(path)
        version = register_files(
            checkpoint, f"checkpoints/{checkpoint.name}", arguments.register, run_dir=path, tracking_uri=uri
        )
    print(format_summary(summary))
    if version is not None:
        print(f"\nregistered: {version}")
    if config.tracking.mlflow and uri.startswith("sqlite:"):
        print(f"\nall of it, with curves and figures: mlflow ui --backend-store-uri {uri}")
        print('(in its pages choose "Model training", at the top left)')
    return 0


def _check_work(config: RunConfig, address: str | None, start: Path | None) -> None:
    """What is asked for must be there to be done, and where it is to be done."""
    if start is not None and config.online.env_steps == 0:
        raise ConfigError("online.env_steps: 0 leaves nothing to fine-tune; give --set online.env_steps=N")
    if not _uses_ray(config):
        refuse_address(address)
        resolve_device(config)


def _check_start(run_dir: RunDirectory, start: Path | None) -> None:
    """A directory goes on with what it began with: another checkpoint would not be used.

    Raises:
        ConfigError: its run began with pretraining of its own, or with another run's checkpoint.
    """
    found = None if start is None else run_dir.newest_checkpoint()
    if start is None or found is None:
        return
    progress = Progress.from_dict(found.content.documents["progress"])
    began = progress.started_from
    is_of_an_earlier_version = began is None and not progress.pretrain_steps and progress.stage != "offline"
    if is_of_an_earlier_version or _run_of(start) in (began, str(run_dir.path.resolve())):
        return
    raise ConfigError(
        f"--checkpoint: {start} would not be used, since the run in {run_dir.path} began with "
        f"{began or 'pretraining of its own'}; another --run-dir leaves that run alone, --restart moves it aside"
    )


def _run_of(checkpoint: Path) -> str:
    """The run directory of a checkpoint, if it lies in one, else its own folder."""
    path = checkpoint.resolve()
    return str(path.parent.parent if path.parent.name == FOLDER else path)


def run_until(
    config: RunConfig,
    path: Path,
    *,
    until: Stage,
    start: Path | None,
    tracking_uri: str,
    address: str | None,
    restart: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Works a run directory through its stages; of one that is finished nothing is done but what MLflow lacks.

    Args:
        config: of the run.
        path: of its directory.
        until, start: as for `launch`.
        tracking_uri: of MLflow.
        address: of a Ray cluster; None starts one if the configuration asks for actors.
        restart: moves what is there aside.
        quiet: shows no progress.

    Returns:
        The summary.
    """
    _check_work(config, address, start)
    with RunDirectory.claim(path, config, restart=restart) as run_dir:
        _check_start(run_dir, start)
        summary = run_dir.finished(until)
        if summary is not None:
            if config.tracking.mlflow:
                send_rest(path, send_to_mlflow(tracking_uri, config.tracking.experiment, ConsoleTracker().note))
            return summary
        is_main = threading.current_thread() is threading.main_thread()
        return work(
            config,
            run_dir,
            until=until,
            start=start,
            cache_folder=path.parent / "dataset-cache",
            address=address,
            tracking=_tracking(config, run_dir, tracking_uri, quiet),
            stopping=Interruption() if is_main else Interruption(()),
        )


def work(
    config: RunConfig,
    run_dir: RunDirectory,
    *,
    until: Stage,
    start: Path | None,
    cache_folder: Path,
    address: str | None,
    tracking: AbstractContextManager[Tracker],
    stopping: Interruption,
) -> dict[str, Any]:
    """Works on a run from wherever its directory stands, and returns its summary.

    Args:
        config, run_dir: of the run; the directory is claimed by the caller.
        until, start: as for `launch`.
        cache_folder: where datasets are kept for memory mapping; runs may share it.
        address: of a Ray cluster; None starts one if the configuration asks for actors.
        tracking: entered once the data are known to be sound.
        stopping: entered here.
    """
    found = run_dir.newest_checkpoint()
    origin = _origin(config, start) if found is None else None
    data = prepare_data(config, cache_folder)
    if until == "done" and not data.task.has_environment:
        raise ConfigError(
            f"environment.id: there is nothing to act in, since {config.dataset.name} names no environment; name "
            "one, or let `o2o pretrain` learn from the data alone"
        )
    with ExitStack() as stack:
        interruption = stack.enter_context(stopping)
        tracker = stack.enter_context(tracking)
        prepare = family_of(config).prepare
        if prepare is not None:
            data = prepare(
                data,
                config,
                cache_folder,
                **_known(found, origin),
                progress=lambda done, total: tracker.progress("prepare data", done, total, "updates"),
                stop_if_asked=interruption.raise_if_asked,
            )
        epoch = (
            0 if found is None or config.deterministic else found.content.documents["faults"]["driver_resumed"] + 1
        )
        workers = stack.enter_context(closing(_make_workers(config, data, run_dir, address, epoch, interruption)))
        observers = _with_cluster_metrics(tracker, config, data, run_dir)
        run = stack.enter_context(closing(Experiment(config, data, run_dir, observers, workers, interruption)))
        if found is None:
            _begin(run, origin)
        else:
            _resume(run, found)
        work_through(run, until)
        summary = summarize(run)
        run_dir.write_summary(summary)
        tracker.log_artifact(Artifact(run_dir.path / SUMMARY))
        tracker.set_tags({DESCRIPTION: f"```\n{format_summary(summary)}\n```"})
        if config.tracking.mlflow:
            _track_page(run_dir, tracker)
    return summary


def _track_page(run_dir: RunDirectory, tracker: Tracker) -> None:
    """Tables, curves and plans on one page, for whoever looks at the run in MLflow; the run is done without it."""
    try:
        tracker.log_artifact(Artifact(write_page(run_dir.path), REPORT_FOLDER))
    except Exception as error:  # noqa: BLE001 - whatever drawing raises costs a page, not the run
        tracker.note(f"report: the page could not be made ({type(error).__name__}: {error})")


@dataclass(frozen=True)
class _Origin:
    """Another run's checkpoint, which a new run begins with.

    Attributes:
        path, content: of it.
        is_pretrained: its learners' state replaces pretraining; otherwise pretraining begins with its weights.
    """

    path: Path
    content: CheckpointContent
    is_pretrained: bool


def _origin(config: RunConfig, start: Path | None) -> _Origin | None:
    named = config.pretrain.from_checkpoint if start is None else start
    if named is None:
        return None
    try:
        path = find_checkpoint(Path(named))
        content = load_run_checkpoint(path)
        check_same_model(path, content, config)
        open_agent(path)  # refused now, not after minutes of preparation, if another version's weights don't fit
    except CheckpointError as error:
        key = "pretrain.from_checkpoint" if start is None else "--checkpoint"
        raise CheckpointError(f"{key}: {error}") from None
    return _Origin(path, content, is_pretrained=start is not None)


def _known(found: FoundCheckpoint | None, origin: _Origin | None) -> dict[str, Weights | None]:
    """The learner's state whose preparation of the data is to be kept, or which pretraining begins with."""
    resumed = begun_with = None
    if found is not None:
        resumed = found.content.tensors["learner"]
    elif origin is not None and origin.is_pretrained:
        resumed = origin.content.tensors["learner"]
    elif origin is not None:
        begun_with = origin.content.tensors["learner"]
    return {"resumed": resumed, "begun_with": begun_with}


def _begin(run: Experiment, origin: _Origin | None) -> None:
    """A new run: everything that describes it is tracked once, and there is a checkpoint from the first."""
    run.tracker.log_parameters(flatten(to_dict(run.config)))
    about = dict(run.data.description)
    run.tracker.log_dataset(str(about.pop("id")), str(about.pop("digest")), about)
    run.tracker.set_tags({"dataset": run.config.dataset.name, "family": run.config.family, **source_tags()})
    run.tracker.log_artifact(Artifact(run.run_dir.path / CONFIG))
    for line in run.data.notes:
        run.tracker.note(line)
    if origin is not None and origin.is_pretrained:
        run.start_from(origin.path, origin.content)
        take_measured(run, origin.path, origin.content)
        run.progress.started_from = _run_of(origin.path)
        run.progress.stage = "offline_evaluation"
    elif origin is not None:
        run.begin_with(origin.path, origin.content)
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
def _tracking(config: RunConfig, run_dir: RunDirectory, tracking_uri: str, quiet: bool) -> Iterator[Tracker]:
    """A tracker that is told how the run ended."""
    tracker = make_tracker(
        config,
        run_dir.path,
        tracking_uri=tracking_uri,
        run_name=run_dir.path.name,
        quiet=quiet,
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
    config: RunConfig,
    data: PreparedData,
    run_dir: RunDirectory,
    address: str | None,
    epoch: int,
    interruption: Interruption,
) -> Workers:
    """In this process, or over Ray where the configuration asks for actors."""
    if not _uses_ray(config):
        return LocalWorkers(data, config, run_dir.path, epoch)
    from system.distributed.environment import prepare_environment

    prepare_environment(address)
    from system.distributed.workers import RayWorkers

    return RayWorkers(data, config, run_dir.path, epoch, address=address, head_lost=interruption.ask)


def _with_cluster_metrics(
    tracker: Tracker, config: RunConfig, data: PreparedData, run_dir: RunDirectory
) -> Tracker:
    """The run's tracker and, over Ray, the metrics that its cluster exports."""
    if not _uses_ray(config):
        return tracker
    from system.distributed.metrics import RayMetrics

    environments = ",".join(dict.fromkeys(task.environment_id for task in data.tasks))
    return CompositeTracker([tracker, RayMetrics(run_dir.path.resolve().name, environments)])


def _uses_ray(config: RunConfig) -> bool:
    return config.learners > 0 or config.rollout_workers > 0 or config.evaluators > 0
