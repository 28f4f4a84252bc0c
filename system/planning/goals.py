"""Goals as data: named dimensions of the state, what they are to be, how exactly, and when.

A course is what one episode is asked for: waypoints that are reached one after the other, each until its time, or
a reference that is followed step by step. How far an episode got is a function of what was observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64

from system.decisions import UNTIMED, GoalStates
from system.errors import ConfigError
from system.planning.acting import Decision, Policy
from system.planning.history import History
from system.types import TaskSpec


@dataclass(frozen=True)
class Course:
    """What an episode is to do.

    Attributes:
        name: of the goal.
        kind: `waypoints`, reached in their order, or a `reference`, whose row t is due at step t.
        values: of P waypoints, or of the steps of a reference; zeros where not `named`.
        named: the dimensions that each of them is about, at least one.
        tolerances: of each value that is named, above 0.
        times: the step until which each waypoint is to be reached, in ascending order, or `UNTIMED`; of a
            reference 0, 1, ….
    """

    name: str
    kind: Literal["waypoints", "reference"]
    values: Float32[np.ndarray, "P S"]
    named: Bool[np.ndarray, "P S"]
    tolerances: Float32[np.ndarray, "P S"]
    times: Int64[np.ndarray, "P"]

    def __post_init__(self) -> None:
        """Refuses what cannot be reached or told.

        Raises:
            ConfigError: naming the goal, its waypoint or row, and the dimension.
        """
        where = "waypoint" if self.kind == "waypoints" else "row"
        if not len(self.values):
            raise ConfigError(f"goal {self.name}: it has no {where}")
        for row, (values, named, tolerances) in enumerate(
            zip(self.values, self.named, self.tolerances, strict=True)
        ):
            if not named.any():
                raise ConfigError(f"goal {self.name}: {where} {row} names no dimension")
            for dimension in np.flatnonzero(named):
                if not np.isfinite(values[dimension]):
                    raise ConfigError(f"goal {self.name}: {where} {row}, dimension {dimension} is not finite")
                if not (np.isfinite(tolerances[dimension]) and tolerances[dimension] > 0.0):
                    raise ConfigError(
                        f"goal {self.name}: {where} {row}, the tolerance of dimension {dimension} is not above 0"
                    )
        if self.kind == "waypoints":
            self._check_times()

    def _check_times(self) -> None:
        for row, time in enumerate(self.times.tolist()):
            if time < 1:
                raise ConfigError(f"goal {self.name}: waypoint {row} is due at step {time}, and the first is 1")
            if row and time < self.times[row - 1]:
                raise ConfigError(f"goal {self.name}: waypoint {row} is due before waypoint {row - 1}")

    @property
    def last_time(self) -> int:
        """The step at which it is over; `UNTIMED` of a waypoint without a time."""
        return int(self.times[-1])

    def distance(self, row: int, observations: Float[np.ndarray, "*steps S"]) -> Float[np.ndarray, "*steps"]:
        """How far states are from a waypoint or row: the largest difference of a named dimension in tolerances."""
        named = self.named[row]
        off = np.abs(observations[..., named] - self.values[row, named]) / self.tolerances[row, named]
        return np.asarray(off.max(axis=-1))

    def reached(self, row: int, observation: Float[np.ndarray, "S"]) -> bool:
        """Whether a state is within the tolerances of a waypoint."""
        return bool(self.distance(row, observation) <= 1.0)


@dataclass(frozen=True)
class Outcome:
    """How an episode did on its course.

    Attributes:
        success: every waypoint was reached in time, or a reference was followed to its end within its tolerances.
        tracking_error: in tolerances: root mean square over the waypoints of the nearest that it came to each in
            time, or over the steps and named dimensions of a reference.
        reached: waypoints reached in time and order; of a reference the steps within the tolerances.
        steps: until the last waypoint was reached; None where it was not.
    """

    success: bool
    tracking_error: float
    reached: int
    steps: int | None = None


def judge(course: Course, observations: Float[np.ndarray, "frames S"]) -> Outcome:
    """What became of a course.

    Args:
        course: what was asked for.
        observations: o_0 … o_L of the episode.
    """
    judge_kind = _judge_reference if course.kind == "reference" else _judge_waypoints
    return judge_kind(course, observations)


def _judge_waypoints(course: Course, observations: np.ndarray) -> Outcome:
    step, reached, nearest = 0, 0, []
    for row, time in enumerate(course.times.tolist()):
        in_time = course.distance(row, observations[step : min(time, len(observations) - 1) + 1])
        if len(in_time) == 0:
            in_time = course.distance(row, observations[-1:])
        within = np.flatnonzero(in_time <= 1.0)
        if reached == row and len(within):
            reached, step = row + 1, step + int(within[0])
            nearest.append(float(in_time[within[0]]))
        else:
            nearest.append(float(in_time.min()))
    error = float(np.sqrt(np.mean(np.square(nearest))))
    success = reached == len(course.values)
    return Outcome(success, error, reached, step if success else None)


def _judge_reference(course: Course, observations: np.ndarray) -> Outcome:
    """Step 0 is where the episode begins, and not judged; what was not lived to see counts as it was at last."""
    rows = np.arange(1, len(course.values))
    seen = observations[np.minimum(rows, len(observations) - 1)]
    scale = np.where(course.named, course.tolerances, 1.0)[rows]
    off = np.where(course.named[rows], (seen - course.values[rows]) / scale, 0.0)
    counts = np.maximum(course.named[rows].sum(axis=0), 1)
    by_dimension = np.sqrt(np.square(off).sum(axis=0) / counts)
    error = float(np.sqrt(np.square(off).sum() / course.named[rows].sum()))
    lived = len(observations) >= len(course.values)
    within = int((np.abs(off).max(axis=1) <= 1.0)[: len(observations) - 1].sum())
    return Outcome(lived and bool((by_dimension <= 1.0).all()), error, within)


class GoalDirected:
    """A policy that is told, at every step, which goal of its course each environment is to reach next.

    Where a course is None, the environment itself says what is to be reached, and nobody else does.

    Args:
        policy: decides.
        courses: of each episode that is played, in the order of their seeds; all of them or none.
        horizon: how far ahead a reference is shown.

    Attributes:
        inferred: the paths of the first episode's plans, where there are any: the step, and the states from it on.
    """

    def __init__(self, policy: Policy, courses: Sequence[Course | None], horizon: int) -> None:
        self.policy = policy
        self.inferred: list[tuple[int, np.ndarray]] = []
        self.courses = courses
        self.horizon = horizon
        self._reached = np.zeros(len(courses), dtype=np.int64)

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Sets the goals, then decides."""
        courses = [self.courses[int(history.episodes[row])] for row in rows]
        pairs = zip(rows.tolist(), courses, strict=True)
        asked = [self._next(history, row, course) for row, course in pairs if course is not None]
        if asked:
            values, named, steps_left = (np.stack(column) for column in zip(*asked, strict=True))
            history.set_goals(rows, values, named, steps_left)
        decision = self.policy.act(history, rows, generator)
        self._note(decision, history, rows)
        return decision

    def _note(self, decision: Decision, history: History, rows: np.ndarray) -> None:
        if decision.plan is None or decision.plan.imagined_observations is None:
            return
        for index in np.flatnonzero(history.episodes[rows] == 0).tolist():
            path = decision.plan.imagined_observations[index, 0].cpu().numpy()
            self.inferred.append((int(history.steps[rows[index]]), path))

    def _next(
        self, history: History, row: int, course: Course
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        episode, step = int(history.episodes[row]), int(history.steps[row])
        last = len(course.values) - 1
        if course.kind == "reference":
            index = min(step + self.horizon, last)
            return course.values[index], course.named[index], np.asarray(max(1, index - step))
        if step == 0:
            self._reached[episode] = 0
        while self._reached[episode] < last and course.reached(
            int(self._reached[episode]), history.observations[row, -1]
        ):
            self._reached[episode] += 1
        index = int(self._reached[episode])
        time = int(course.times[index])
        left = UNTIMED if time == UNTIMED else max(1, time - step)
        return course.values[index], course.named[index], np.asarray(left)


def goal_slices(task: TaskSpec) -> tuple[slice, slice] | None:
    """Where a goal environment's observations hold what is achieved and what is desired; None of another task."""
    parts = {name: slice(start, stop) for name, start, stop in task.observation_slices}
    if "achieved_goal" not in parts or "desired_goal" not in parts:
        return None
    return parts["achieved_goal"], parts["desired_goal"]


def desired_goals(
    task: TaskSpec, observations: Float[torch.Tensor, "B S"]
) -> GoalStates | None:
    """What a goal environment asks for, as a goal of the state: what is achieved becomes what is desired.

    Args:
        task: what is played.
        observations: the current ones.

    Returns:
        None of a task that asks for nothing.
    """
    slices = goal_slices(task)
    if slices is None:
        return None
    achieved, desired = slices
    values, named = torch.zeros_like(observations), torch.zeros_like(observations, dtype=torch.bool)
    for part in (achieved, desired):  # in the end it still desires the same
        values[:, part], named[:, part] = observations[:, desired], True
    steps_left = torch.full((len(observations),), UNTIMED, dtype=torch.int64, device=observations.device)
    return GoalStates(values, named, steps_left)


def desired_course(
    task: TaskSpec, observation: Float[np.ndarray, "S"], tolerance: float
) -> Course:
    """What a goal environment's episode asks for, from its first observation.

    Args:
        task: with a desired goal.
        observation: o_0.
        tolerance: of each dimension of the goal.

    Raises:
        ConfigError: the task asks for nothing.
    """
    slices = goal_slices(task)
    if slices is None:
        raise ConfigError(f"goal: {task.environment_id} shows no desired_goal")
    achieved, desired = slices
    values, named = np.zeros((1, len(observation)), np.float32), np.zeros((1, len(observation)), bool)
    values[0, achieved], named[0, achieved] = observation[desired], True
    times = np.array([UNTIMED], dtype=np.int64)
    return Course("desired_goal", "waypoints", values, named, np.full_like(values, tolerance), times)
