"""`o2o report`: tables from finished runs."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run directories")


def execute(arguments: argparse.Namespace) -> int:
    """Prints the tables."""
    from system.evaluation.report import report_runs

    return report_runs(arguments)
