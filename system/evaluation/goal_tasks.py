"""Goal tasks by name: what an episode is asked for, in which environments, and where it begins.

Poses are of Gymnasium's MuJoCo suite, whose observations are positions without the place along the floor, then
velocities: of the hopper height, torso, thigh, leg, foot; of the walker height, torso and both legs' thigh, leg
and foot; of the cheetah height and pitch first.

Source: M³PC section V, Q2; its tolerances and success rates are not given there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from system.data.store.episodes import EpisodeStore
from system.decisions import UNTIMED
from system.envs.placed_start import can_be_placed
from system.errors import ConfigError
from system.evaluation.goal_files import make_course
from system.planning.goals import Course, desired_course, goal_slices
from system.seeding import numpy_generator
from system.types import TaskSpec
from system.wording import one_of

HELD_OUT_TOLERANCE = 0.5
"""Of a held-out state's dimensions, in standard deviations of the data."""

HOPPER_STEP_SECONDS = 0.008
DESIRED_TOLERANCES = {"PointMaze": 0.45, "AntMaze": 0.45, "Fetch": 0.05}
"""Distance at which the environments whose ids begin so call a goal reached."""


@dataclass(frozen=True)
class Assignment:
    """What one episode is asked for.

    Attributes:
        course: of its goals; None where the environment's first observation says what is desired.
        start: the state that it begins in; None where it begins as it is reset.
    """

    course: Course | None
    start: Float32[np.ndarray, "S"] | None = None


@dataclass(frozen=True)
class GoalTask:
    """A named task.

    Attributes:
        doc: one line.
        assign: (task, held-out episodes, number of episodes, seed) → what each episode is asked for. There may be
            no held-out episodes, unless it is `from_data`.
        environments: beginnings of the environments' ids that it is for; empty: of any.
        settings: of the environment's constructor, unless the user says otherwise.
        from_data: its goals are states of held-out episodes.
    """

    doc: str
    assign: Callable[[TaskSpec, EpisodeStore | None, int, int], list[Assignment]]
    environments: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    from_data: bool = False


def goal_task(name: str, task: TaskSpec) -> GoalTask:
    """A named task, if it is one of this environment.

    Raises:
        ConfigError: it is not.
    """
    if name not in GOAL_TASKS:
        raise ConfigError(f"--task: {one_of(name, tuple(GOAL_TASKS))}")
    found = GOAL_TASKS[name]
    if found.environments and not task.environment_id.startswith(found.environments):
        fitting = " and ".join(found.environments)
        raise ConfigError(f"--task: {name} is for {fitting}, not for {task.environment_id}")
    return found


def repeat(course: Course, episodes: int) -> list[Assignment]:
    """The same course in each of some episodes."""
    return [Assignment(course)] * episodes


def wiggle(cycles: float, num_dimensions: int, num_steps: int = 1000) -> Course:
    """The hopper standing on its foot and bending to and fro: angles of torso and foot −0.05 sin(2π f t / 1000).

    Args:
        cycles: f, in 1,000 steps.
        num_dimensions: S.
        num_steps: of the reference.
    """
    angle = -0.05 * np.sin(2.0 * np.pi * cycles * np.arange(num_steps + 1) / 1000.0)
    rows = [{0: 1.25 * float(np.cos(each)), 1: float(each), 2: 0.0, 3: 0.0, 4: float(each)} for each in angle]
    allowed = {0: 0.1, 1: 0.03, 2: 0.15, 3: 0.15, 4: 0.15}
    name = f"hopper-wiggle-{cycles:g}"
    return make_course(name, rows, [allowed] * len(rows), range(len(rows)), num_dimensions, follows=True)


def _wiggle(cycles: float) -> GoalTask:
    return GoalTask(
        f"the hopper bends to and fro on the spot, {cycles:g} times in 1,000 steps",
        lambda task, held_out, episodes, seed: repeat(wiggle(cycles, task.observation_dim), episodes),
        ("Hopper-v",),
        {"terminate_when_unhealthy": False},
    )


def _flip(task: TaskSpec, held_out: EpisodeStore | None, episodes: int, seed: int) -> list[Assignment]:
    turns = [{1: -0.8}, {1: -1.6}, {1: -2.4}, {1: -3.14}]
    course = make_course("halfcheetah-flip", turns, [{1: 0.3}] * 4, [300] * 4, task.observation_dim)
    return repeat(course, episodes)


def _split(task: TaskSpec, held_out: EpisodeStore | None, episodes: int, seed: int) -> list[Assignment]:
    poses = [{2: -1.0, 5: 0.0}, {2: -2.0, 5: 0.0}]
    course = make_course("walker2d-split", poses, [{2: 0.4, 5: 0.4}] * 2, [200] * 2, task.observation_dim)
    return repeat(course, episodes)


def _held_out(steps: int) -> GoalTask:
    def assign(task: TaskSpec, held_out: EpisodeStore | None, episodes: int, seed: int) -> list[Assignment]:
        assert held_out is not None
        return held_out_states(task, held_out, episodes, seed, steps)

    doc = f"from a held-out episode's state to that of {steps} steps later, within so many"
    return GoalTask(doc, assign, from_data=True)


def held_out_states(
    task: TaskSpec, held_out: EpisodeStore, episodes: int, seed: int, steps: int
) -> list[Assignment]:
    """Pairs of states of held-out episodes.

    Args:
        task: whose simulator can be placed.
        held_out: episodes that were not trained on.
        episodes: pairs.
        seed: of the draw.
        steps: between the two, and until the goal is due.

    Raises:
        ConfigError: no held-out episode is so long, or the simulator can't be placed.
    """
    long_enough = np.flatnonzero(held_out.lengths >= steps)
    if len(long_enough) == 0:
        raise ConfigError(f"--task: none of {held_out.num_episodes} held-out episodes has {steps} steps")
    if not can_be_placed(task):
        raise ConfigError(f"--task: {task.environment_id} cannot be put into a recorded state")
    generator = numpy_generator(seed, "held-out states", steps)
    tolerance = HELD_OUT_TOLERANCE * np.asarray(held_out.observations[:]).std(axis=0)
    assignments: list[Assignment] = []
    while len(assignments) < episodes:
        episode = held_out.episode(int(generator.choice(long_enough)))
        step = int(generator.integers(episode.num_steps - steps + 1))
        start, goal = episode.observations[step], episode.observations[step + steps]
        if np.abs(start).max() >= CLIPPED_AT:
            continue
        said = {dimension: float(value) for dimension, value in enumerate(goal)}
        allowed = {dimension: float(max(value, 1e-3)) for dimension, value in enumerate(tolerance)}
        course = make_course(f"held-out-{steps}", [said], [allowed], [steps], task.observation_dim)
        assignments.append(Assignment(course, np.array(start)))
    return assignments


CLIPPED_AT = 9.99
"""Velocities are shown up to 10: a state with one there can't be told."""


def _desired(task: TaskSpec, held_out: EpisodeStore | None, episodes: int, seed: int) -> list[Assignment]:
    if goal_slices(task) is None:
        raise ConfigError(f"--task: {task.environment_id} shows no desired_goal")
    return [Assignment(None)] * episodes


def desired_tolerance(task: TaskSpec) -> float:
    """How close a goal environment's goal has to be come to.

    Raises:
        ConfigError: it is not known of this environment.
    """
    for beginning, tolerance in DESIRED_TOLERANCES.items():
        if task.environment_id.startswith(beginning):
            return tolerance
    raise ConfigError(f"--tolerance: needed, for it is not known when {task.environment_id} calls a goal reached")


def course_of(assignment: Assignment, task: TaskSpec, first: Float32[np.ndarray, "S"], tolerance: float) -> Course:
    """An episode's course; where its environment desires something, what its first observation says."""
    return assignment.course or desired_course(task, first, tolerance)


def episode_limit(assignments: Sequence[Assignment], task: TaskSpec) -> int:
    """Steps after which every course is over; the task's own limit where one has no end."""
    last = max(each.course.last_time if each.course else UNTIMED for each in assignments)
    return min(last, task.max_episode_steps)


def with_settings(task: TaskSpec, goal: GoalTask, given: Mapping[str, Any]) -> TaskSpec:
    """The environment as a goal task needs it; what the user gave counts more."""
    return replace(task, environment_kwargs={**task.environment_kwargs, **goal.settings, **given})


GOAL_TASKS: dict[str, GoalTask] = {
    "halfcheetah-flip": GoalTask(
        "the cheetah turns onto its back within 300 steps", _flip, ("HalfCheetah-v",)
    ),
    "walker2d-split": GoalTask(
        "the walker spreads its legs within 200 steps",
        _split,
        ("Walker2d-v",),
        {"terminate_when_unhealthy": False},
    ),
    **{f"hopper-wiggle-{cycles:g}": _wiggle(cycles) for cycles in (0.001, 2.0, 6.0)},
    **{f"held-out-{steps}": _held_out(steps) for steps in (8, 16, 32)},
    "desired-goal": GoalTask("what a goal environment desires", _desired),
}
