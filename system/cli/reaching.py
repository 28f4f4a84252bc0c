"""How `reach` finds out what is asked for, plays it and shows what came of it."""

import argparse
import math
from pathlib import Path
from typing import Any

from system.cli.measuring import check_output, open_to_evaluate
from system.cli.options import RUNS, resolve_checkpoint
from system.config import RunConfig
from system.data.prepared import PreparedData
from system.documents.animation import write_film
from system.envs.filming import film_episode
from system.errors import ConfigError, DataError
from system.evaluation.goal_files import read_courses
from system.evaluation.goal_tasks import Assignment, course_of, desired_tolerance, goal_task, repeat, with_settings
from system.evaluation.path_figure import draw_paths
from system.evaluation.reaching import (
    REACH_SEEDS,
    Reached,
    dataset_outcomes,
    format_reached,
    play_towards,
    reach_record,
)
from system.families.registry import family_of
from system.files import write_json
from system.tracking.console import ConsoleTracker
from system.training.preparation import prepare_data
from system.types import TaskSpec


def reach_goals(arguments: argparse.Namespace) -> int:
    """Plays a checkpoint's policies towards goals, and compares.

    Args:
        arguments: of the verb `reach`.
    """
    check_output(arguments.output)
    saved = open_to_evaluate(resolve_checkpoint(arguments), None, arguments.episodes, arguments.overrides)
    config = saved.config
    policies = chosen_policies(config, arguments.policies)
    console = ConsoleTracker(quiet=arguments.quiet)
    task, asked, data = _assignments(arguments, saved.tasks[0], config, console)
    tolerance = _tolerance(arguments.tolerance)
    if any(each.course is None for assignments in asked.values() for each in assignments):
        tolerance = tolerance or desired_tolerance(task)
    records: list[dict[str, Any]] = []
    for goal, assignments in asked.items():
        for policy in policies:
            console.progress("reach", len(records), len(asked) * (len(policies) + 1), "policies")
            found = play_towards(policy, saved.agent, task, config, assignments, tolerance=tolerance)
            records.append(reach_record(goal, policy, found.outcomes, found.seeds))
            if arguments.pictures is not None and found.walked:
                first = assignments[found.seeds[0] - REACH_SEEDS]
                _show(found, goal, first, task, tolerance, config, arguments.pictures)
        if data is not None:
            recorded = dataset_outcomes(assignments, data.training, task, tolerance=tolerance, seed=config.seed)
            records.append(reach_record(goal, "dataset", recorded, []))
    console.close()
    print(f"{saved.path}: {config.evaluation.episodes} episodes each; errors in tolerances\n")
    print(format_reached(records))
    if arguments.output is not None:
        write_json(arguments.output, {"checkpoint": str(saved.path), "reached": records})
    return 0


def chosen_policies(config: RunConfig, named: str | None) -> list[str]:
    """Policies that reach for goals, and what they are compared with; or those that are named.

    Args:
        config: of the checkpoint.
        named: names with commas between them.

    Raises:
        ConfigError: the family has none that reach, or none of a name.
    """
    family = family_of(config)
    known = family.policies()
    reaching = [name for name, traits in known.items() if traits.reaches]
    if not reaching:
        raise ConfigError(f"family: {family.name} has no policy that reaches for goals")
    if named is None:
        return [*reaching, *(name for name, traits in known.items() if traits.is_rival)]
    chosen = [name.strip() for name in named.split(",")]
    for name in chosen:
        if name not in known:
            raise ConfigError(f"--policies: unknown policy {name!r}; known: {', '.join(sorted(known))}")
    return chosen


def _assignments(
    arguments: argparse.Namespace, task: TaskSpec, config: RunConfig, console: ConsoleTracker
) -> tuple[TaskSpec, dict[str, list[Assignment]], PreparedData | None]:
    """The environment as the goals need it, what each episode is asked for by goal, and the recorded episodes."""
    episodes = config.evaluation.episodes
    if arguments.goals is not None:
        courses = read_courses(Path(arguments.goals), task)
        names = [course.name for course in courses]
        if len(set(names)) < len(names):
            raise ConfigError(f"{arguments.goals}: two goals have the same name")
        asked = {course.name: repeat(course, episodes) for course in courses}
        return task, asked, _recorded(config, console, required=False)
    goal = goal_task(arguments.task, task)
    task = with_settings(task, goal, config.environment.kwargs)
    data = _recorded(config, console, required=goal.from_data)
    held_out = data.validation if data is not None else None
    return task, {arguments.task: goal.assign(task, held_out, episodes, config.seed)}, data


def _recorded(config: RunConfig, console: ConsoleTracker, *, required: bool) -> PreparedData | None:
    """The data that was trained on; None where they are not at hand, and only a comparison is lost."""
    try:
        return prepare_data(config, RUNS / "dataset-cache")
    except DataError as error:
        if required:
            raise
        console.note(f"recorded episodes are not compared: {error}")
        return None


def _tolerance(given: float | None) -> float:
    """What was given, or 0."""
    if given is not None and not 0.0 < given < math.inf:
        raise ConfigError(f"--tolerance: {given:g} is not above 0")
    return given or 0.0


def _show(
    found: Reached,
    goal: str,
    asked: Assignment,
    task: TaskSpec,
    tolerance: float,
    config: RunConfig,
    folder: Path,
) -> None:
    """A policy's first episode: its paths, and a film where it began as the environment resets and is drawn."""
    course, name = course_of(asked, task, found.walked[0][0], tolerance), f"{goal}-{found.policy}"
    draw_paths(found, course, task.observation_names, folder / f"{name}.png")
    steps = config.evaluation.film_steps
    if asked.start is None and steps:
        film = film_episode(task, found.seeds[0], found.actions[0][:steps], config.modules)
        if film is not None:
            write_film(film, folder / f"{name}.gif")
