"""An environment that remembers whole episodes exactly as they happened.

Recording at the environment, and not in the learner's buffers, is what keeps a dataset true: the actions
are those executed (after clipping), the last observation is the real one and no episode is cut where a
learner's rollout fragments end.
"""

import gymnasium
import numpy as np

from system.envs.registry import make_environment
from system.types import Episode


class RecordingEnvironment(gymnasium.Wrapper):
    """Keeps every finished episode until `drain` is called; unfinished ones are never given out."""

    def __init__(self, environment: gymnasium.Env):
        """Wraps an environment made by `system.envs.registry.make_environment`."""
        super().__init__(environment)
        self._finished: list[tuple[int, Episode]] = []
        self._steps = 0
        self._steps_drained = 0
        self._start(None)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Starts a new episode; one that was not finished is forgotten."""
        observation, information = self.env.reset(seed=seed, options=options)
        self._start(observation)
        return observation, information

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Steps the environment and remembers the transition."""
        observation, reward, terminated, truncated, information = self.env.step(action)
        self._steps += 1
        self._observations.append(observation)
        self._actions.append(np.array(action, dtype=np.float32))
        self._rewards.append(float(reward))
        if terminated or truncated:
            self._finished.append((self._steps, self._episode(bool(terminated), bool(truncated))))
            self._start(None)
        return observation, reward, terminated, truncated, information

    def drain(self) -> tuple[int, list[tuple[int, Episode]]]:
        """Gives out the finished episodes, once.

        Returns:
            Steps made since the last call (those of unfinished episodes too), and in order of their ends
            (steps this environment had made when the episode ended, the episode).
        """
        steps, self._steps_drained = self._steps - self._steps_drained, self._steps
        finished, self._finished = self._finished, []
        return steps, finished

    def _start(self, observation: np.ndarray | None) -> None:
        self._observations = [] if observation is None else [observation]
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []

    def _episode(self, terminated: bool, truncated: bool) -> Episode:
        return Episode(
            observations=np.stack(self._observations).astype(np.float32),
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards, dtype=np.float32),
            terminated=terminated,
            truncated=truncated and not terminated,
            complete=True,
        )


def make_recorded_environment(environment_id: str, *, reward_scale: float) -> gymnasium.Env:
    """What a behaviour agent steps: scaled rewards for its learner, the task's own in the recording inside.

    Args:
        environment_id: an id of `system.envs.registry.ENVIRONMENTS`.
        reward_scale: factor of the rewards that the learner sees.

    Raises:
        ConfigError: the id is not known.
    """
    recorded = RecordingEnvironment(make_environment(environment_id))
    return gymnasium.wrappers.TransformReward(recorded, lambda reward: reward_scale * float(reward))
