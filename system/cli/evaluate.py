"""`o2o evaluate`: a checkpoint's policies and planners, with confidence intervals."""

import argparse
from pathlib import Path

from system.cli.options import add_tracking_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="a folder, a run directory, or models:/NAME/VERSION"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a key of the checkpoint's configuration, for example planner.horizon=2; may be repeated",
    )
    parser.add_argument("--policies", metavar="NAME,NAME", help="instead of the configured ones")
    parser.add_argument(
        "--capability", metavar="NAME,NAME", help="measure these of the model instead: bc,rcbc,id,fd,rp,pi"
    )
    parser.add_argument("--episodes", metavar="N", type=int, help="episodes of each policy")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the records as JSON")
    parser.add_argument("--address", help="a Ray cluster to use, with --set evaluators=N")
    add_tracking_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")


def execute(arguments: argparse.Namespace) -> int:
    """Measures and prints the table."""
    from system.cli.measuring import evaluate_checkpoint

    return evaluate_checkpoint(arguments)
