"""The Pong player: what it sees in a frame, and where it moves."""

import numpy as np
import pytest
import torch

from system.evaluation.pong_tracker import (
    COURT,
    DOWN,
    FIRE,
    PADDLE,
    STAY,
    UP,
    PongTracker,
    find_ball,
    find_paddle,
    track,
)
from system.planning.history import History

GROUND, SHAPE = 87, 236


def frame(paddle: int | None = 30, ball: tuple[int, int] | None = (30, 40)) -> np.ndarray:
    """A court with a paddle of 7 rows around `paddle` and a ball of 2 x 2 pixels, rows from the upper wall."""
    picture = np.full((84, 84), GROUND, dtype=np.uint8)
    picture[: COURT.start] = picture[COURT.stop :] = SHAPE
    picture[COURT.start + 20 : COURT.start + 27, 8:11] = SHAPE
    if paddle is not None:
        picture[COURT.start + paddle - 3 : COURT.start + paddle + 4, PADDLE : PADDLE + 3] = SHAPE
    if ball is not None:
        row, column = COURT.start + ball[0], ball[1]
        picture[row : row + 2, column : column + 2] = SHAPE
    return picture


def test_it_sees_the_paddle_and_the_ball() -> None:
    assert find_paddle(frame()) == 30.0
    assert find_ball(frame()) == (30.5, 40.5)
    assert find_paddle(frame(paddle=None)) is None
    assert find_ball(frame(ball=None)) is None


@pytest.mark.parametrize(
    ("now", "before", "action"),
    [
        (frame(ball=(10, 60)), frame(ball=(10, 56)), UP),
        (frame(ball=(50, 60)), frame(ball=(50, 56)), DOWN),
        (frame(ball=(30, 60)), frame(ball=(30, 56)), STAY),
        (frame(ball=(4, 60)), frame(ball=(14, 56)), STAY),  # off the upper wall, to row 29
        (frame(ball=(10, 56)), frame(ball=(10, 60)), STAY),  # it flies away: to the middle
        (frame(paddle=24, ball=(30, 60)), frame(paddle=20, ball=(30, 56)), STAY),  # the paddle glides on
        (frame(ball=(10, 60)), None, UP),
        (frame(ball=None), frame(), FIRE),
    ],
)
def test_it_moves_to_where_the_ball_will_be(now: np.ndarray, before: np.ndarray | None, action: int) -> None:
    assert track(now, before) == action


def test_a_share_of_its_actions_is_random_by_environment() -> None:
    history = History(2, 2, (84, 84), (), observation_dtype=np.uint8, action_dtype=np.int64)
    history.reset([0, 1], np.stack([frame(ball=(10, 60))] * 2))
    policy, generator = PongTracker([0.0, 1.0], (0, 11, 12)), torch.Generator().manual_seed(0)
    acted = np.stack([policy.act(history, np.array([0, 1]), generator).action for _ in range(50)])
    assert set(acted[:, 0]) == {UP}
    assert set(acted[:, 1]) == {0, 11, 12}
