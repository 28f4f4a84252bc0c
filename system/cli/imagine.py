"""`o2o imagine`: what a checkpoint's model makes of its dataset, as a dataset of its own."""

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
        help="override a key of the checkpoint's configuration, for example planner.num_candidates=8",
    )
    parser.add_argument(
        "--run-dir", metavar="DIR", type=Path, help="where everything is written; resumed if unfinished"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="overrides the configuration's seed")
    parser.add_argument(
        "--workers", metavar="N", type=int, default=0, help="Ray actors that imagine; 0: this process"
    )
    parser.add_argument("--address", help="a Ray cluster to use, with --workers")
    parser.add_argument("--minari", metavar="ID", help="write a Minari dataset of this id too")
    parser.add_argument("--output", metavar="DIR", type=Path, help="its root; default: MINARI_DATASETS_PATH")
    parser.add_argument("--restart", action="store_true", help="move an existing run directory aside first")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")
    add_tracking_options(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Imagines, or goes on imagining, and says what came of it."""
    from system.cli.imagining import imagine_from_checkpoint

    return imagine_from_checkpoint(arguments)
