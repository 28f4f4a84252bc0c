"""`o2o collect`: a behaviour agent → Minari dataset."""

import argparse
from pathlib import Path

from system.cli.options import add_config_options, add_work_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    add_work_options(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Collects, or goes on collecting, and writes the dataset."""
    from system.cli.options import resolve_run
    from system.config import CollectConfig
    from system.distributed.environment import prepare_environment

    config, path = resolve_run(arguments, CollectConfig)
    prepare_environment(arguments.address)  # before the next line imports Ray
    from system.cli.collecting import collect_dataset

    return collect_dataset(config, Path(path), arguments)
