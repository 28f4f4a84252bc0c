"""`o2o collect`: a behaviour agent → Minari dataset."""

import argparse

from system.cli.options import add_config_options, add_work_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    add_work_options(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Collects."""
    raise NotImplementedError
