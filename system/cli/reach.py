"""`o2o reach`: whether a checkpoint's policies get where they are asked to, with confidence intervals."""

import argparse
from pathlib import Path

from system.cli.options import add_tracking_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="a folder, a run directory, or models:/NAME/VERSION"
    )
    goals = parser.add_mutually_exclusive_group(required=True)
    goals.add_argument("--task", metavar="NAME", help="a named goal task, as held-out-16 or hopper-wiggle-2")
    goals.add_argument("--goals", metavar="FILE", type=Path, help="goals of your own, as YAML or CSV")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a key of the checkpoint's configuration, for example planner.horizon=6; may be repeated",
    )
    parser.add_argument("--policies", metavar="NAME,NAME", help="instead of those that reach and their rivals")
    parser.add_argument("--episodes", metavar="N", type=int, help="episodes of each policy and goal")
    parser.add_argument("--tolerance", metavar="X", type=float, help="of what a goal environment desires")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the records as JSON")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="draw paths as inferred and as walked")
    add_tracking_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")


def execute(arguments: argparse.Namespace) -> int:
    """Plays, judges and prints the table."""
    from system.cli.reaching import reach_goals

    return reach_goals(arguments)
