"""Trials of planner settings: episodes of one checkpoint's agent, which is loaded once for all of them."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from system.config import RunConfig
from system.errors import ConfigError, SystemFailure
from system.evaluation.measurement import Measurer, decision_quantiles
from system.evaluation.policies import planner_policy_name
from system.models.devices import prepare_process
from system.runs.saved_agent import SavedAgent, open_agent
from system.sweeps.ledger import Job
from system.sweeps.ranking import Outcome, Point, Round
from system.sweeps.search_space import apply_point, overrides_of

FIRST_SEEDS: Mapping[Round, int] = {"search": 50_000, "final": 60_000}
"""Of the episodes of each round, so that the best are compared on others than they were chosen by."""


class PlannerTrials:
    """Measures settings of a checkpoint's planner.

    Args:
        checkpoint: of a finished or unfinished run.
        fixed: settings of all trials.
        seeds: of the sweep; each has episodes of its own, the same ones in every configuration.
        episodes: of one trial, by round.

    Raises:
        CheckpointError: it is missing, damaged, or not of a run.
        ConfigError: the settings are wrong, or the agent plays several games.
    """

    def __init__(
        self, checkpoint: Path, fixed: Point, seeds: Sequence[int], episodes: Mapping[Round, int]
    ) -> None:
        saved = open_planner(checkpoint, fixed)
        self.seeds = list(seeds)
        self.episodes = dict(episodes)
        self.config = saved.config
        prepare_process(self.config)
        together = replace(self.config.evaluation, num_environments=max(self.episodes.values()))
        self.measurer = Measurer(saved.agent, saved.tasks[0], replace(self.config, evaluation=together), _never)

    def work(self, job: Job) -> Outcome:
        """Plays a trial's episodes and times its decisions.

        Raises:
            SystemFailure: environment errors ended every episode.
        """
        started = time.monotonic()
        config = trial_config(self.config, job)
        self.measurer.config = config
        policy, count = planner_policy_name(config), self.episodes[job.round]
        first_seed = FIRST_SEEDS[job.round] + self.seeds.index(job.seed) * count
        measured = self.measurer.measure(policy, None, first_seed, count)
        if not measured.returns:
            raise SystemFailure(f"{job.name}: environment errors ended every episode")
        return Outcome(
            returns=measured.returns,
            seeds=measured.seeds,
            decision_ms=decision_quantiles(self.measurer.time_decisions(policy, None))[0],
            seconds=round(time.monotonic() - started, 3),
            process=os.getpid(),
        )

    def close(self) -> None:
        """Frees the environments."""
        self.measurer.close()


def open_planner(checkpoint: Path, fixed: Point) -> SavedAgent:
    """The agent of a checkpoint that settings are to be found for.

    Raises:
        CheckpointError, ConfigError: as for `PlannerTrials`.
    """
    saved = open_agent(checkpoint, overrides_of(fixed))
    if len(saved.tasks) > 1:
        raise ConfigError(f"checkpoint: {saved.path} plays {len(saved.tasks)} games; a planner sweep takes one")
    return saved


def trial_config(config: RunConfig, job: Job) -> RunConfig:
    """The run configuration of a trial.

    Raises:
        ConfigError: the point's values do not go together.
    """
    return apply_point(config, {**job.point, "seed": job.seed})


def _never() -> None:
    """Nothing stops a trial from outside but the signal's own effect."""
