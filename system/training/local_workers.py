"""All workers in the calling process: the same code as over Ray, without Ray."""

import os
from pathlib import Path

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.replay.buffer import ReplayBuffer
from system.data.replay.episode_log import EpisodeLog
from system.training.evaluator import LocalEvaluators
from system.training.learner_worker import LearnerWorker
from system.training.rollout_worker import LocalRollouts, RolloutWorker


class LocalWorkers:
    """Replay, learner, rollout worker and evaluator in one process.

    Args:
        data, config: what is trained on what.
        run_dir: the online log lies in `run_dir/replay`.
        epoch: incarnation of this run's workers (0 in deterministic mode).
    """

    def __init__(self, data: PreparedData, config: RunConfig, run_dir: Path, epoch: int) -> None:
        self.log = EpisodeLog.open(run_dir / "replay")
        self.replay = ReplayBuffer(
            data.training,
            context_length=config.context_length,
            max_episode_steps=data.task.max_episode_steps,
            log=self.log,
        )
        self._make_learner = lambda: LearnerWorker(data.task, config, data.foundation, self.replay)
        self.learners = self._make_learner()
        self._worker = RolloutWorker(0, epoch, data.task, config, self.replay)
        self.rollouts = LocalRollouts(self._worker)
        self.evaluators = LocalEvaluators(data.tasks, config)

    def take_losses(self) -> dict[str, int]:
        """Nothing can be lost without losing everything."""
        return {}

    def processes(self) -> dict[str, int]:
        """The one process there is."""
        return {"driver": os.getpid()}

    def restart_learners(self) -> None:
        """A fresh learner; its state is the caller's to load."""
        self.learners = self._make_learner()

    def close(self) -> None:
        """Frees the environments and the log."""
        self._worker.close()
        self.evaluators.close()
        self.log.close()
