"""`o2o finetune`: the online stage, from a checkpoint."""

import argparse
from pathlib import Path

from system.cli.options import (
    add_config_options,
    add_register_option,
    add_tracking_options,
    add_work_options,
    resolve_checkpoint,
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=Path,
        required=True,
        help="a checkpoint, a run directory: its newest one, or models:/NAME/VERSION",
    )
    add_work_options(parser)
    add_tracking_options(parser)
    add_register_option(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Evaluates the checkpoint's policies, learns online, and evaluates again."""
    from system.cli.launch import launch

    return launch(arguments, until="done", start=resolve_checkpoint(arguments))
