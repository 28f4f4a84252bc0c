"""Goals as data: what is reached when, how files say it, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from system.decisions import UNTIMED
from system.errors import ConfigError
from system.evaluation.goal_files import make_course, read_courses
from system.evaluation.goal_tasks import wiggle
from system.evaluation.statistics import wilson_interval
from system.planning.acting import Decision
from system.planning.goals import Course, GoalDirected, desired_course, desired_goals, judge
from system.planning.history import History
from system.types import TaskSpec

TASK = TaskSpec("Toy-v0", observation_dim=2, action_dim=1, max_episode_steps=50)
MAZE = TaskSpec(
    "Maze-v0",
    observation_dim=5,
    action_dim=1,
    max_episode_steps=50,
    observation_slices=(("achieved_goal", 0, 2), ("desired_goal", 2, 4), ("observation", 4, 5)),
)


def waypoints(*points: tuple[float, int], tolerance: float = 0.1) -> Course:
    rows, times = [{0: value} for value, _ in points], [time for _, time in points]
    return make_course("there", rows, [{0: tolerance}] * len(rows), times, 2)


def walk(*positions: float) -> np.ndarray:
    return np.array([[position, 9.0] for position in positions], np.float32)


@pytest.mark.parametrize(
    ("end", "success"), [(1.0, True), (1.0999, True), (1.1001, False), (0.8999, False), (0.9001, True)]
)
def test_a_goal_outside_its_tolerance_is_a_failure(end: float, success: bool) -> None:
    found = judge(waypoints((1.0, 2)), walk(0.0, 0.5, end))
    assert found.success is success
    assert found.tracking_error == pytest.approx(abs(end - 1.0) / 0.1, abs=1e-4)


def test_what_is_reached_too_late_is_not_reached() -> None:
    path = walk(0.0, 0.3, 0.6, 1.0, 1.0)
    assert not judge(waypoints((1.0, 2)), path).success
    late = judge(waypoints((1.0, 3)), path)
    assert late.success
    assert late.steps == 3
    assert judge(waypoints((1.0, UNTIMED)), path).success


def test_waypoints_count_in_their_order() -> None:
    there_and_back = walk(0.0, 1.0, 2.0, 1.0)
    assert judge(waypoints((2.0, 9), (1.0, 9)), there_and_back) == judge(
        waypoints((2.0, 2), (1.0, 3)), there_and_back
    )
    assert judge(waypoints((2.0, 9), (1.0, 9)), there_and_back).success
    wrong = judge(waypoints((1.0, 9), (0.0, 9)), walk(0.0, 1.0, 2.0))
    assert not wrong.success
    assert wrong.reached == 1


def test_a_missed_waypoint_fails_the_course_even_if_later_ones_are_met() -> None:
    found = judge(waypoints((5.0, 1), (1.0, 3)), walk(0.0, 0.0, 0.5, 1.0))
    assert not found.success
    assert found.reached == 0
    assert found.tracking_error == pytest.approx(np.sqrt((50.0**2 + 0.0) / 2))


def test_a_dimension_that_is_not_named_may_be_anything() -> None:
    path = walk(0.0, 1.0)
    path[:, 1] = 1e9
    assert judge(waypoints((1.0, 1)), path).success


def test_references_are_judged_step_by_step_to_their_end() -> None:
    course = wiggle(2.0, 11, num_steps=40)
    perfect = course.values.copy()
    found = judge(course, perfect)
    assert found == judge(course, np.concatenate([perfect, perfect[-1:] + 1.0]))
    assert found.success
    assert found.tracking_error == 0.0
    assert found.reached == 40
    shifted = perfect.copy()
    shifted[1:, 1] += 0.06
    off = judge(course, shifted)
    assert not off.success
    assert off.tracking_error == pytest.approx(2.0 / np.sqrt(5.0), rel=1e-4)
    assert not judge(course, perfect[:-1]).success, "the hopper fell one step early"


class Listener:
    """Notes what it was asked for, and does nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        assert history.goals is not None
        self.asked.append((float(history.goals[0][0, 0]), int(history.goals[2][0])))
        return Decision(np.zeros((len(rows), 1), np.float32))


def ask(course: Course, path: np.ndarray, horizon: int = 3) -> list[tuple[float, int]]:
    listener, history = Listener(), History(1, 2, 2, 1)
    directed = GoalDirected(listener, [course], horizon)
    history.reset([0], path[:1])
    for observation in path[1:]:
        directed.act(history, np.array([0]), torch.Generator())
        history.append(np.zeros((1, 1), np.float32), observation[None], np.array([True]))
    return listener.asked


def test_policies_are_told_the_next_waypoint_and_the_steps_left() -> None:
    asked = ask(waypoints((1.0, 5), (2.0, UNTIMED)), walk(0.0, 0.5, 1.0, 1.5, 2.0))
    assert asked == [(1.0, 5), (1.0, 4), (2.0, UNTIMED), (2.0, UNTIMED)]


def test_policies_are_shown_references_a_horizon_ahead() -> None:
    course = make_course("ramp", [{0: float(t)} for t in range(5)], [{0: 1.0}] * 5, range(5), 2, follows=True)
    assert ask(course, walk(0, 0, 0, 0, 0)) == [(3.0, 3), (4.0, 3), (4.0, 2), (4.0, 1)]


def test_a_goal_environment_says_what_it_desires() -> None:
    observation = np.array([0.0, 0.0, 3.0, 4.0, 9.0], np.float32)
    goal = desired_goals(MAZE, torch.from_numpy(observation)[None])
    assert goal is not None
    assert goal.values.tolist() == [[3.0, 4.0, 3.0, 4.0, 0.0]]
    assert goal.named.tolist() == [[True, True, True, True, False]]
    course = desired_course(MAZE, observation, 0.5)
    arrived = observation.copy()
    arrived[:2] = 3.1, 3.9
    assert judge(course, np.stack([observation, arrived])).success
    assert not judge(course, observation[None]).success
    assert desired_goals(TASK, torch.zeros(1, 2)) is None


FILE = """goals:
  - name: two
    waypoints:
      - {at: {"observation[0]": 1.0, "1": 2}, tolerance: {"0": 0.5, "observation[1]": 0.1}, by: 4}
      - {at: {"0": 3.0}, tolerance: 0.2}
  - {name: sway, reference: sway.csv}
"""
TABLE = "step,0,observation[1]\ntolerance,0.1,0.2\n0,1.0,\n1,2.0,3.0\n"


def write(folder: Path, text: str, table: str = TABLE) -> Path:
    (folder / "goals.yaml").write_text(text)
    (folder / "sway.csv").write_text(table)
    return folder / "goals.yaml"


def test_files_say_what_is_asked_for(tmp_path: Path) -> None:
    two, sway = read_courses(write(tmp_path, FILE), TASK)
    assert two.values.tolist() == [[1.0, 2.0], [3.0, 0.0]]
    assert two.named.tolist() == [[True, True], [True, False]]
    assert two.tolerances[two.named].tolist() == pytest.approx([0.5, 0.1, 0.2])
    assert two.times.tolist() == [4, UNTIMED]
    assert sway.name == "sway"
    assert sway.kind == "reference"
    assert sway.named.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "\"observation[0]\": 1.0",
            "\"observation[0]\": .nan",
            r"waypoints\[0\].at.observation\[0\]: nan is not finite",
        ),
        ('"observation[0]"', '"observation[7]"', r"waypoints\[0\].at: dimension 'observation\[7\]' is not one of"),
        ('"1": 2', '"5": 2', "dimension '5' is not one of .*, or 0 to 1"),
        ("by: 4", "by: 0", r"waypoints\[0\].by: 0 is not a step from 1 on"),
        ("by: 4", "by: 1.5", r"by: 1.5 is not a step"),
        ("by: 4", "until: 4", "'until' is not one of at, tolerance, by"),
        ("tolerance: 0.2", "tolerance: 0", "goal two: waypoint 1, the tolerance of dimension 0 is not above 0"),
        ("tolerance: 0.2", "by: 9", r"tolerance: null is not a number"),
        ("tolerance: 0.2", "tolerance: 0.2, by: 3", "waypoint 1 is due before waypoint 0"),
        ("sway.csv", "other.csv", "other.csv cannot be read"),
    ],
)
def test_wrong_goals_are_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(ConfigError, match=said):
        read_courses(write(tmp_path, FILE.replace(old, new, 1)), TASK)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE.replace("2.0", "nan"), "line 4, 0: 'nan' is not finite"),
        (TABLE.replace("\n1,", "\n5,"), "line 4, step: 5, and 1 is next"),
        (TABLE.replace("step,0", "step,7"), "line 1: dimension '7'"),
        (TABLE.replace("1.0,\n", ",\n"), "row 0 names no dimension"),
        (TABLE.replace("tolerance,0.1", "tolerance,x"), "line 2, 0: 'x' is not a number"),
        (TABLE.replace("2.0,3.0", "2.0"), "line 4: 2 cells, and 3 are named"),
        ("", "a line of names"),
    ],
)
def test_wrong_tables_are_refused_by_line(tmp_path: Path, table: str, said: str) -> None:
    write(tmp_path, FILE, table)
    with pytest.raises(ConfigError, match=said):
        read_courses(tmp_path / "sway.csv", TASK)


def test_wilsons_interval_is_known() -> None:
    """10 of 20: Newcombe 1998 gives 0.299 to 0.701; 0 of 20: 0 to 0.161."""
    assert wilson_interval(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-3)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-3)
    low, high = wilson_interval(20, 20)
    assert (low, high) == pytest.approx((0.8389, 1.0), abs=1e-3)
