"""The command `o2o`: finds the verb, runs it, and turns failures into one line and an exit code.

Only the requested verb's module is imported, and verbs import what is heavy when they execute, so that
help and mistakes are answered at once.
"""

import argparse
import importlib
import importlib.metadata
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

from system.errors import ClusterLost, Interrupted, RequestError, RunDirectoryInUse, SystemFailure

VERBS: dict[str, tuple[str, str]] = {
    "run": ("system.cli.run", "the main job: pretrain, evaluate, learn online, evaluate, summary"),
    "pretrain": ("system.cli.pretrain", "the offline stage alone"),
    "finetune": ("system.cli.finetune", "the online stage, from a checkpoint"),
    "evaluate": ("system.cli.evaluate", "measure a checkpoint's policies and planners"),
    "reach": ("system.cli.reach", "goals and waypoints for a checkpoint's policies to reach"),
    "collect": ("system.cli.collect", "record a behaviour agent as a Minari dataset"),
    "data": ("system.cli.data", "check a dataset, or convert one"),
    "imagine": ("system.cli.imagine", "what a checkpoint's model imagines from its dataset, as a dataset"),
    "export": ("system.cli.export", "a policy to take away, which torch and NumPy are enough for"),
    "sweep": ("system.cli.sweep", "many configurations over Ray Tune, ranked; the best as a preset"),
    "report": ("system.cli.report", "tables and figures from finished runs"),
    "doctor": ("system.cli.doctor", "versions, devices, datasets, MLflow, Ray, disk; what to type next"),
}

DISTRIBUTION = "offline-to-online"

QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

QUIET_PACKAGES = ("alembic", "gymnasium", "minari", "mlflow", "ray", "sqlalchemy", "torch")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose mistakes are one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with code 2."""
        self.exit(2, f"{self.prog}: error: {message} (try: {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `o2o` with these arguments.

    Args:
        arguments: without the program's name; None takes them from the command line.

    Returns:
        0 done; 1 the run failed; 2 the request was wrong; 3 cluster lost, resumable; 4 run directory in
        use; 128 + n interrupted by signal n.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    silence_third_parties()
    try:
        parsed = build_parser(words[0] if words else "").parse_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    try:
        code = int(parsed.execute(parsed))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has had enough; the interpreter's own last flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 (the last line of defence: every failure gets an exit code)
        return report_failure(error)


def build_parser(verb: str) -> argparse.ArgumentParser:
    """The whole parser, with the options of `verb` only: no other verb's module is imported."""
    about = "Offline-to-online reinforcement learning that plans with pretrained sequence models."
    parser = OneLineParser(prog="o2o", description=about)
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module_name, summary) in VERBS.items():
        subparser = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == verb:
            module = importlib.import_module(module_name)
            module.configure(subparser)
            subparser.set_defaults(execute=module.execute)
    return parser


def report_failure(error: Exception) -> int:
    """Prints what went wrong, with a traceback only if it was not foreseen, and returns the exit code."""
    if not isinstance(error, SystemFailure):
        traceback.print_exception(error)
        return 1
    print(f"o2o: error: {' '.join(str(error).split())}", file=sys.stderr)
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    codes: tuple[tuple[type[SystemFailure], int], ...] = (
        (RequestError, 2),
        (ClusterLost, 3),
        (RunDirectoryInUse, 4),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), 1)


def silence_third_parties() -> None:
    """Turns off telemetry, banners and deprecation warnings of libraries; what the user has set stays."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for package in QUIET_PACKAGES:
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"{package}(\..*)?")


def _version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
