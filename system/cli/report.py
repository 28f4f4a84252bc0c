"""`o2o report`: tables and figures from finished runs."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="run directories; those that differ in seed are paired"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the report there too, as Markdown")


def execute(arguments: argparse.Namespace) -> int:
    """Prints the report."""
    from system.evaluation.report import format_report, group_runs, load_summary

    text = format_report(group_runs([load_summary(run) for run in arguments.runs]))
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0
