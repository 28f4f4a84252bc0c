"""One episode as the rows that it adds to each column of a store."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from system.data.store.returns import EndReadings, label_returns
from system.errors import DataError
from system.types import Episode

COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "returns_to_go",
    "returns_valid",
    "lengths",
    "step_offsets",
    "terminated",
    "truncated",
    "complete",
    "game",
)
KEPT_DTYPES = (np.dtype(np.uint8), np.dtype(np.int16))
"""Of frames and of their tokens, which are games'; all else is a vector of numbers."""


@dataclass(frozen=True)
class EpisodeLayout:
    """What one row of observations and of actions looks like; the same for all episodes of a store.

    Attributes:
        observation_shape: (S,) of a vector, (height, width) of a frame, (K,) of tokens.
        observation_dtype: float32, uint8 or int16.
        action_shape: (A,), or () of discrete actions.
        action_dtype: float32 or int64.
    """

    observation_shape: tuple[int, ...]
    observation_dtype: np.dtype
    action_shape: tuple[int, ...]
    action_dtype: np.dtype

    @classmethod
    def of(cls, episode: Episode) -> "EpisodeLayout":
        """The layout that an episode needs: numbers become float32, numbers of discrete actions int64.

        Raises:
            DataError: observations or actions are of a type that is not stored.
        """
        observations, actions = episode.observations, episode.actions
        observation_dtype: np.dtype = observations.dtype
        action_dtype: np.dtype = np.dtype(np.int64)
        if observation_dtype.kind == "f":
            observation_dtype = np.dtype(np.float32)
        elif observation_dtype not in KEPT_DTYPES:
            raise DataError(f"observations of type {observation_dtype} are not stored (numbers, uint8 or int16)")
        if actions.dtype.kind == "f":
            action_dtype = np.dtype(np.float32)
        elif actions.dtype.kind not in "iu":
            raise DataError(f"actions of type {actions.dtype} are not stored")
        return cls(observations.shape[1:], observation_dtype, actions.shape[1:], action_dtype)

    def _learnt(self, rewards: Float[np.ndarray, "L"]) -> Float[np.ndarray, "L"]:
        """Rewards as values are learnt from them: of games, whose scores differ by orders, their signs."""
        return np.sign(rewards) if self.observation_dtype in KEPT_DTYPES else rewards

    def columns(
        self, index: int, episode: Episode, discount: float, readings: EndReadings
    ) -> dict[str, Shaped[np.ndarray, "..."]]:
        """The episode's rows, by column; `step_offsets` is left to the caller.

        Args:
            index: the episode's position, named in errors.
            episode: of this layout.
            discount: γ of the returns-to-go.
            readings: of its end, if it did not terminate.

        Raises:
            DataError: the episode is empty or of another layout.
        """
        length = episode.num_steps
        if length == 0:
            raise DataError(f"episode {index} has no steps")
        shapes = (episode.observations.shape, episode.actions.shape)
        expected = ((length + 1, *self.observation_shape), (length, *self.action_shape))
        if shapes != expected:
            raise DataError(
                f"episode {index} of {length} steps has observations {shapes[0]} and actions {shapes[1]}, "
                f"expected {expected[0]} and {expected[1]}"
            )
        other = EpisodeLayout.of(episode)
        if other != self:
            raise DataError(
                f"episode {index} has {other.observation_dtype} observations and {other.action_dtype} actions, "
                f"expected {self.observation_dtype} and {self.action_dtype}"
            )
        recorded = np.isfinite(episode.rewards).all()
        returns, known = label_returns(
            self._learnt(np.nan_to_num(episode.rewards)),
            discount,
            terminated=episode.terminated,
            at_limit=episode.complete,
            readings=readings,
        )
        return {
            "observations": episode.observations.astype(self.observation_dtype, copy=False),
            "actions": episode.actions.astype(self.action_dtype, copy=False),
            "rewards": episode.rewards.astype(np.float32, copy=False),
            "returns_to_go": returns,
            "returns_valid": known & recorded,
            "lengths": np.array([length], dtype=np.int64),
            "terminated": np.array([episode.terminated], dtype=bool),
            "truncated": np.array([episode.truncated], dtype=bool),
            "complete": np.array([episode.complete], dtype=bool),
            "game": np.array([episode.game], dtype=np.int64),
        }
