"""robosuite's Lift as an environment of Gymnasium's: `RobosuiteLift-v0`, known once `modules` names this file.

It shows robomimic's low-dimensional parts side by side, and its reward is 1 at every step at which the cube is
above the table. An episode ends at the `AFTER_SUCCESS`-th of these, or after `HORIZON` steps: its return is 0 or,
nearly always, `AFTER_SUCCESS`.

Needs the extra `manipulation`, whose MuJoCo is an earlier one: in a virtual environment of its own.
"""

import importlib
import logging
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

LIFT = "RobosuiteLift-v0"
PARTS = ("object-state", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
AFTER_SUCCESS = 5
HORIZON = 120


class Lift(gymnasium.Env[Float32[np.ndarray, "19"], Float32[np.ndarray, "7"]]):
    """A Panda arm is to lift a cube off a table.

    Args:
        control_freq: decisions a second of simulated time.

    Raises:
        ImportError: robosuite is not there, or does not work with the MuJoCo that is.
    """

    def __init__(self, control_freq: int = 20) -> None:
        self._task = _import_robosuite().make(
            "Lift",
            robots="Panda",
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=True,
            reward_shaping=False,
            control_freq=control_freq,
            horizon=HORIZON,
            ignore_done=True,
            hard_reset=False,
        )
        self._drawn = np.random.RandomState().get_state()
        low, high = self._task.action_spec
        self.action_space = gymnasium.spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, self._begin().shape)
        self._successes = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "19"], dict[str, Any]]:
        """Places cube and arm anew."""
        super().reset(seed=seed)
        if seed is not None:
            self._drawn = np.random.RandomState(seed).get_state()
        self._successes = 0
        return self._begin(), {}

    def step(
        self, action: Float32[np.ndarray, "7"]
    ) -> tuple[Float32[np.ndarray, "19"], float, bool, bool, dict[str, Any]]:
        """One decision of the arm's controller."""
        shown, reward, _, _ = self._task.step(np.asarray(action, np.float64))
        self._successes += reward > 0.0
        return self._joined(shown), float(reward), self._successes >= AFTER_SUCCESS, False, {}

    def _begin(self) -> Float32[np.ndarray, "19"]:
        """robosuite draws from its own generator, or from everyone's, by version; everyone's is left as it was."""
        others = np.random.get_state()
        np.random.set_state(self._drawn)
        try:
            drawn = np.random.default_rng(np.random.randint(2**31))
            self._task.rng.bit_generator.state = drawn.bit_generator.state  # others hold the generator too
            return self._joined(self._task.reset())
        finally:
            self._drawn = np.random.get_state()
            np.random.set_state(others)

    @staticmethod
    def _joined(shown: Mapping[str, Any]) -> Float32[np.ndarray, "19"]:
        return np.concatenate([np.ravel(shown[part]) for part in PARTS]).astype(np.float32)


def _import_robosuite() -> Any:
    """The package, without its messages."""
    try:
        mujoco = importlib.import_module("mujoco")
        if not hasattr(mujoco.MjData, "qM"):
            raise ImportError(f"robosuite does not work with mujoco {mujoco.__version__}")
        logging.disable(logging.WARNING)  # of what robosuite would rather have installed
        robosuite = importlib.import_module("robosuite")
    except ImportError as error:
        advice = "in a virtual environment of its own: pip install 'offline-to-online[manipulation]'"
        raise ImportError(f"{error}; {advice}") from None
    finally:
        logging.disable(logging.NOTSET)
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    return robosuite


gymnasium.register(LIFT, entry_point=Lift, max_episode_steps=HORIZON)
