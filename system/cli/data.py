"""`o2o data check` and `o2o data convert`: a dataset looked over for a person, and one made of other files."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from system.data.doctor import DoctorReport
    from system.types import TaskSpec

DRAWN_STEPS = 100_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-verbs and their options."""
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = verbs.add_parser("check", help="coverage, returns, endings, and every fault by episode and step")
    check.add_argument("dataset", help="id, for example hopper/medium-v0 (o2o/… come with the package), or a path")
    check.add_argument("--path", help="folder of local datasets (default: MINARI_DATASETS_PATH)")
    check.add_argument("--download", action="store_true", help="ask Minari's hub for a dataset that is not there")
    check.add_argument("--environment", help="Gymnasium id instead of the dataset's own; none: the data alone")
    check.add_argument("--modules", default="", help="modules to import first, which register environments")
    check.set_defaults(perform=_check)
    convert = verbs.add_parser("convert", help="a Minari dataset made of files in another layout")
    convert.add_argument("file", type=Path, help="file or folder: D4RL, robomimic, OGBench, DQN-replay, tables")
    convert.add_argument("dataset", help="id of the new dataset, for example atari/pong/replay-v0")
    convert.add_argument("--environment", help="Gymnasium id, or ALE/Pong-v5 of a game (default: the file's own)")
    convert.add_argument("--modules", default="", help="modules to import first, which register environments")
    convert.add_argument("--drop", action="store_true", help="leave unfit episodes out, instead of refusing all")
    convert.add_argument("--steps", type=int, help="DQN-replay: at most so many are drawn (default: 100000)")
    convert.add_argument("--seed", type=int, default=0, help="of the draw")
    convert.add_argument("--path", help="folder of local datasets (default: MINARI_DATASETS_PATH)")
    convert.set_defaults(perform=_convert)


def execute(arguments: argparse.Namespace) -> int:
    """Does what the sub-verb says.

    Returns:
        0; of `check`, 2 if the dataset has faults.

    Raises:
        ConfigError: the environment is not known.
        DataError: data are missing, unsafe or unreadable.
    """
    return int(arguments.perform(arguments))


def _check(arguments: argparse.Namespace) -> int:
    from system.data.doctor import check_dataset
    from system.data.opening import dataset_called
    from system.envs.registry import Environments

    _import_modules(arguments.modules)
    config = dataset_called(arguments.dataset, arguments.path, download=arguments.download)
    report = check_dataset(config, environments=Environments(), environment_id=arguments.environment)
    print(format_report(report))
    return 2 if report.faults else 0


def _import_modules(names: str) -> None:
    from system.config.modules import import_modules

    import_modules([name.strip() for name in names.split(",") if name.strip()], "--modules")


def _convert(arguments: argparse.Namespace) -> int:
    from system.data.conversion import convert
    from system.data.opening import open_source
    from system.data.sources.minari_layout import default_root
    from system.data.sources.protocol import ReadOptions, source_of
    from system.envs.registry import Environments, environment_specification
    from system.errors import ConfigError

    _import_modules(arguments.modules)
    source = source_of(arguments.file)
    if arguments.steps is not None and not source.is_drawn_from:
        raise ConfigError(f"--steps: {source.name} files are converted whole")
    steps = (arguments.steps or DRAWN_STEPS) if source.is_drawn_from else None
    options = ReadOptions(max_steps=steps, seed=arguments.seed)
    opened = open_source(source, arguments.file, options, Environments(), arguments.environment)
    conversion = convert(
        opened,
        arguments.dataset,
        root=Path(arguments.path) if arguments.path else default_root(),
        environment_specification=environment_specification(opened.task),
        drop=arguments.drop,
    )
    lines = [f"note: {note}" for note in conversion.notes] + [f"left out: {line}" for line in conversion.dropped]
    print("\n".join([*lines, f"{conversion.num_episodes} episodes written to {conversion.folder}"]))
    return 0


def format_report(report: "DoctorReport") -> str:
    """The report as an aligned table, then one line for each warning and fault."""
    lines = [
        f"dataset      {report.id}",
        f"environment  {_environment(report.task)}",
        f"episodes     {report.num_episodes} fit for training, {report.num_steps} steps",
        f"ended by     termination {report.ended_terminated}, time limit {report.ended_time_limit}, "
        f"cut {report.ended_cut}",
        *(f"{name:<13}{value}" for name, value in report.facts),
    ]
    if report.num_episodes:
        lines += ["", *_quantile_lines(report), "", *_coverage_lines(report)]
    lines += ["", *(f"warning: {line}" for line in report.warnings), *(f"fault: {line}" for line in report.faults)]
    verdict = f"{len(report.faults)} faults" if report.faults else "no faults"
    return "\n".join([*lines, f"{verdict}, {len(report.warnings)} warnings"])


def _environment(task: "TaskSpec") -> str:
    if not task.has_environment:
        return "none: learnt from and looked at, not acted in"
    return f"{task.environment_id}, time limit {task.max_episode_steps} steps"


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
