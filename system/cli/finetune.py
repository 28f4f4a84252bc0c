"""`o2o finetune`: the online stage, from a checkpoint."""

import argparse
from pathlib import Path

from system.cli.options import add_config_options, add_tracking_options, add_work_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=Path,
        required=True,
        help="a checkpoint, or a run directory: its newest one",
    )
    add_work_options(parser)
    add_tracking_options(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Evaluates the checkpoint's policies, learns online, and evaluates again."""
    from system.cli.launch import launch

    return launch(arguments, until="done", start=arguments.checkpoint)
