"""The figures of a run, drawn at the end of each evaluation and handed to the tracker."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from system.envs.vector import EnvironmentBatch
from system.evaluation.figures import draw_learning_curve, draw_ratio_curves, draw_utilities
from system.evaluation.plan_viewer import draw_plans, record_plans
from system.evaluation.policies import make_policy, planner_policy_name
from system.evaluation.ranking_figure import draw_utility_ranking
from system.families.registry import family_of, policy_traits
from system.seeding import torch_generator
from system.training.experiment import Experiment
from system.training.protocols import Artifact

PLAN_STEPS = (0, 8, 16, 32, 64)
PLANS_GO_ON = 16
PLAN_SEED = 45_000


def draw_pictures(run: Experiment, stage: str) -> None:
    """Draws what the run can show so far, into `figures/` of the run directory.

    Args:
        run: its progress holds the curves; the model is measured on the held-out episodes.
        stage: `offline` or `online`; part of the file names.
    """
    folder, progress = run.run_dir.figures, run.progress
    if progress.ratio_curves:
        draw_ratio_curves(progress.ratio_curves, folder / "target_return_ratio.png")
    if len(progress.schedule) > 1:
        draw_learning_curve(progress.schedule, folder / "learning_curve.png")
    if progress.episode_returns:
        draw_utilities(progress.first_utilities, progress.episode_returns, folder / "utilities.png")
    _draw_plans(run, stage)
    ranked = [each for each in progress.utility_rank_correlation if each["stage"] == stage]
    draw_utility_ranking(ranked, folder / f"utility_ranking_{stage}.png")
    diagnose = family_of(run.config).diagnose
    if diagnose is not None:
        _note_open_loop(run, stage, diagnose(run.agent(), run.data, run.config, folder, stage))
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.gif")]):
        run.tracker.log_artifact(Artifact(path, "figures"))


def _draw_plans(run: Experiment, stage: str) -> None:
    """What the configured planner has before it in an episode of its own, at the ratio that did best.

    Nothing where it is not measured: what it asks may not have been learnt.
    """
    config, task, name = run.config, run.data.task, planner_policy_name(run.config)
    if not (policy_traits(name).plans and task.has_environment and name in config.evaluation.policies):
        return
    curve = run.progress.ratio_curves.get(f"{stage}/{name}", {})
    planner = config.planner
    if curve:
        planner = replace(planner, target_return_ratio=float(max(curve, key=lambda ratio: curve[ratio])))
    agent = run.agent()
    noops = config.evaluation.noop_max if task.frame_shape is not None else 0
    until = task.steps_until_cut(PLAN_STEPS[-1] + PLANS_GO_ON)
    with closing(EnvironmentBatch(task, 1, max_episode_steps=until, noop_max=noops)) as single:
        plans, episode = record_plans(
            make_policy(name, agent, task, config, planner),
            single,
            PLAN_STEPS,
            seed=PLAN_SEED,
            history_length=config.context_length,
            generator=torch_generator(config.seed, "plan viewer", device=agent.device),
            perceive=partial(agent.perceive, game=task.game),
        )
    if plans and episode is not None:
        title = f"plans of {name} ({stage}) in an episode of {task.environment_id}"
        draw_plans(plans, episode, task.observation_names, title, run.run_dir.figures / f"plans_{stage}.png")


def _note_open_loop(run: Experiment, stage: str, curves: Mapping[str, np.ndarray]) -> None:
    """Into the summary and, by step ahead, to the tracker."""
    if not curves:
        return
    run.progress.open_loop[stage] = {name: values.tolist() for name, values in curves.items()}
    for name, values in curves.items():
        for ahead, value in enumerate(values.tolist(), start=1):
            run.tracker.log_metrics({f"open_loop/{stage}/{name}": value}, step=ahead)
