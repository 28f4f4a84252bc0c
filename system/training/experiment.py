"""A run at work: its workers, its counters, and what keeps them from being lost."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from system.config import RunConfig
from system.config.loading import to_dict
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore
from system.errors import CheckpointError, DataError, SystemFailure, WorkerLost
from system.families.building import build_agent, load_agent
from system.families.registry import Agent, family_of
from system.models.devices import prepare_process
from system.runs.checkpoint import CheckpointContent, load_checkpoint
from system.runs.checkpoint_writer import CheckpointWriter
from system.runs.progress import Faults, Progress, Stage
from system.runs.run_directory import RunDirectory
from system.training.interruption import Interruption
from system.training.metric_window import MetricWindow
from system.training.protocols import (
    SKIPPED,
    EvaluationRequest,
    EvaluationResult,
    Evaluators,
    ImaginedChunk,
    RolloutResult,
    Rollouts,
    Tracker,
    UpdateRequest,
    Workers,
)


class Experiment:
    """What the stages of a run share.

    Args:
        config: resolved.
        data: prepared.
        run_dir: owned by this process.
        tracker: where progress goes.
        workers: local or over Ray.
        interruption: entered by the caller.
    """

    def __init__(
        self,
        config: RunConfig,
        data: PreparedData,
        run_dir: RunDirectory,
        tracker: Tracker,
        workers: Workers,
        interruption: Interruption,
    ) -> None:
        prepare_process(config)
        self.config = config
        self.data = data
        self.run_dir = run_dir
        self.tracker = tracker
        self.workers = workers
        self.interruption = interruption
        self.progress = Progress()
        self.faults = Faults(episode_dropped=data.num_dropped)
        self.writer = CheckpointWriter(run_dir.checkpoints, synchronous=config.deterministic)
        self.window = MetricWindow(config.tracking.every_update_steps)
        self._agent: Agent | None = None
        self._agent_version = self._evaluators_version = self._broadcast_version = -1
        self._processes: dict[str, int] = {}
        self._restarts_told = -1
        self._last_save = self._stage_clock = time.monotonic()

    @property
    def rollouts(self) -> Rollouts:
        """The rollout workers."""
        return self.workers.rollouts

    def update(
        self,
        stage: Stage,
        first_step: int,
        num_steps: int,
        *,
        offline_fraction: float = 1.0,
        visible_episodes: int | None = None,
    ) -> None:
        """Asks the learners for updates.

        Args:
            stage: `offline` or `online`.
            first_step: update step within the stage.
            num_steps: at least 1.
            offline_fraction, visible_episodes: as in `SampleRequest`.

        Raises:
            WorkerLost: a learner was; see `recover_learners`.
        """
        request = UpdateRequest(stage, first_step, num_steps, offline_fraction, visible_episodes)
        metrics = self.workers.learners.update(request)
        self.progress.weights_version += num_steps
        if skipped := round(metrics.pop(SKIPPED)):
            self.faults.update_skipped += skipped
            self.tracker.note(
                f"{skipped} of {stage} update steps {first_step} to {first_step + num_steps - 1} left out: their "
                "gradients are not finite"
            )
        for step, values in self.window.add(metrics, first_step + num_steps, num_steps - skipped):
            self.tracker.log_metrics({f"{stage}/{name}": value for name, value in values.items()}, step=step)

    def broadcast_weights(self) -> None:
        """Gives the rollout workers the newest weights, if they have others."""
        if self._broadcast_version != self.progress.weights_version:
            self.rollouts.set_weights(self.workers.learners.weights(), self.progress.weights_version)
            self._broadcast_version = self.progress.weights_version

    def account_rollout(self, result: RolloutResult, *, exact: bool) -> None:
        """Counts a finished round.

        Args:
            result: of the round; its episodes are in the replay.
            exact: count the round alone, so that a repeated run counts the same; otherwise the replay's
                own counters are taken over, which know of rounds whose worker was lost after sending them.
        """
        progress = self.progress
        if exact:
            progress.env_steps += sum(result.lengths)
            progress.episodes += len(result.returns)
        else:
            self.take_replay_counters()
        progress.remember_episodes(result.returns, result.first_utilities, result.lengths)
        self.faults.episode_dropped += result.num_dropped
        self.faults.decision_fell_back += result.num_fallbacks
        self._count_losses()
        metrics = {
            "rollout/return_mean": _mean(result.returns),
            "rollout/length_mean": _mean(result.lengths),
            "rollout/decision_seconds": _mean(result.decision_seconds),
            "rollout/policy_lag_updates": float(progress.weights_version - result.version),
            "rollout/episodes": float(progress.episodes),
            "rollout/replay_transitions": float(self.data.training.num_steps + progress.env_steps),
        }
        self.tracker.log_metrics(metrics, step=progress.env_steps)

    def take_replay_counters(self) -> None:
        """Makes the replay's counters those of the run."""
        stats = self.workers.replay.stats()
        self.progress.env_steps, self.progress.episodes = stats.online_transitions, stats.online_episodes

    def measure(self, requests: Sequence[EvaluationRequest]) -> Iterator[tuple[int, EvaluationResult]]:
        """Plays the newest weights' policies; a signal stops it in the midst of episodes.

        Args:
            requests: what to measure.

        Yields:
            Index of a request, and what came of it, in the order in which they are finished.
        """
        yield from self._evaluators().measure(requests, self.stop_if_asked)

    def imagine(
        self, store: EpisodeStore, chunks: Sequence[ImaginedChunk]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        """Imagines with the newest weights; a signal stops it between chunks.

        Args:
            store: what is imagined from.
            chunks: what of it, each by itself.

        Yields:
            Index of a chunk, and what was imagined, in the order in which they are finished.
        """
        yield from self._evaluators().imagine(store, chunks, self.stop_if_asked)

    def agent(self) -> Agent:
        """The newest weights, in evaluation mode."""
        if self._agent is None:
            self._agent = build_agent(self.data.task, self.config, self.data.foundation).eval()
        if self._agent_version != self.progress.weights_version:
            self._agent.load_state_dict(dict(self.workers.learners.weights()))
            self._agent_version = self.progress.weights_version
        return self._agent

    def stop_if_asked(self) -> None:
        """Writes a checkpoint and ends the run, if it was asked to stop.

        Raises:
            Interrupted, ClusterLost: why.
        """
        if self.interruption.request is not None:
            self.save()
            self.writer.flush()
            raise self.interruption.request

    def enter_stage(self, stage: Stage) -> None:
        """Goes on to the next stage and makes sure that it is remembered."""
        self._clock_stage()
        self.progress.stage = stage
        name = self.save()
        self.writer.flush()
        self.tracker.set_tags({"checkpoint": str((self.run_dir.checkpoints / name).resolve())})

    def save_if_due(self) -> None:
        """A chance to save: taken if the last one was long ago, and always in deterministic mode."""
        due = time.monotonic() - self._last_save >= self.config.checkpoint.every_seconds
        if due or self.config.deterministic:
            self.save()

    def save(self) -> str:
        """Writes a checkpoint of everything the run needs to go on; returns its name."""
        self._clock_stage()
        self._count_losses()
        self.progress.num_checkpoints += 1
        name = f"{self.progress.num_checkpoints:06d}-{self.progress.stage}"
        protected = {self.progress.best_checkpoint} if self.progress.best_checkpoint else set()
        self.writer.write(name, self._content(), keep=self.config.checkpoint.keep, protect=protected)
        self._last_save = time.monotonic()
        return name

    def save_best(self) -> None:
        """Writes a checkpoint that is kept until a better one comes."""
        before = self.progress.best_checkpoint
        best = f"{self.progress.num_checkpoints + 1:06d}-{self.progress.stage}"
        self.progress.best_checkpoint = best
        self.save()
        self.writer.flush()
        if not (self.run_dir.checkpoints / best).exists():
            self.progress.best_checkpoint = before  # the disk was full: the older one is still there

    def roll_back(self) -> None:
        """Counts a collapse and gives the learners the weights of the best scheduled evaluation."""
        self.faults.collapse_rollback += 1
        self.take_best(f"the policy collapsed at {self.progress.env_steps} env steps")

    def take_best(self, reason: str) -> None:
        """Gives the learners the weights of the best scheduled evaluation; counters go on.

        Args:
            reason: told to the person who watches.
        """
        self.writer.flush()
        content = load_checkpoint(self.run_dir.checkpoints / str(self.progress.best_checkpoint))
        self.workers.learners.load_state(content.tensors["learner"])
        self.progress.weights_version += 1
        self.tracker.note(f"{reason}: back to the weights of checkpoint {self.progress.best_checkpoint}")

    def restore(self, content: CheckpointContent) -> None:
        """Goes on from a checkpoint of this run.

        Raises:
            DataError: the data are others now than those that it learnt from.
        """
        digest = content.documents.get("dataset", {}).get("digest")
        if digest not in (None, self.data.description["digest"]):
            raise DataError(
                f"dataset {self.data.description['id']}: has changed since this run began; --restart begins anew"
            )
        self.faults = Faults(**content.documents["faults"])
        self._return_to(content)
        self.rollouts.seek(self.progress.next_sequence)

    def recover_learners(self, loss: WorkerLost) -> None:
        """New learners with the newest checkpoint's state, and the run back to where that was written.

        What was collected since stays, and rollout workers go on; in deterministic mode they too go back.

        Args:
            loss: of a learner; the stage that raised it is to be begun again.
        """
        self.faults.learner_lost += 1
        self.writer.flush()
        newest = self.run_dir.newest_checkpoint()
        if newest is None:
            raise SystemFailure(f"{loss}, and there is no checkpoint yet to go on from")
        self.workers.restart_learners()
        version = self.progress.weights_version
        self._return_to(newest.content)
        if self.config.deterministic:
            self.rollouts.seek(self.progress.next_sequence)
        else:
            self.progress.weights_version = version + 1
            self.progress.next_sequence = self.rollouts.position()
        self.tracker.note(f"{loss}: went back to checkpoint {newest.path.name}")

    def start_from(self, path: Path, content: CheckpointContent) -> None:
        """Takes over the learners' state of another run's checkpoint, and nothing else.

        Raises:
            CheckpointError: it is of another model or task.
        """
        state = content.tensors["learner"]
        load_agent(self.data.task, self.config, state, str(path))
        try:
            self.workers.learners.load_state(state)
        except KeyError as error:
            raise CheckpointError(f"{path}: the learner's state has no {error}") from None
        self.progress.weights_version += 1

    def begin_with(self, path: Path, content: CheckpointContent) -> None:
        """Takes over what another run's model learnt, to pretrain further with fresh optimisers.

        Raises:
            CheckpointError: it is of another model.
        """
        state = content.tensors["learner"]
        load_agent(self.data.task, self.config, state, str(path))
        taken = family_of(self.config).learnt_by_updates
        learnt = {name: value for name, value in state.items() if name.startswith(taken)}
        self.workers.learners.load_state({**self.workers.learners.state(), **learnt})
        self.progress.weights_version += 1
        self.tracker.note(f"pretraining begins with the weights of {path}")

    def close(self) -> None:
        """Waits for the last checkpoint; the workers are their owner's."""
        self.writer.close()

    def _evaluators(self) -> Evaluators:
        """With the newest weights."""
        evaluators, version = self.workers.evaluators, self.progress.weights_version
        if self._evaluators_version != version:
            evaluators.set_weights(self.workers.learners.weights(), version)
            self._evaluators_version = version
        return evaluators

    def _content(self) -> CheckpointContent:
        documents: dict[str, Any] = {
            "progress": self.progress.to_dict(),
            "faults": asdict(self.faults),
            "tracker": self.tracker.state(),
            "config": to_dict(self.config),
            "tasks": {"tasks": [asdict(task) for task in self.data.tasks]},
            "dataset": self.data.description,
        }
        return CheckpointContent(tensors={"learner": self.workers.learners.state()}, documents=documents)

    def _return_to(self, content: CheckpointContent) -> None:
        """Learners and counters as they were; unless resume is exact, all that the replay has counts."""
        self.workers.learners.load_state(content.tensors["learner"])
        self.progress = Progress.from_dict(content.documents["progress"])
        if not self.config.deterministic and self.progress.stage == "online":
            self.take_replay_counters()
        self._agent_version = self._evaluators_version = self._broadcast_version = -1

    def _count_losses(self) -> None:
        losses = self.workers.take_losses()
        for name, count in losses.items():
            setattr(self.faults, name, getattr(self.faults, name) + count)
        processes = self.workers.processes()
        if processes != self._processes:
            self.run_dir.write_processes(processes)
            self._processes = processes
        if losses:
            self.tracker.note("recovered from " + ", ".join(f"{name}: {count}" for name, count in losses.items()))
        if self.faults.restarts != self._restarts_told:
            self._restarts_told = self.faults.restarts
            self.tracker.log_metrics({"faults/restarts": float(self._restarts_told)}, step=self.progress.env_steps)

    def _clock_stage(self) -> None:
        now = time.monotonic()
        seconds, stage = self.progress.stage_seconds, self.progress.stage
        seconds[stage] = seconds.get(stage, 0.0) + now - self._stage_clock
        self._stage_clock = now


def _mean(values: list[Any]) -> float:
    return float(sum(values)) / max(1, len(values))
