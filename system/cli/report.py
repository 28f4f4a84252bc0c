"""`o2o report`: tables and figures from finished runs."""

import argparse
from pathlib import Path

EXPLORATION_METRIC = "rollout/return_mean"
MAX_EVENTS = 2_000_000
LARGEST_NUMBER = 1e30
FOLDER = "report"
"""Of a run's own report, in its directory."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        type=Path,
        nargs="+",
        help="directories of runs or sweeps, or files of evaluate --output; those that differ in seed are paired"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="write report.md, report.csv and figures into this folder; with --html and one run: report/ in it",
    )
    parser.add_argument(
        "--html", action="store_true", help="write report.html there too, one page with everything in it"
    )
    parser.add_argument(
        "--modules",
        metavar="NAME,NAME",
        default="",
        help="modules to import first, which register the runs' families and planners",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Prints the report, and writes it where it is asked for.

    Raises:
        DataError: a run's summary is missing, damaged or something else.
        ConfigError: the report cannot be written there.
    """
    from system.config.modules import import_modules
    from system.errors import ConfigError
    from system.reports.comparison import format_report
    from system.reports.finished_runs import group_runs, load_runs

    output: Path | None = arguments.output
    if arguments.html and output is None:
        if len(arguments.runs) > 1:
            raise ConfigError("--html: of several runs needs --output DIR, the folder for the page")
        output = arguments.runs[0] / FOLDER
    import_modules([name.strip() for name in arguments.modules.split(",") if name.strip()], "--modules")
    runs = [run for path in arguments.runs for run in load_runs(path)]
    groups = group_runs(runs)
    print(format_report(groups))
    if output is None:
        return 0

    from system.reports.files import write_report

    exploration = {run.file: read_exploration(run.file.parent) for run in runs}
    try:
        written = write_report(groups, output, exploration, page=arguments.html)
    except OSError as error:
        raise ConfigError(f"--output: {output} cannot be written ({error})") from None
    print(f"\nwritten: {', '.join(map(str, written))}")
    return 0


def write_page(run_dir: Path) -> Path:
    """The page of one finished run.

    Args:
        run_dir: holds its summary, log and figures.

    Returns:
        The page, in the run's folder `report/`.
    """
    from system.reports.files import write_report
    from system.reports.finished_runs import group_runs, load_runs

    runs = load_runs(run_dir)
    exploration = {run.file: read_exploration(run_dir) for run in runs}
    return next(
        path
        for path in write_report(group_runs(runs), run_dir / FOLDER, exploration, page=True)
        if path.suffix == ".html"
    )


def read_exploration(run_dir: Path) -> list[tuple[float, float]]:
    """(env steps, mean return) of exploring episodes, from a run's event log.

    A run that was resumed repeats what it had done since its checkpoint; the later events count.

    Args:
        run_dir: holds the log; without one there is nothing to show.
    """
    from system.tracking.event_log import FILE, read_events

    try:
        events, _ = read_events(run_dir / FILE, 0, MAX_EVENTS)
    except OSError:
        return []
    points: list[tuple[float, float]] = []
    for event in events:
        if not isinstance(event, dict) or not isinstance(event.get("values"), dict):
            continue
        step, value = _number(event.get("step")), _number(event["values"].get(EXPLORATION_METRIC))
        if step is None or value is None:
            continue
        while points and points[-1][0] >= step:
            points.pop()
        points.append((step, value))
    return points


def _number(value: object) -> float | None:
    # A comparison with NaN is false.
    return float(value) if isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER else None
