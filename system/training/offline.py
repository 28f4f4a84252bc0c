"""Offline pretraining: the joint updates of trajectory model and critics, on the dataset alone."""

from system.training.experiment import Experiment
from system.training.imagining import imagine_offline_if_due, updates_until_imagining

LARGEST_CHUNK = 20


def pretrain(run: Experiment) -> None:
    """Makes the configured number of updates, from wherever the run stands.

    Args:
        run: its progress counts the updates; checkpoints fall between chunks of them.

    Raises:
        Interrupted: a signal came; a checkpoint was written first.
    """
    total = run.config.pretrain.update_steps
    every = run.config.checkpoint.every_update_steps
    while run.progress.pretrain_steps < total:
        run.stop_if_asked()
        imagine_offline_if_due(run)
        step = run.progress.pretrain_steps
        count = min(LARGEST_CHUNK, total - step, every - step % every)
        count = min(count, updates_until_imagining(run.config, step) or count)
        run.update("offline", step, count)
        run.progress.pretrain_steps = step + count
        run.tracker.progress("offline", run.progress.pretrain_steps, total, "updates")
        if run.progress.pretrain_steps % every == 0:
            run.save_if_due()
