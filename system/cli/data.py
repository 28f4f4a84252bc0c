"""`o2o data check`: a dataset looked over for a person."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from system.data.doctor import DoctorReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-verbs and their options."""
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = verbs.add_parser("check", help="coverage, returns, endings, and every fault by episode and step")
    check.add_argument("dataset", help="id, for example hopper/medium-v0; o2o/… ids come with the package")
    check.add_argument("--path", help="folder of local datasets (default: MINARI_DATASETS_PATH)")
    check.add_argument("--download", action="store_true", help="ask Minari's hub for a dataset that is not there")


def execute(arguments: argparse.Namespace) -> int:
    """Checks the dataset and prints what was found.

    Returns:
        0 if it is fit for training, 2 if it has faults.

    Raises:
        DataError: the dataset is missing, unsafe or unreadable.
    """
    from system.config import DatasetConfig
    from system.data.doctor import check_dataset
    from system.envs.registry import ENVIRONMENTS

    config = DatasetConfig(id=arguments.dataset, path=arguments.path, download=arguments.download)
    report = check_dataset(config, environments=ENVIRONMENTS)
    print(format_report(report))
    return 2 if report.faults else 0


def format_report(report: "DoctorReport") -> str:
    """The report as an aligned table, then one line for each warning and fault."""
    lines = [
        f"dataset      {report.id}",
        f"environment  {report.task.environment_id}, time limit {report.task.max_episode_steps} steps",
        f"episodes     {report.num_episodes} fit for training, {report.num_steps} steps",
        f"ended by     termination {report.ended_terminated}, time limit {report.ended_time_limit}, "
        f"cut {report.ended_cut}",
    ]
    if report.num_episodes:
        lines += ["", *_quantile_lines(report), "", *_coverage_lines(report)]
    lines += ["", *(f"warning: {line}" for line in report.warnings), *(f"fault: {line}" for line in report.faults)]
    verdict = f"{len(report.faults)} faults" if report.faults else "no faults"
    return "\n".join([*lines, f"{verdict}, {len(report.warnings)} warnings"])


def _quantile_lines(report: "DoctorReport") -> list[str]:
    from system.data.doctor import QUANTILES

    rows: list[tuple[str, list[str]]] = [
        ("by episode", [f"{quantile:.0%}" for quantile in QUANTILES]),
        ("return", [f"{value:.1f}" for value in report.return_quantiles]),
    ]
    scores = [report.task.normalized(float(value)) for value in report.return_quantiles]
    if None not in scores:
        rows.append(("normalised", [f"{score:.1f}" for score in scores]))
    rows.append(("length", [f"{value:.0f}" for value in report.length_quantiles]))
    return [f"{name:<15}" + "".join(f"{cell:>10}" for cell in cells) for name, cells in rows]


def _coverage_lines(report: "DoctorReport") -> list[str]:
    header = f"{'by step':<15}" + "".join(f"{name:>12}" for name in ("min", "mean", "std", "max"))
    return [header] + [
        f"{each.name:<15}{each.minimum:>12.4g}{each.mean:>12.4g}{each.std:>12.4g}{each.maximum:>12.4g}"
        for each in report.coverage
    ]
