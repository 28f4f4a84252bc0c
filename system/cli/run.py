"""`o2o run`: pretrain, evaluate, learn online, evaluate, summary."""

import argparse

from system.cli.options import add_config_options, add_register_option, add_tracking_options, add_work_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    add_work_options(parser)
    add_tracking_options(parser)
    add_register_option(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Starts, resumes or, if it is finished, shows the run."""
    from system.cli.launch import launch

    return launch(arguments, until="done")
