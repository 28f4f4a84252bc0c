"""`o2o data check` and `o2o data convert`: a dataset looked over for a person, and one made of other files."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from system.config import DatasetConfig, RunConfig
    from system.data.doctor import DoctorReport
    from system.types import TaskSpec

DRAWN_STEPS = 100_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-verbs and their options."""
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = verbs.add_parser("check", help="coverage, returns, endings, and every fault by episode and step")
    check.add_argument("dataset", help="id, as hopper/medium-v0 (o2o/… come with the package), or a path")
    check.add_argument("--path", help="folder of local datasets (default: MINARI_DATASETS_PATH)")
    check.add_argument("--download", action="store_true", help="ask Minari's hub for a dataset that is not there")
    _add_reading(check)
    check.set_defaults(perform=_check)
    convert = verbs.add_parser("convert", help="a Minari dataset made of files in another layout")
    convert.add_argument("file", help="file or folder: D4RL, robomimic, OGBench, DQN-replay, or tables")
    convert.add_argument("dataset", help="id of the new dataset, for example atari/pong/replay-v0")
    convert.add_argument("--steps", type=int, help="DQN-replay: at most so many are drawn (default: 100000)")
    convert.add_argument("--seed", type=int, default=0, help="of the draw")
    convert.add_argument("--path", help="folder of local datasets (default: MINARI_DATASETS_PATH)")
    _add_reading(convert)
    convert.set_defaults(perform=_convert)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Options that say how data are read, and what they are of."""
    parser.add_argument("--environment", help="Gymnasium id instead of the data's own; none: the data alone")
    parser.add_argument("--modules", default="", help="modules to import first, which register environments")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of a run's sections dataset or environment, for example dataset.on_bad_episode=drop; may be "
        "repeated",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Does what the sub-verb says.

    Returns:
        0; of `check`, 2 if the dataset has faults.

    Raises:
        ConfigError: an option is wrong, or the environment is not known.
        DataError: data are missing, unsafe or unreadable.
    """
    return int(arguments.perform(arguments))


def _check(arguments: argparse.Namespace) -> int:
    from system.data.doctor import check_dataset
    from system.data.opening import dataset_called
    from system.envs.registry import Environments

    named = dataset_called(arguments.dataset, arguments.path, download=arguments.download)
    config = _asked(arguments, named)
    environments = Environments(config.environment)
    asked = config.environment
    report = check_dataset(
        config.dataset,
        environments=environments,
        environment_id=asked.id,
        max_episode_steps=asked.max_episode_steps,
        discount=config.discount,
    )
    print(format_report(report, config.dataset.limit_ends))
    return 2 if report.faults else 0


def _convert(arguments: argparse.Namespace) -> int:
    from system.config import DatasetConfig
    from system.data.conversion import convert
    from system.data.opening import open_dataset
    from system.data.sources.minari_layout import default_root
    from system.data.sources.protocol import source_of
    from system.envs.registry import Environments, environment_specification
    from system.errors import ConfigError

    source = source_of(Path(arguments.file))
    steps = arguments.steps or (DRAWN_STEPS if source.is_drawn_from else None)
    config = _asked(arguments, DatasetConfig(file=arguments.file, max_transitions=steps))
    if config.dataset.max_transitions is not None and not source.is_drawn_from:
        raise ConfigError(f"--steps: {source.name} files are converted whole")
    environments = Environments(config.environment)
    opened = open_dataset(
        config.dataset,
        environments,
        config.environment.id,
        max_episode_steps=config.environment.max_episode_steps,
        seed=arguments.seed,
    )
    conversion = convert(
        opened,
        arguments.dataset,
        root=Path(arguments.path) if arguments.path else default_root(),
        environment_specification=environment_specification(opened.task),
        drop=config.dataset.on_bad_episode == "drop",
    )
    lines = [f"note: {note}" for note in conversion.notes] + [f"left out: {line}" for line in conversion.dropped]
    print("\n".join([*lines, f"{conversion.num_episodes} episodes written to {conversion.folder}"]))
    return 0


def _asked(arguments: argparse.Namespace, dataset: "DatasetConfig") -> "RunConfig":
    """What a run's configuration would say of the data and their environment."""
    from system.cli.options import PRESETS
    from system.config import RunConfig
    from system.config.loading import load_config, to_dict

    modules = [name.strip() for name in arguments.modules.split(",") if name.strip()]
    tree = {"modules": modules, "dataset": to_dict(dataset), "environment": {"id": arguments.environment}}
    return load_config(RunConfig, tree, arguments.overrides, presets=PRESETS)


def format_report(report: "DoctorReport", limit_ends: str) -> str:
    """The report as an aligned table, then one line for each warning and fault.

    Args:
        report: of a dataset.
        limit_ends: what a run takes for the returns-to-go that the time limit hides.
    """
    lines = [
        f"dataset      {report.id}",
        f"environment  {_environment(report.task)}",
        f"episodes     {report.num_episodes} fit for training, {report.num_steps} steps",
        f"ended by     termination {report.ended_terminated}, time limit {report.ended_time_limit}, "
        f"cut {report.ended_cut}",
        *_hidden_lines(report, limit_ends),
        *(f"{name:<13}{value}" for name, value in report.facts),
    ]
    if report.num_episodes:
        lines += ["", *_quantile_lines(report), "", *_coverage_lines(report)]
    lines += ["", *(f"warning: {line}" for line in report.warnings), *(f"fault: {line}" for line in report.faults)]
    verdict = f"{len(report.faults)} faults" if report.faults else "no faults"
    return "\n".join([*lines, f"{verdict}, {len(report.warnings)} warnings"])


def _hidden_lines(report: "DoctorReport", limit_ends: str) -> list[str]:
    if not report.ended_time_limit:
        return []
    return [
        f"time limits  hide more than a tenth of the return-to-go at {report.hidden_by_limits:.1%} of the steps "
        f"(dataset.limit_ends: {limit_ends})"
    ]


def _environment(task: "TaskSpec") -> str:
    if not task.has_environment:
        return "none: learnt from and looked at, not acted in"
    from system.wording import shown

    made = "".join(f", {name} = {shown(value)}" for name, value in task.environment_kwargs.items())
    return f"{task.environment_id}, time limit {task.max_episode_steps} steps{made}"


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
