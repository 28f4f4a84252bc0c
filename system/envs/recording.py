"""An environment that remembers whole episodes exactly as they happened.

Recording at the environment, and not in the learner's buffers, is what keeps a dataset true: the actions
are those executed (after clipping), the last observation is the real one and no episode is cut where a
learner's rollout fragments end.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import gymnasium
import numpy as np

from system.envs.registry import make_environment
from system.errors import SystemFailure
from system.seeding import derive_seed
from system.types import Episode, TaskSpec

_LOG = logging.getLogger(__name__)
_RESET_ATTEMPTS = 3


@dataclass
class Recording:
    """What an environment did since it was last asked.

    Attributes:
        env_steps: made, those of unfinished and of lost episodes too.
        episodes: (steps this environment had made when the episode ended, the episode), in that order.
        num_dropped: episodes lost because the environment raised or gave a value that is not finite.
    """

    env_steps: int = 0
    episodes: list[tuple[int, Episode]] = field(default_factory=list)
    num_dropped: int = 0


class RecordingEnvironment(gymnasium.Wrapper):
    """Keeps every finished episode until `drain` is called; unfinished ones are never given out.

    An environment that fails is rebuilt. To its user that looks like an episode cut after the last sound
    observation; of the recording it is left out.
    """

    def __init__(self, make: Callable[[], gymnasium.Env]):
        """Wraps what `make` builds; it is called again for each environment that fails."""
        super().__init__(make())
        self.env: gymnasium.Env
        self._make = make
        self._seed = 0
        self._next_seed: int | None = None
        self._num_rebuilt = 0
        self._total_steps = 0
        self._recording = Recording()
        self._start(None)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Starts a new episode; one that was not finished is forgotten.

        Raises:
            SystemFailure: the environment could not be reset even after it was rebuilt.
        """
        if seed is not None:
            self._seed = self._next_seed = seed
        for _ in range(_RESET_ATTEMPTS):
            try:
                observation, information = self.env.reset(seed=self._next_seed, options=options)
                _check_finite(observation, 0.0)
            except Exception as error:  # noqa: BLE001 - whatever a simulator raises; the attempts are bounded
                self._rebuild(error)
            else:
                self._next_seed = None
                self._start(observation)
                return observation, information
        raise SystemFailure(f"the environment could not be reset in {_RESET_ATTEMPTS} attempts")

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Steps the environment and remembers the transition.

        Raises:
            gymnasium.error.ResetNeeded: no episode is under way.
        """
        if not self._observations:
            raise gymnasium.error.ResetNeeded("an episode must be started before its first step")
        self._total_steps += 1
        self._recording.env_steps += 1
        try:
            observation, reward, terminated, truncated, information = self.env.step(action)
            _check_finite(observation, float(reward))
        except Exception as error:  # noqa: BLE001 - whatever a simulator raises costs one episode, not the agent
            return self._give_up_episode(error)
        self._observations.append(observation)
        self._actions.append(np.array(action, dtype=np.float32))
        self._rewards.append(float(reward))
        if terminated or truncated:
            self._recording.episodes.append((self._total_steps, self._episode(bool(terminated), bool(truncated))))
            self._start(None)
        return observation, reward, terminated, truncated, information

    def drain(self) -> Recording:
        """Gives out what happened since the last call, once."""
        drained, self._recording = self._recording, Recording()
        return drained

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

    def _give_up_episode(self, error: Exception) -> tuple[np.ndarray, float, bool, bool, dict]:
        last_sound = self._observations[-1]
        self._rebuild(error)
        self._recording.num_dropped += 1
        self._start(None)
        return last_sound, 0.0, False, True, {}

    def _rebuild(self, error: Exception) -> None:
        """Replaces the environment, and chooses a seed for it, so that its episodes stay reproducible."""
        _LOG.warning("environment rebuilt after %r", error)
        try:
            self.env.close()
        except Exception as close_error:  # noqa: BLE001 - it is being thrown away: only worth a note
            _LOG.warning("closing it failed as well: %r", close_error)
        self.env = self._make()
        self._num_rebuilt += 1
        self._next_seed = derive_seed(self._seed, "rebuilt", self._num_rebuilt)


def make_recorded_environment(task: TaskSpec, *, reward_scale: float) -> gymnasium.Env:
    """What a behaviour agent steps: scaled rewards for its learner, the task's own in the recording inside.

    Args:
        task: what is played.
        reward_scale: factor of the rewards that the learner sees.

    Raises:
        ConfigError: the environment is not known or cannot be made.
    """
    recorded = RecordingEnvironment(lambda: make_environment(task))
    return gymnasium.wrappers.TransformReward(recorded, lambda reward: reward_scale * float(reward))


def _check_finite(observation: np.ndarray, reward: float) -> None:
    if not np.isfinite(observation).all() or not np.isfinite(reward):
        raise FloatingPointError("the environment gave an observation or reward that is not finite")
