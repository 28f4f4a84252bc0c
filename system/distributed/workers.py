"""All workers of a run over Ray, behind the same protocol as those in one process."""

import os
from contextlib import ExitStack
from pathlib import Path

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.store.column_files import is_current
from system.distributed.cluster import cluster_session
from system.distributed.evaluator_group import EvaluatorGroup
from system.distributed.head_watch import HeadLost
from system.distributed.learner_group import LearnerGroup
from system.distributed.placement import refuse_if_too_small, required
from system.distributed.replay_service import start_replay_service
from system.distributed.rollout_group import MeasuredRolloutWorker, RolloutGroup
from system.distributed.storage import check_shared_storage
from system.training.evaluator import LocalEvaluators
from system.training.learner_worker import LearnerWorker
from system.training.rollout_worker import LocalRollouts


class RayWorkers:
    """Replay service, learners, rollout workers and evaluators; what is configured with 0 works in this process.

    Args:
        data, config: what is trained on what; the training split is written to `run_dir/offline`, for the
            replay to memory-map.
        run_dir: the online log lies in `run_dir/replay`.
        epoch: incarnation of this run's workers (0 in deterministic mode).
        address: of a running cluster; None starts one for this run.
        head_lost: asked to stop the run when the cluster's head is lost (`system.distributed.head_watch`).

    Raises:
        ClusterLost: the cluster does not answer, is too small, or has had no room for too long.
        ConfigError: a node of it does not see the run directory.
    """

    def __init__(
        self,
        data: PreparedData,
        config: RunConfig,
        run_dir: Path,
        epoch: int,
        *,
        address: str | None = None,
        head_lost: HeadLost | None = None,
    ) -> None:
        self._arguments = (data.task, config, data.foundation)
        self._told: dict[str, int] = {}
        folder = run_dir.resolve()
        if not is_current(folder / "offline"):
            data.training.save(folder / "offline")
        self.rollouts: RolloutGroup | LocalRollouts
        self.evaluators: EvaluatorGroup | LocalEvaluators
        with ExitStack() as stack:
            everyone = required(config, 0.0, to_begin=False)["CPU"]
            least = required(config, 0.0, to_begin=True)["CPU"]
            session = cluster_session(address, num_cpus=everyone, least_cpus=least, head_lost=head_lost)
            stack.enter_context(session)
            refuse_if_too_small(config)
            check_shared_storage(folder)
            self.replay = start_replay_service(
                folder / "offline", folder / "replay", config.context_length, data.task.max_episode_steps
            )
            stack.callback(self.replay.close)
            evaluators = EvaluatorGroup if config.evaluators else LocalEvaluators
            self.evaluators = evaluators(data.tasks, config)
            stack.callback(self.evaluators.close)
            if config.rollout_workers:
                self.rollouts = RolloutGroup(data.tasks, config, self.replay, epoch, folder.name)
                stack.callback(self.rollouts.close)
            else:
                worker = MeasuredRolloutWorker(0, epoch, data.task, config, self.replay, folder.name)
                stack.callback(worker.close)
                self.rollouts = LocalRollouts(worker)
            self.learners = self._make_learners()
            stack.callback(self._close_learners)
            if isinstance(self.rollouts, RolloutGroup):
                self.rollouts.wait_until_started()
            self._generation = self.replay.identity()[1]
            self._everything = stack.pop_all()

    def take_losses(self) -> dict[str, int]:
        """Losses survived since the last call; learners are counted by who loads their state again."""
        losses = {}
        generation = self.replay.identity()[1]
        if generation > self._generation:
            losses["replay_lost"] = generation - self._generation
            self._generation = generation
        for name, group in (("rollout_worker_lost", self.rollouts), ("evaluator_lost", self.evaluators)):
            if isinstance(group, RolloutGroup | EvaluatorGroup) and group.num_lost > self._told.get(name, 0):
                losses[name] = group.num_lost - self._told.get(name, 0)
                self._told[name] = group.num_lost
        return losses

    def processes(self) -> dict[str, int]:
        """Role → process id; a rollout worker that is just being replaced is left out."""
        found = {"driver": os.getpid(), "replay": self.replay.identity()[0]}
        if isinstance(self.learners, LearnerGroup):
            found |= {f"learner-{rank}": process for rank, process in enumerate(self.learners.process_ids)}
        if isinstance(self.rollouts, RolloutGroup):
            found |= {f"rollout_worker-{index}": process for index, process in self.rollouts.process_ids().items()}
        if isinstance(self.evaluators, EvaluatorGroup):
            found |= {f"evaluator-{index}": process for index, process in self.evaluators.process_ids().items()}
        return found

    def restart_learners(self) -> None:
        """New learners; their state is the caller's to load."""
        self.learners = self._make_learners()

    def close(self) -> None:
        """Ends the actors and, if this object started it, the Ray session."""
        self._everything.close()

    def _close_learners(self) -> None:
        if isinstance(self.learners, LearnerGroup):
            self.learners.close()

    def _make_learners(self) -> LearnerGroup | LearnerWorker:
        task, config, foundation = self._arguments
        if config.learners:
            return LearnerGroup(task, config, foundation, self.replay)
        return LearnerWorker(task, config, foundation, self.replay)
