"""Ray Tune as the shell of a sweep: it gives trials their resources, processes, retries and early stops.

What is tried, and what came of it, is the agenda's; of Tune's own state nothing is ever read back.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from system.config import RunConfig, SweepConfig
from system.distributed.cluster import cluster_session
from system.distributed.placement import Bundle, evaluator_bundle, learner_bundle, rollout_bundle
from system.errors import RequestError, SystemFailure
from system.sweeps.agenda import Agenda
from system.sweeps.ledger import Job
from system.sweeps.ranking import Outcome

Bundles = list[Bundle]
Report = Callable[[int, float], None]
"""(env steps, mean return) of a scheduled evaluation."""


class ReusedWorker(Protocol):
    """Works on many short trials, one after the other."""

    def work(self, job: Job) -> Outcome:
        """One trial from beginning to end."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class LongTrial(Protocol):
    """Works on one long trial, from wherever an earlier process left it."""

    def __call__(self, job: Job, report: Report) -> Outcome: ...


class SweepWatch(Protocol):
    """What the sweep's owner sees and decides meanwhile, in the driver."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A trial is in the ledger."""
        ...

    def given_up(self, job: Job, message: str) -> None:
        """A trial failed for good."""
        ...

    def retried(self, job: Job) -> None:
        """A trial that crashed is taken up again."""
        ...

    def look(self) -> None:
        """Called again and again; may raise to end the sweep."""
        ...


@dataclass(frozen=True)
class Shell:
    """How trials run.

    Attributes:
        config: of the sweep.
        folder: for Tune's own files; deleted before and after.
        address: of a running cluster; None starts one.
        most_env_steps: of a trial; asha's last rung.
        bundles: (trial, GPUs of the cluster) → its resources; its actors live in all bundles but the first.
    """

    config: SweepConfig
    folder: Path
    address: str | None
    most_env_steps: int
    bundles: Callable[[Job, float], Bundles]


def run_reused(agenda: Agenda, make: Callable[[], ReusedWorker], shell: Shell, watch: SweepWatch) -> None:
    """Works through an agenda of short trials; each process makes its worker once.

    Args:
        agenda: takes every outcome.
        make: importable in every process.
        shell, watch: as documented there.

    Raises:
        Interrupted: `watch` was asked to stop.
        ClusterLost: the cluster does not answer or is too small.
    """
    _run(agenda, tune.with_parameters(_ReusedTrainable, make=make), shell, watch, reuse=True)


def run_long(agenda: Agenda, trial: LongTrial, shell: Shell, watch: SweepWatch) -> None:
    """Works through an agenda of whole runs, each in a process of its own, with its actors beside it.

    Args:
        agenda: takes every outcome.
        trial: importable in every process.
        shell, watch: as documented there.

    Raises:
        Interrupted, ClusterLost: as for `run_reused`.
    """
    _run(agenda, tune.with_parameters(_follow, trial=trial), shell, watch, reuse=False)


def run_bundles(config: RunConfig, gpus_per_trial: float, available_gpus: float) -> Bundles:
    """What a whole run needs: a bundle for its driver, then one for each of its actors.

    A driver that learns or plays by itself needs a CPU; one that only waits for its actors does not.

    Args:
        config: of the run.
        gpus_per_trial: of a run that learns in its driver.
        available_gpus: of the cluster, for runs with learner actors.
    """
    works_alone = config.learners == 0 or config.rollout_workers == 0
    driver = {"CPU": 1.0, "GPU": gpus_per_trial} if works_alone else {}
    learners = [learner_bundle(config, available_gpus)] * config.learners
    rollout_workers = [rollout_bundle(config)] * config.rollout_workers
    bundles = [driver, *learners, *rollout_workers, *[evaluator_bundle(config)] * config.evaluators]
    return [{name: amount for name, amount in bundle.items() if amount} for bundle in bundles]


def _run(agenda: Agenda, trainable: Any, shell: Shell, watch: SweepWatch, *, reuse: bool) -> None:
    first = agenda.next_job()
    if first is None:
        return
    agenda.put_back(first)
    with cluster_session(shell.address, num_cpus=_cpus(shell.bundles(first, 0.0))):
        shutil.rmtree(shell.folder, ignore_errors=True)
        try:
            _tuner(agenda, trainable, shell, watch, reuse).fit()
        except Exception as error:
            cause = _cause(error)
            if cause is not None:
                raise cause from None
            raise
        finally:
            shutil.rmtree(shell.folder, ignore_errors=True)


def _tuner(agenda: Agenda, trainable: Any, shell: Shell, watch: SweepWatch, reuse: bool) -> tune.Tuner:
    config = shell.config
    asha = ASHAScheduler(
        time_attr="env_steps",
        metric="score",
        mode="max",
        max_t=max(1, shell.most_env_steps),
        grace_period=min(config.grace_env_steps, max(1, shell.most_env_steps)),
        reduction_factor=config.reduction_factor,
        stop_last_trials=False,  # after the last scheduled evaluation comes the reported one
    )
    return tune.Tuner(
        tune.with_resources(trainable, lambda values: tune.PlacementGroupFactory(values["bundles"])),
        tune_config=tune.TuneConfig(
            search_alg=_Proposals(agenda, shell.bundles, watch),
            scheduler=asha if config.scheduler == "asha" else None,
            num_samples=-1,
            max_concurrent_trials=config.concurrent,
            reuse_actors=reuse,
            trial_name_creator=lambda trial: trial.config["job"].name,
            trial_dirname_creator=lambda trial: trial.config["job"].name,
        ),
        run_config=tune.RunConfig(
            name=shell.folder.name,
            storage_path=str(shell.folder.resolve().parent),
            failure_config=tune.FailureConfig(max_failures=config.retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[_Recorder(agenda, watch)],
            verbose=0,
        ),
    )


class _Unsaved:
    """Tune pickles what it is given, to restore it one day; here the ledger does that, and nothing is saved."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memory: dict[int, Any]) -> "_Unsaved":
        return self


class _Proposals(_Unsaved, Searcher):
    """Tune's view of the agenda."""

    def __init__(self, agenda: Agenda, bundles: Callable[[Job, float], Bundles], watch: SweepWatch) -> None:
        super().__init__()
        self.agenda = agenda
        self.bundles = bundles
        self.watch = watch

    def suggest(self, trial_id: str) -> Any:
        resources = ray.cluster_resources()
        while (job := self.agenda.next_job()) is not None:
            bundles = self.bundles(job, resources.get("GPU", 0.0))
            if _cpus(bundles) <= resources.get("CPU", 0.0):
                return {"job": job, "bundles": bundles}
            # Tune would wait for ever.
            message = f"needs {_cpus(bundles):g} CPUs, the cluster has {resources.get('CPU', 0.0):g}"
            self.agenda.give_up(job, message)
            self.watch.given_up(job, message)
        return None if self.agenda.waits else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The recorder has told the agenda already."""

    def save(self, checkpoint_path: str) -> None:
        """The ledger is all there is to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Never asked for."""


class _Recorder(_Unsaved, tune.Callback):
    """Takes outcomes to the agenda before Tune asks for the next trial."""

    def __init__(self, agenda: Agenda, watch: SweepWatch) -> None:
        self.agenda = agenda
        self.watch = watch

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        job: Job = trial.config["job"]
        if "refused" in result:
            self._give_up(job, result["refused"])
        elif "outcome" in result:
            self._record(job, result["outcome"])
        elif result.get("done"):
            seconds, process = round(float(result["time_total_s"]), 3), int(result["pid"])
            self._record(job, Outcome([result["score"]], [0], None, seconds, process, int(result["env_steps"])))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        lines = str(trial.get_error() or "unknown").strip().splitlines()
        self._give_up(trial.config["job"], lines[-1])

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.watch.retried(trial.config["job"])

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self.watch.look()

    def _record(self, job: Job, outcome: Outcome) -> None:
        self.agenda.record(job, outcome)
        self.watch.finished(job, outcome)

    def _give_up(self, job: Job, message: str) -> None:
        self.agenda.give_up(job, message)
        self.watch.given_up(job, message)


class _ReusedTrainable(tune.Trainable):
    """One process of short trials: each is a single step."""

    def setup(self, config: dict[str, Any], make: Callable[[], ReusedWorker]) -> None:
        self.job: Job = config["job"]
        self.worker = make()

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        self.job = new_config["job"]
        return True

    def step(self) -> dict[str, Any]:
        try:
            return {"outcome": self.worker.work(self.job), "done": True}
        except RequestError as error:
            return {"refused": str(error), "done": True}

    def cleanup(self) -> None:
        self.worker.close()


def _follow(config: dict[str, Any], trial: LongTrial) -> None:
    """One long trial in Tune's process for it."""

    reported = {"env_steps": 0, "score": 0.0}

    def report(env_steps: int, score: float) -> None:
        reported.update(env_steps=env_steps, score=score)
        tune.report(dict(reported))

    try:
        result: dict[str, Any] = {"outcome": trial(config["job"], report)}
    except RequestError as error:
        result = {"refused": str(error)}
    tune.report({**reported, **result})


def _cpus(bundles: Bundles) -> float:
    return sum(bundle.get("CPU", 0.0) for bundle in bundles)


def _cause(error: BaseException | None) -> SystemFailure | None:
    """This package's own error behind what Tune made of it."""
    while error is not None:
        if isinstance(error, SystemFailure):
            return error
        error = error.__cause__ or error.__context__
    return None
