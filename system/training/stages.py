"""The stages of a run, in order, each from wherever it was left."""

from system.training.collapse_guard import CollapseGuard
from system.training.evaluation_stage import evaluate_policies
from system.training.experiment import Experiment
from system.training.offline import pretrain
from system.training.offline_to_online import OnlineStage
from system.training.progress import STAGES, Stage


def work_through(run: Experiment, until: Stage) -> None:
    """Pretrain → evaluate → offline-to-online → evaluate, up to but without `until`.

    Args:
        run: stands at some stage; a checkpoint is written at the end of each.
        until: the first stage that is not worked on; `done` works through all.

    Raises:
        Interrupted: a signal came; a checkpoint was written first.
    """
    while STAGES.index(run.progress.stage) < STAGES.index(until):
        stage = run.progress.stage
        if stage == "offline":
            pretrain(run)
        elif stage == "offline_evaluation":
            evaluate_policies(run, "offline")
        elif stage == "online":
            OnlineStage(run, CollapseGuard(run)).train()
        elif stage == "online_evaluation":
            evaluate_policies(run, "online")
        run.enter_stage(STAGES[STAGES.index(stage) + 1])
