"""`o2o sweep`: many configurations over Ray Tune, ranked; the best as a preset."""

import argparse

from system.cli.options import add_tracking_options, add_work_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("config", metavar="FILE", help="a sweep file, or the name of one in tune_configs/")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of the sweep, for example checkpoint=runs/demo-0, or of the run configuration, which is then "
        "no longer searched; may be repeated",
    )
    parser.add_argument(
        "--resume", action="store_true", help="insist on a sweep that was begun before; one is resumed anyway"
    )
    add_work_options(parser)
    add_tracking_options(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Starts, resumes or, if it is finished, shows the sweep."""
    from system.cli.sweeping import sweep

    return sweep(arguments)
