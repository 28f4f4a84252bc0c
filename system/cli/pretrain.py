"""`o2o pretrain`: the offline stage and its evaluation."""

import argparse

from system.cli.options import add_config_options, add_register_option, add_tracking_options, add_work_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    add_work_options(parser)
    add_tracking_options(parser)
    add_register_option(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Starts, resumes or shows the run; `o2o run` with the same run directory goes on from its end."""
    from system.cli.launch import launch

    return launch(arguments, until="online")
