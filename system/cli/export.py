"""`o2o export`: a policy to take away."""

import argparse
from pathlib import Path

from system.cli.options import add_register_option, add_tracking_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="a folder, a run directory, or models:/NAME/VERSION"
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new folder, where the policy is written")
    parser.add_argument("--policy", metavar="NAME", help="the one that is loaded; default: the configured planner")
    parser.add_argument(
        "--one-pass",
        choices=["torch-export"],
        help="a policy that does not plan as a program of torch alone as well, checked against the checkpoint",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a key of what is written, for example planner.target_return_ratio=0.8; may be repeated",
    )
    add_register_option(parser, "the exported policy")
    add_tracking_options(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Writes the folder and says how to load it."""
    from system.cli.exporting import export

    return export(arguments)
