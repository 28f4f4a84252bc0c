"""The stages of a run, in order, each from wherever it was left."""

from collections import Counter

from system.errors import WorkerLost
from system.runs.progress import STAGES, Stage
from system.training.collapse_guard import CollapseGuard
from system.training.evaluation_stage import evaluate_policies
from system.training.experiment import Experiment
from system.training.offline import pretrain
from system.training.offline_to_online import OnlineStage

MOST_LOSSES_WITHOUT_CHECKPOINT = 5


def work_through(run: Experiment, until: Stage) -> None:
    """Pretrain → evaluate → offline-to-online → evaluate, up to but without `until`.

    When a learner is lost, the stage is begun again from the newest checkpoint.

    Args:
        run: stands at some stage; a checkpoint is written at the end of each.
        until: the first stage that is not worked on; `done` works through all.

    Raises:
        Interrupted: a signal came; a checkpoint was written first.
        WorkerLost: another kind of worker was lost for good, or learners are lost again and again.
    """
    loss: WorkerLost | None = None
    lost_at: Counter[int] = Counter()
    while STAGES.index(run.progress.stage) < STAGES.index(until):
        try:
            if loss is not None:
                run.recover_learners(loss)
                loss = None
            _work_on_stage(run)
        except WorkerLost as error:
            lost_at[run.progress.num_checkpoints] += 1
            if error.role != "learner" or lost_at[run.progress.num_checkpoints] > MOST_LOSSES_WITHOUT_CHECKPOINT:
                raise
            loss = error


def _work_on_stage(run: Experiment) -> None:
    stage, stays_offline = run.progress.stage, run.config.online.env_steps == 0
    if stage == "offline":
        pretrain(run)
    elif stage == "offline_evaluation":
        evaluate_policies(run, "offline")
    elif stays_offline:
        pass  # nothing was learnt online that could be evaluated
    elif stage == "online":
        OnlineStage(run, CollapseGuard(run)).train()
    elif stage == "online_evaluation":
        evaluate_policies(run, "online")
    run.enter_stage(STAGES[STAGES.index(stage) + 1])
