"""Atari games as the datasets show them: small grey frames, every action of the joystick, raw scores.

One decision holds an action for four frames of the emulator. What is seen of them is the brighter of the last
two at each pixel, because many games draw some of their objects in every other frame only. Actions are never
repeated at random, and only the end of the game ends an episode, not the loss of a life.
"""

import gymnasium
import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from jaxtyping import UInt8

from system.envs.atari_games import NUM_ACTIONS, AtariGame

FRAME_SHAPE = (84, 84)
FRAME_SKIP = 4
NO_OPERATION = 0


class AtariEnvironment(gymnasium.Env):
    """One game on one emulator; deterministic, so that an episode depends on its no-ops and actions alone.

    Args:
        game: which.
        noop_max: each episode starts with 1 … noop_max idle frames, drawn from the seed of the reset, so that
            episodes of one deterministic policy differ; 0 starts them all alike.
    """

    def __init__(self, game: AtariGame, *, noop_max: int = 0) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._emulator = ALEInterface()
        self._emulator.setInt("random_seed", 0)
        self._emulator.setFloat("repeat_action_probability", 0.0)
        self._emulator.loadROM(roms.get_rom_path(game.rom))
        self._emulator.reset_game()
        # Some games keep part of their memory over a mere reset, so that one episode would depend on the last.
        self._start = self._emulator.cloneState(include_rng=True)
        self._first_screen = self._emulator.getScreenGrayscale()
        height, width = self._first_screen.shape
        self._rows, self._columns = _box_edges(height, FRAME_SHAPE[0]), _box_edges(width, FRAME_SHAPE[1])
        self._screens = np.zeros((2, height, width), dtype=np.uint8)
        self._noop_max = noop_max
        self.observation_space = gymnasium.spaces.Box(0, 255, FRAME_SHAPE, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[UInt8[np.ndarray, "height width"], dict]:
        """Starts a new game, with the no-ops that the seed asks for."""
        super().reset(seed=seed, options=options)
        self._emulator.restoreState(self._start)
        screen = self._first_screen  # the emulator itself still shows where it was before it was put back
        if self._noop_max:
            for _ in range(int(self.np_random.integers(1, self._noop_max + 1))):
                self._emulator.act(NO_OPERATION)
            screen = self._emulator.getScreenGrayscale()
        return self._shrink(screen), {"lives": self._emulator.lives()}

    def step(
        self, action: int | np.integer
    ) -> tuple[UInt8[np.ndarray, "height width"], float, bool, bool, dict]:
        """Holds an action for four frames.

        Args:
            action: its number in the full action set, whatever the game.

        Returns:
            The frame, the score gained, whether the game is over, False (there is no limit here), and the
            lives that are left.
        """
        reward = 0.0
        for repeat in range(FRAME_SKIP):
            # After the game is over the emulator stands still: it shows its last screen and gives no reward.
            reward += self._emulator.act(int(action))
            if repeat >= FRAME_SKIP - 2:
                self._emulator.getScreenGrayscale(self._screens[repeat % 2])
        terminated = self._emulator.game_over(with_truncation=False)
        frame = self._shrink(np.maximum(self._screens[0], self._screens[1]))
        return frame, reward, terminated, False, {"lives": self._emulator.lives()}

    def _shrink(self, screen: np.ndarray) -> np.ndarray:
        """Columns first, rounded in between, as common imaging libraries do."""
        narrow = _average_boxes(screen.T, self._columns).T
        return np.ascontiguousarray(_average_boxes(narrow, self._rows))


def _box_edges(source: int, target: int) -> np.ndarray:
    """First source row of each target row, and the end: a row belongs to the box that its centre lies in."""
    return (2 * np.arange(target + 1) * source + target) // (2 * target)


def _average_boxes(image: UInt8[np.ndarray, "n m"], edges: np.ndarray) -> UInt8[np.ndarray, "boxes m"]:
    """The mean of each box of rows, rounded half up."""
    counts = np.diff(edges)
    sums = image[edges[:-1]].astype(np.uint16)
    for offset in range(1, counts.max()):
        larger = counts > offset
        sums[larger] += image[edges[:-1][larger] + offset]
    doubled = 2 * counts[:, None].astype(np.uint16)
    return ((2 * sums + doubled // 2) // doubled).astype(np.uint8)
