"""Options that several verbs share, and the configuration and run directory they resolve to."""

import argparse
import os
from pathlib import Path
from typing import TypeVar, cast

from system.config import CollectConfig, RunConfig, presets
from system.config.loading import load_config
from system.errors import ConfigError

Config = TypeVar("Config", RunConfig, CollectConfig)

RUNS = Path("runs")
PRESETS = Path(presets.__path__[0])
COLLECT_PRESETS = PRESETS / "collect"


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """CONFIG and `--set`, for verbs that build a configuration."""
    parser.add_argument("config", metavar="CONFIG", help="a preset's name or a YAML file")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a configuration key, for example planner.horizon=4; may be repeated",
    )


def add_work_options(parser: argparse.ArgumentParser) -> None:
    """`--run-dir --seed --address --restart --quiet`, for verbs that do work."""
    parser.add_argument(
        "--run-dir", metavar="DIR", type=Path, help="where everything is written; resumed if unfinished"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="overrides the configuration's seed")
    parser.add_argument("--address", help="a Ray cluster to use; by default Ray runs on this machine")
    parser.add_argument("--restart", action="store_true", help="move an existing run directory aside first")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")


def add_tracking_options(parser: argparse.ArgumentParser) -> None:
    """`--tracking-uri`, for verbs that log to MLflow."""
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server or store; default MLFLOW_TRACKING_URI, else runs/mlflow.db",
    )


def add_register_option(parser: argparse.ArgumentParser, what: str = "the final checkpoint") -> None:
    """`--register`, for verbs whose result can be a version of a model.

    Args:
        parser: of the verb.
        what: is registered.
    """
    parser.add_argument(
        "--register", metavar="NAME", help=f"make {what} a version of this model in MLflow's registry"
    )


def resolve_checkpoint(arguments: argparse.Namespace) -> Path:
    """The checkpoint, or run directory, that the arguments name; one from MLflow's registry is fetched first.

    Raises:
        CheckpointError: the registry has no such version.
    """
    named = cast(Path, arguments.checkpoint)
    if not str(named).startswith("models:/"):
        return named
    from system.tracking.mlflow import fetch_checkpoint

    return fetch_checkpoint(str(named), RUNS / "models", resolve_tracking_uri(arguments))


def refuse_address(address: str | None) -> None:
    """Says that a cluster was named and nothing is to be done there.

    Raises:
        ConfigError: an address was given.
    """
    if address is not None:
        raise ConfigError(
            f"--address: {address} would not be used, for there are no actors; set learners, rollout_workers or "
            "evaluators"
        )


def resolve_run(arguments: argparse.Namespace, schema: type[Config]) -> tuple[Config, Path]:
    """The checked configuration and the run directory that the arguments ask for.

    Args:
        arguments: parsed with `add_config_options` and `add_work_options`.
        schema: RunConfig or CollectConfig.

    Returns:
        The configuration, `--seed` included, and `--run-dir` or `runs/<config>-<seed>`.

    Raises:
        ConfigError: naming the key.
    """
    folder = COLLECT_PRESETS if schema is CollectConfig else PRESETS
    seed: list[str] = [] if arguments.seed is None else [f"seed={arguments.seed}"]
    config = load_config(schema, arguments.config, [*arguments.overrides, *seed], presets=folder)
    run_dir = cast(Path | None, arguments.run_dir)
    return config, run_dir or RUNS / f"{Path(arguments.config).stem}-{config.seed}"


def resolve_tracking_uri(arguments: argparse.Namespace) -> str:
    """`--tracking-uri`, else MLFLOW_TRACKING_URI, else SQLite under `runs/`; an empty value counts as none.

    In a submitted job, whose working directory is thrown away, SQLite lies beside the run directory.
    """
    return tracking_uri_for(arguments.tracking_uri, getattr(arguments, "run_dir", None))


def tracking_uri_for(given: str | None, run_dir: Path | None) -> str:
    """Where a run is tracked, as `resolve_tracking_uri` says.

    Args:
        given: by the user.
        run_dir: of the run; None if it was not given.
    """
    from system.runs.run_directory import is_submitted_job

    given = given or os.environ.get("MLFLOW_TRACKING_URI")
    folder = run_dir.parent if run_dir is not None and is_submitted_job() else RUNS
    return given or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
