"""Training, evaluating and reading data from Python: what the command line does, by the same functions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.cli.launch import run_until
from system.cli.measuring import measure_policies, open_to_evaluate
from system.cli.options import PRESETS, RUNS, tracking_uri_for
from system.config import RunConfig
from system.config.loading import Overrides, config_from_dict, to_dict
from system.config.loading import load_config as load_any_config
from system.data.opening import dataset_called
from system.data.prepared import PreparedData
from system.families.registry import families_for
from system.runs.checkpoint import find_checkpoint
from system.training.preparation import find_tasks, prepare_data

Source = str | Path | RunConfig | Mapping[str, Any]


@dataclass(frozen=True)
class TrainedRun:
    """A run that was worked through.

    Attributes:
        config: resolved.
        run_dir: with everything that it wrote.
        checkpoint: its newest; `load_agent` takes it, and so do `evaluate` and the command line.
        summary: as in `summary.json`.
    """

    config: RunConfig
    run_dir: Path
    checkpoint: Path
    summary: dict[str, Any]


def load_config(source: Source, overrides: Overrides = ()) -> RunConfig:
    """A checked configuration.

    Args:
        source: a preset's name, a YAML file, what such a file would hold, or a configuration.
        overrides: `{"planner.horizon": 2}`, or `key.path=value` each.

    Raises:
        ConfigError: naming the key (and the nearest right one), value and range, or the file and line.
    """
    if isinstance(source, RunConfig):
        return config_from_dict(RunConfig, to_dict(source), overrides)
    return load_any_config(RunConfig, source, overrides, presets=PRESETS)


def train(
    config: Source,
    *,
    overrides: Overrides = (),
    seed: int | None = None,
    run_dir: str | Path | None = None,
    checkpoint: str | Path | None = None,
    tracking_uri: str | None = None,
    address: str | None = None,
    restart: bool = False,
    quiet: bool = False,
) -> TrainedRun:
    """Pretrains, evaluates, learns online and evaluates again, as `o2o run` does.

    All of it happens in the calling process, unless the configuration asks for actors. A signal, Control-C in a
    notebook included, ends it after a checkpoint; the same call goes on from there.

    Args:
        config, overrides: as for `load_config`.
        seed: overrides the configuration's.
        run_dir: where everything is written; resumed if unfinished. Default `runs/<config>-<seed>`.
        checkpoint: a checkpoint or run directory that replaces pretraining, as in `o2o finetune`.
        tracking_uri: of MLflow; default MLFLOW_TRACKING_URI, else `runs/mlflow.db`. Not used where
            `tracking.mlflow` is false.
        address: of a Ray cluster; by default Ray, where it is needed, runs on this machine.
        restart: moves an existing run directory aside first.
        quiet: shows no progress.

    Raises:
        RequestError: the configuration, the dataset or the checkpoint is wrong; one line says what.
        SystemFailure: the run failed, or was interrupted.
    """
    resolved = load_config(config, overrides)
    if seed is not None:
        resolved = load_config(resolved, {"seed": seed})
    name = Path(config).stem if isinstance(config, str | Path) else "run"
    path = RUNS / f"{name}-{resolved.seed}" if run_dir is None else Path(run_dir)
    summary = run_until(
        resolved,
        path,
        until="done",
        start=None if checkpoint is None else Path(checkpoint),
        tracking_uri=tracking_uri_for(tracking_uri, path),
        address=address,
        restart=restart,
        quiet=quiet,
    )
    return TrainedRun(resolved, path, find_checkpoint(path), summary)


def evaluate(
    checkpoint: str | Path,
    *,
    policies: Sequence[str] | None = None,
    episodes: int | None = None,
    overrides: Overrides = (),
    quiet: bool = True,
) -> list[dict[str, Any]]:
    """Measures policies of a checkpoint, as `o2o evaluate` does; the utilities of planners are not ranked.

    Args:
        checkpoint: a checkpoint, a run directory: its newest one, or an exported policy.
        policies: names; None takes the configured ones.
        episodes: of each; None takes the configured number.
        overrides: as for `load_config`, of what decides what is measured, and how.
        quiet: shows no progress.

    Returns:
        A row for each policy in each environment, as under `evaluations` in `summary.json`.

    Raises:
        RequestError: checkpoint, policy or override is wrong.
    """
    written = (
        [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
        if isinstance(overrides, Mapping)
        else overrides
    )
    unranked = [*written, "evaluation.ranked_states=0"]
    saved = open_to_evaluate(Path(checkpoint), policies, episodes, unranked)
    return measure_policies(saved, address=None, quiet=quiet).evaluations


def load_dataset(
    dataset: str | RunConfig, *, path: str | Path | None = None, cache_folder: str | Path | None = None
) -> PreparedData:
    """A dataset as runs use it: read, checked, divided into training and validation, its statistics taken.

    Args:
        dataset: an id, or the path of a file or folder; or the configuration of a run, whose data it is then.
        path: root of local Minari datasets, where an id is given; default MINARI_DATASETS_PATH.
        cache_folder: where columns are kept for memory mapping; default `runs/dataset-cache`.

    Raises:
        DataError: it is missing or unfit.
        ConfigError: it has too few episodes, or no family learns such a task.
    """
    folder = RUNS / "dataset-cache" if cache_folder is None else Path(cache_folder)
    if isinstance(dataset, RunConfig):
        return prepare_data(dataset, folder)
    named = dataset_called(dataset, None if path is None else str(path))
    config = load_config({"dataset": to_dict(named)})
    able = families_for(find_tasks(config, folder)[0])
    if able:
        config = load_config({"family": able[0], "dataset": to_dict(config.dataset)})
    return prepare_data(config, folder)
