"""A player of Pong that looks at the frame and keeps its paddle where the ball will be.

It needs no training, so that Atari data can be collected within a minute; with some random actions mixed in,
its games range from lost to nearly perfect.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, UInt8

from system.planning.acting import Decision
from system.planning.history import History

FIRE, UP, DOWN, STAY = 1, 3, 4, 0
COURT = slice(14, 77)  # rows between the walls
LEFT_WALL, PADDLE = 11, 73  # columns: the court ends there, the own paddle begins here
CONTRAST = 15
LARGEST_BALL = 12  # pixels; more than that is a screen between two games
REACH = 2.0  # rows off the ball that need no move
MOMENTUM = 1.5  # decisions for which the paddle glides on


class PongTracker:
    """Follows the ball, except for a share of random actions.

    Args:
        noise_levels: share of random actions, in [0, 1], by environment: the i-th plays with the level at i
            modulo their number.
        valid_actions: that random actions are drawn from.
    """

    def __init__(self, noise_levels: Sequence[float], valid_actions: Sequence[int]) -> None:
        self.noise_levels = np.asarray(noise_levels)
        self.valid_actions = np.asarray(valid_actions, dtype=np.int64)

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Decides from the last two frames."""
        count = len(rows)
        device = generator.device
        chosen = torch.randint(len(self.valid_actions), (count,), generator=generator, device=device)
        drawn = self.valid_actions[chosen.cpu().numpy()]
        level = self.noise_levels[rows % len(self.noise_levels)]
        disturbed = torch.rand(count, generator=generator, device=device).cpu().numpy() < level
        frames, valid = history.observations[rows, -2:], history.valid[rows, -2]
        tracked = [track(pair[1], pair[0] if known else None) for pair, known in zip(frames, valid, strict=True)]
        return Decision(np.where(disturbed, drawn, np.array(tracked, dtype=np.int64)))


def track(frame: UInt8[np.ndarray, "84 84"], before: UInt8[np.ndarray, "84 84"] | None) -> int:
    """The action that brings the paddle to where the ball will cross its column.

    Args:
        frame: the present one.
        before: the one before it; None at the start of a game.
    """
    paddle, ball = find_paddle(frame), find_ball(frame)
    if paddle is None or ball is None:
        return FIRE
    earlier = None if before is None else find_ball(before)
    earlier_paddle = None if before is None else find_paddle(before)
    goal = ball[0] if earlier is None else _landing_row(ball, earlier)
    glide = 0.0 if earlier_paddle is None else MOMENTUM * (paddle - earlier_paddle)
    error = goal - (paddle + glide)
    if abs(error) <= REACH:
        return STAY
    return UP if error < 0.0 else DOWN


def find_paddle(frame: UInt8[np.ndarray, "84 84"]) -> float | None:
    """Middle row of the own paddle, counted from the upper wall; None where it is not shown."""
    rows = np.flatnonzero(_shapes(frame)[:, PADDLE + 1 : PADDLE + 3].any(axis=1))
    return float(rows.mean()) if len(rows) else None


def find_ball(frame: UInt8[np.ndarray, "84 84"]) -> tuple[float, float] | None:
    """Row, counted from the upper wall, and column of the ball; None where it is not in play."""
    rows, columns = np.nonzero(_shapes(frame)[:, LEFT_WALL:PADDLE])
    if not 0 < len(rows) <= LARGEST_BALL:
        return None
    return float(rows.mean()), float(columns.mean()) + LEFT_WALL


def _shapes(frame: UInt8[np.ndarray, "84 84"]) -> np.ndarray:
    """Where the court shows something else than its ground."""
    court = frame[COURT].astype(np.int16)
    return np.abs(court - court[0, court.shape[1] // 2]) > CONTRAST


def _landing_row(ball: tuple[float, float], earlier: tuple[float, float]) -> float:
    """Where a ball that flies straight and bounces off the walls arrives; the middle while it flies away."""
    height = float(COURT.stop - COURT.start - 1)
    speed = ball[1] - earlier[1]
    if speed <= 0.0:
        return height / 2
    flown = ball[0] + (ball[0] - earlier[0]) * (PADDLE + 1 - ball[1]) / max(speed, 0.5)
    folded = abs(flown) % (2 * height)
    return min(folded, 2 * height - folded)
