"""A checkpoint or an exported policy as a version of a model in MLflow's registry."""

from pathlib import Path

from system.errors import ConfigError, SystemFailure
from system.tracking.sending import tracked_run


def check_model_name(name: str | None) -> None:
    """What would make a registration fail after all the work is done.

    Args:
        name: that `--register` was given; None if it was not.

    Raises:
        ConfigError: MLflow takes no such name.
    """
    if name is not None and (not name.strip() or set(name) & set("/:")):
        raise ConfigError(f"--register: {name!r} cannot be a model's name; it may not hold / or :")


def register_files(folder: Path, place: str, name: str, *, run_dir: Path, tracking_uri: str) -> str:
    """Makes a folder a version of a registered model, unless it is one already.

    Args:
        folder: with the files.
        place: of the files among the run's artifacts; its last part tells this version from others.
        name: of the model.
        run_dir: of the run that it comes from, which MLflow knows.
        tracking_uri: of server or store.

    Returns:
        `models:/NAME/VERSION`.

    Raises:
        SystemFailure: the run is not there, MLflow does not answer, or it refuses the name.
    """
    from system.tracking.mlflow import register_folder

    run = tracked_run(run_dir, tracking_uri)
    if run is None:
        raise SystemFailure(f"--register: {run_dir} has no run in MLflow at {tracking_uri}")
    return register_folder(folder, place, name, run, tracking_uri)
