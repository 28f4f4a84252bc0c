"""How `export` writes a policy and, where it is asked to, registers it."""

import argparse
import shutil
from pathlib import Path

from system.cli.options import resolve_checkpoint, resolve_tracking_uri
from system.cli.registering import check_model_name, register_files
from system.errors import ConfigError, SystemFailure
from system.runs.exporting import ExportedPolicy, export_policy
from system.sealed_folder import COMPLETE


def export(arguments: argparse.Namespace) -> int:
    """Exports, registers and prints.

    Args:
        arguments: of the verb `export`.
    """
    check_model_name(arguments.register)
    folder: Path = arguments.folder
    exported = export_policy(
        resolve_checkpoint(arguments),
        folder,
        policy=arguments.policy,
        overrides=arguments.overrides,
        one_pass=arguments.one_pass is not None,
    )
    try:
        version = _register(exported, arguments)
    except (SystemFailure, ConfigError):
        shutil.rmtree(folder)  # the same command can be given again
        raise
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {exported.policy} of {exported.checkpoint}, {size / 1e6:.1f} MB")
    if version is not None:
        print(f"registered: {version}")
    print(f'\nfrom Python: system.load_agent("{folder}"); {folder}/README.md says more')
    return 0


def _register(exported: ExportedPolicy, arguments: argparse.Namespace) -> str | None:
    if arguments.register is None:
        return None
    if exported.run_dir is None:
        raise ConfigError(f"--register: {exported.checkpoint} is in no run directory, so MLflow has no run of it")
    seal = (exported.path / COMPLETE).read_text()
    return register_files(
        exported.path,
        f"policies/{exported.policy}-{seal[:12]}",
        arguments.register,
        run_dir=exported.run_dir,
        tracking_uri=resolve_tracking_uri(arguments),
    )
