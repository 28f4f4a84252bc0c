"""How `sweep` takes a directory from a sweep file to a ranking, a preset and a report."""

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import system
from system.cli.options import PRESETS, RUNS, resolve_tracking_uri
from system.cli.sweep_trials import RunTrial
from system.cli.sweep_watch import Watch
from system.config import RunConfig
from system.config.loading import dump_yaml, first_difference, flatten, load_config, to_dict
from system.documents.text import format_section
from system.errors import ConfigError, Interrupted, SystemFailure
from system.files import write_durably
from system.runs.checkpoint import package_versions
from system.runs.run_directory import CONFIG, SUMMARY, RunDirectory
from system.sweeps.agenda import Agenda
from system.sweeps.ledger import Job, TrialLedger
from system.sweeps.plan import SweepPlan, load_sweep, plan_sweep, preset_text
from system.sweeps.planner_trial import PlannerTrials
from system.sweeps.ranking import Ranked, pareto_front
from system.sweeps.report import SweepResults, describe_sweep, format_terminal, write_sweep_report
from system.tracking.composite import make_tracker
from system.tracking.console import ConsoleTracker
from system.tracking.provenance import DESCRIPTION, source_tags
from system.tracking.sending import Send, send_rest, send_to_mlflow, tracked_run
from system.tracking.trial_runs import TrialRuns
from system.training.interruption import Interruption
from system.training.preparation import prepare_data
from system.training.protocols import Artifact, Tracker
from system.training.results import VERSIONS

SWEEPS = "tune_configs"
LEDGER, BASE, BEST, REPORT, TRIALS, TUNE = "trials.jsonl", "base.yaml", "best.yaml", "report", "trials", "tune"
PARENT_SECONDS = 20.0


def sweep(arguments: argparse.Namespace) -> int:
    """Works a sweep's directory to its end and prints the ranking.

    Args:
        arguments: of the verb `sweep`.

    Raises:
        ConfigError: the sweep cannot be done as it is asked for; names the key.
        SystemFailure: every trial failed.
    """
    seed = [] if arguments.seed is None else [f"seed={arguments.seed}"]
    config = load_sweep(arguments.config, [*arguments.overrides, *seed], sweeps=_sweeps(), presets=PRESETS)
    path = arguments.run_dir or RUNS / f"sweep-{Path(arguments.config).stem}-{config.seed}"
    if arguments.resume and not (path / CONFIG).exists():
        raise ConfigError(f"--resume: there is no sweep in {path}")
    with RunDirectory.claim(path, config, restart=arguments.restart) as run_dir:
        summary = run_dir.finished("done")
        if summary is None:
            summary = _work(plan_sweep(config, presets=PRESETS), run_dir, arguments)
        else:
            _send_rest(run_dir.path, arguments)
    print(summary["table"])
    print(f"\nbest: configuration {summary['best']['number']}; next: {summary['next']}")
    print(f"report: {path / REPORT / 'report.html'}")
    return 0


def _work(plan: SweepPlan, run_dir: RunDirectory, arguments: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    proposer = plan.proposer()
    _check_base(run_dir.path / BASE, plan.base)
    if plan.config.kind != "planner":
        # What is wrong with the data is said now, and trials find them in the cache.
        prepare_data(plan.base, run_dir.path.parent / "dataset-cache")
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        tracker = stack.enter_context(_tracking(plan, run_dir, arguments))
        ledger = stack.enter_context(closing(TrialLedger(run_dir.path / LEDGER)))
        agenda = Agenda(
            ledger,
            proposer,
            seeds=plan.seeds,
            finalists=plan.config.finalists if plan.config.kind == "planner" else 0,
            objective=plan.config.objective,
        )
        send = _sender(plan.base, arguments, tracker.note)
        runs = TrialRuns(run_dir.path / TRIALS, lambda: tracker.state().get("mlflow_run_id"), send, tracker.note)
        trials = stack.enter_context(closing(runs))
        watch = Watch(agenda, tracker, trials, interruption, publishes=plan.config.kind == "planner")
        if ledger.outcomes:
            tracker.note(f"resumed: {len(ledger.outcomes)} of {agenda.num_planned} trials are done")
        _run_trials(plan, run_dir, agenda, watch, tracker, arguments)
        names = _publishable(agenda, watch)
        summary = _conclude(plan, run_dir, agenda, watch, time.monotonic() - started)
        trials.finish(names)
        _track_results(run_dir, summary, tracker)
    return summary


def _run_trials(
    plan: SweepPlan,
    run_dir: RunDirectory,
    agenda: Agenda,
    watch: Watch,
    tracker: Tracker,
    arguments: argparse.Namespace,
) -> None:
    from system.distributed.environment import prepare_environment, prepare_tuning

    prepare_environment(arguments.address)
    prepare_tuning()
    from system.distributed.tuning import Shell, run_bundles, run_long, run_reused

    config, folder = plan.config, run_dir.path.resolve()
    watch.tracker.set_tags({"kind": f"{config.kind} sweep", "family": plan.base.family, **source_tags()})
    shell = functools.partial(Shell, config, folder / TUNE, arguments.address, plan.base.online.env_steps)
    if config.kind == "planner":
        alone = {"CPU": 1.0} | ({"GPU": config.gpus_per_trial} if config.gpus_per_trial else {})
        make = functools.partial(
            PlannerTrials,
            Path(str(config.checkpoint)),
            plan.fixed,
            plan.seeds,
            {"search": config.episodes, "final": config.finalist_episodes},
        )
        run_reused(agenda, make, shell(lambda job, gpus: [alone]), watch)
        return
    trial = RunTrial(
        base=plan.base,
        folder=folder / TRIALS,
        cache_folder=folder.parent / "dataset-cache",
        start=None if config.checkpoint is None else Path(config.checkpoint),
        address=arguments.address,
        tracking_uri=resolve_tracking_uri(arguments),
        parent_run=_parent_run(plan.base, tracker),
    )
    run_long(
        agenda,
        trial,
        shell(lambda job, gpus: run_bundles(plan.fit(job.point), config.gpus_per_trial, gpus)),
        watch,
    )


def _conclude(
    plan: SweepPlan, run_dir: RunDirectory, agenda: Agenda, watch: Watch, seconds: float
) -> dict[str, Any]:
    """Writes preset, report and summary."""
    failures = [f"{Job(*key, point={}).name} ({message})" for key, message in agenda.failures.items()]
    search, path = agenda.ranking("search"), run_dir.path
    if not search:
        raise SystemFailure(f"no configuration was finished: {'; '.join(failures)}")
    results = SweepResults(
        title=f"Sweep {path.name}",
        about=_about(plan, len(search)),
        objective=plan.config.objective,
        keys=plan.space.keys,
        search=search,
        final=agenda.ranking("final"),
        failures=failures,
    )
    best = results.best
    comments = [
        f"The best of {path.name}: {plan.config.objective} {best.score:.1f} [{best.low:.1f}, {best.high:.1f}]",
        *(f"{key}: {value}" for key, value in best.point.items()),
    ]
    write_durably(path / BEST, preset_text(plan.best_preset(best.point), comments).encode())
    write_sweep_report(results, path / REPORT)
    summary = {
        "next_stage": "done",
        "config": to_dict(plan.config),
        "seed": plan.config.seed,
        "versions": package_versions(*VERSIONS, "optuna"),
        "seconds": round(seconds, 3),
        "search": [_ranked(each) for each in search],
        "final": [_ranked(each) for each in results.final],
        "best": _ranked(best),
        "pareto_front": [each.number for each in pareto_front(search)],
        "differences": [asdict(each) for each in results.differences],
        "faults": {"trial_retried": watch.num_retried, "trial_given_up": len(failures)},
        "failures": failures,
        "processes": len({outcome.process for outcome in agenda.ledger.outcomes.values()}),
        "table": format_terminal(results),
        "next": f"o2o run {path / BEST}",
        "markdown": format_section(describe_sweep(results)),
    }
    run_dir.write_summary(summary)
    return summary


def _track_results(run_dir: RunDirectory, summary: Mapping[str, Any], tracker: Tracker) -> None:
    path = run_dir.path
    tracker.log_metrics({"best/score": summary["best"]["score"]}, step=0)
    tracker.set_tags({DESCRIPTION: summary["markdown"]})
    for file in (path / SUMMARY, path / BEST, *sorted((path / REPORT).iterdir())):
        tracker.log_artifact(Artifact(file, "report" if file.parent.name == REPORT else ""))


def _publishable(agenda: Agenda, watch: Watch) -> list[str]:
    """Names of all finished trials; those that lack a log, after a kill, get one."""
    outcomes = agenda.ledger.outcomes
    jobs = [Job(*key, agenda.ledger.points[key[1]]) for key in outcomes]
    if watch.publishes:
        for job in jobs:
            watch.write(job, outcomes[job.key])
    return [job.name for job in jobs]


def _ranked(each: Ranked) -> dict[str, Any]:
    values = asdict(each)
    values["outcomes"] = [asdict(outcome) for outcome in each.outcomes]
    return values


def _about(plan: SweepPlan, count: int) -> str:
    config = plan.config
    what = {
        "planner": f"planner settings of {config.checkpoint}",
        "run": f"whole runs of {config.config}",
        "online": f"online stages of {config.config} from {config.checkpoint}",
    }[config.kind]
    seeds = f", {config.seeds} seeds each" if config.seeds > 1 else ""
    return f"{count} configurations of {what}{seeds}; searcher: {config.searcher}."


def _check_base(file: Path, base: RunConfig) -> None:
    """A sweep that goes on must build on what it began with."""
    if not file.exists():
        write_durably(file, dump_yaml(base).encode())
        return
    before = load_config(RunConfig, str(file), (), presets=file.parent)
    key = first_difference(before, base)
    if key is not None:
        was, now = flatten(to_dict(before)).get(key), flatten(to_dict(base)).get(key)
        raise ConfigError(f"{key}: {file} says {was!r}, now it is {now!r}; --restart moves the old sweep aside")


def _sender(base: RunConfig, arguments: argparse.Namespace, note: Callable[[str], None]) -> Send | None:
    if not base.tracking.mlflow:
        return None
    return send_to_mlflow(resolve_tracking_uri(arguments), base.tracking.experiment, note)


def _send_rest(path: Path, arguments: argparse.Namespace) -> None:
    """What an earlier process could not send to MLflow."""
    base = load_config(RunConfig, str(path / BASE), (), presets=path)
    note = ConsoleTracker().note
    send = _sender(base, arguments, note)
    if send is not None:
        send_rest(path, send)
        parent = tracked_run(path, resolve_tracking_uri(arguments))
        with closing(TrialLedger(path / LEDGER)) as ledger:
            names = [Job(*key, ledger.points[key[1]]).name for key in ledger.outcomes]
            TrialRuns(path / TRIALS, lambda: parent, send, note).finish(names)


def _parent_run(base: RunConfig, tracker: Tracker) -> str | None:
    """MLflow's id of the sweep, once it has one; None if the server takes too long."""
    deadline = time.monotonic() + (PARENT_SECONDS if base.tracking.mlflow else 0.0)
    while (parent := tracker.state().get("mlflow_run_id")) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return parent


@contextmanager
def _tracking(plan: SweepPlan, run_dir: RunDirectory, arguments: argparse.Namespace) -> Iterator[Tracker]:
    """The sweep's own tracker, told how it ended."""
    tracker = make_tracker(
        plan.base,
        run_dir.path,
        tracking_uri=resolve_tracking_uri(arguments),
        run_name=run_dir.path.name,
        quiet=arguments.quiet,
    )
    tracker.log_parameters(flatten(to_dict(plan.config)))
    try:
        yield tracker
    except (Interrupted, KeyboardInterrupt):
        tracker.close("KILLED")
        raise
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def _sweeps() -> Path:
    """The sweeps beside the user, else those beside the package."""
    here = Path(SWEEPS)
    return here if here.is_dir() else Path(system.__path__[0]).parent / SWEEPS
