"""The figures of a run, drawn at the end of each evaluation and handed to the tracker."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from system.documents.animation import write_film
from system.envs.filming import film_episode
from system.envs.vector import EnvironmentBatch
from system.evaluation.capability_summary import capability_record
from system.evaluation.figures import draw_learning_curve, draw_policies, draw_ratio_curves, draw_utilities
from system.evaluation.plan_viewer import draw_plans, record_plans
from system.evaluation.policies import make_policy, planner_policy_name
from system.evaluation.ranking_figure import draw_utility_ranking
from system.families.registry import family_of, policy_traits
from system.seeding import torch_generator
from system.training.experiment import Experiment
from system.training.protocols import Artifact
from system.types import Episode

PLAN_STEPS = (0, 8, 16, 32, 64)
PLANS_GO_ON = 16
PLAN_SEED = 45_000


def draw_pictures(run: Experiment, stage: str) -> None:
    """Draws what the run can show so far, into `figures/` of the run directory.

    Args:
        run: its progress holds the curves; the model is measured on the held-out episodes.
        stage: `offline` or `online`; part of the file names.
    """
    folder, progress, environment = run.run_dir.figures, run.progress, run.data.task.environment_id
    if progress.ratio_curves:
        draw_ratio_curves(progress.ratio_curves, environment, folder / "target_return_ratio.png")
    if len(progress.schedule) > 1:
        planner = planner_policy_name(run.config)
        draw_learning_curve(progress.schedule, planner, environment, folder / "learning_curve.png")
    if progress.episode_returns:
        utilities, returns = progress.first_utilities, progress.episode_returns
        draw_utilities(utilities, returns, environment, folder / "utilities.png")
    for task in run.data.tasks:
        records = [each for each in progress.evaluations if each["environment"] == task.environment_id]
        if records:
            game = f"_{task.environment_id.rpartition('/')[2]}" if len(run.data.tasks) > 1 else ""
            draw_policies(records, task.environment_id, folder / f"policies{game}.png")
    _draw_plans(run, stage)
    ranked = [each for each in progress.utility_rank_correlation if each["stage"] == stage]
    draw_utility_ranking(ranked, stage, folder / f"utility_ranking_{stage}.png")
    _measure_capabilities(run, stage)
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
    film_steps = config.evaluation.film_steps
    until = task.steps_until_cut(max(PLAN_STEPS[-1] + PLANS_GO_ON, film_steps))
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
    if episode is not None and film_steps:
        _film(run, episode, stage)
    if plans and episode is not None:
        title = f"plans of {name} ({stage}) in an episode of {task.environment_id}"
        draw_plans(plans, episode, task.observation_names, title, run.run_dir.figures / f"plans_{stage}.png")


def _film(run: Experiment, episode: Episode, stage: str) -> None:
    """The episode as the environment shows it, where it shows anything on this machine."""
    task, steps = run.data.task, run.config.evaluation.film_steps
    if task.frame_shape is not None:
        film = episode.frames
    else:
        film = film_episode(task, PLAN_SEED, episode.actions[:steps], run.config.modules)
    if film is not None:
        write_film(film[: steps + 1], run.run_dir.figures / f"episode_{stage}.gif")


def _measure_capabilities(run: Experiment, stage: str) -> None:
    """Into the summary and, one step ahead, to the tracker; once a stage."""
    config, kept = run.config, [each for each in run.progress.capabilities if each["stage"] != stage]
    for name in config.evaluation.capabilities:
        measure = family_of(config).capabilities[name].measure
        if measure is not None:
            errors = measure(name, run.agent(), run.data, config)
            kept += [capability_record(stage, error) for error in errors]
    run.progress.capabilities[:] = kept
    for each in kept:
        if each["stage"] == stage:
            figure = f"capability/{stage}/{each['capability']}/{each['predicted']}"
            run.tracker.log_metrics({figure: each["error"][0]}, step=run.progress.env_steps)


def _note_open_loop(run: Experiment, stage: str, curves: Mapping[str, np.ndarray]) -> None:
    """Into the summary and, by step ahead, to the tracker."""
    if not curves:
        return
    run.progress.open_loop[stage] = {name: values.tolist() for name, values in curves.items()}
    for name, values in curves.items():
        for ahead, value in enumerate(values.tolist(), start=1):
            run.tracker.log_metrics({f"open_loop/{stage}/{name}": value}, step=ahead)
