"""Windows that end with imagined steps: what was recorded before them, then what was imagined.

They are kept as tensors of the learner's state, so that a checkpoint holds all that is learnt from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float

from system.data.imagined_rollouts import ImaginedRollouts
from system.data.store.episodes import EpisodeStore
from system.families.imagination.agent import ImaginationAgent

PREFIX = "imagined."


@dataclass(frozen=True)
class ImaginedWindows:
    """M windows of T steps; those before an episode's beginning are zeros and not `valid`.

    Attributes:
        observations, actions: recorded ones, then imagined ones.
        returns: to go, of the imagined steps and V where they end, of what led there too.
        valid: the step belongs to the episode.
        counted: the step is imagined: what is learnt from it is its action.
    """

    observations: Float[torch.Tensor, "M T S"]
    actions: Float[torch.Tensor, "M T A"]
    returns: Float[torch.Tensor, "M T"]
    valid: Bool[torch.Tensor, "M T"]
    counted: Bool[torch.Tensor, "M T"]

    def __len__(self) -> int:
        """M."""
        return len(self.valid)

    def state(self) -> dict[str, torch.Tensor]:
        """Named for a learner's state."""
        return {PREFIX + each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of_state(cls, state: Mapping[str, torch.Tensor]) -> "ImaginedWindows":
        """Restores what `state` gave."""
        return cls(**{each.name: state[PREFIX + each.name] for each in fields(cls)})

    @classmethod
    def none(cls, length: int, observation_dim: int, action_dim: int) -> "ImaginedWindows":
        """No windows yet."""
        return cls(
            torch.zeros(0, length, observation_dim),
            torch.zeros(0, length, action_dim),
            torch.zeros(0, length),
            torch.zeros(0, length, dtype=torch.bool),
            torch.zeros(0, length, dtype=torch.bool),
        )

    def followed_by(self, newer: "ImaginedWindows", most: int) -> "ImaginedWindows":
        """These and newer ones behind them, the newest `most` of all."""
        pairs = ((getattr(self, each.name), getattr(newer, each.name)) for each in fields(self))
        total = len(self) + len(newer)
        return ImaginedWindows(*(torch.cat(pair)[max(0, total - most) :] for pair in pairs))


@torch.no_grad()
def windows_of(
    agent: ImaginationAgent, store: EpisodeStore, rollouts: ImaginedRollouts, length: int, discount: float
) -> ImaginedWindows:
    """A window of T steps for each rollout, that ends with its last action.

    Args:
        agent: its values, of where a rollout was cut.
        store: what was imagined from.
        rollouts: at least one step each.
        length: T.
        discount: γ.
    """
    ahead = rollouts.lengths[:, None]
    steps = rollouts.steps[:, None] + ahead - length + np.arange(length)
    place = steps - rollouts.steps[:, None]
    imagined, valid = place >= 0, steps >= 0
    real = np.minimum(np.maximum(steps, 0), rollouts.steps[:, None])
    rows = store.step_offsets[rollouts.episodes][:, None] + real
    states = rows + rollouts.episodes[:, None]
    row, column = np.arange(len(rollouts))[:, None], np.maximum(place, 0)
    parts = {
        "observations": (store.observations[states], rollouts.observations[row, column]),
        "actions": (store.actions[rows], rollouts.actions[row, column]),
        "rewards": (store.rewards[rows], rollouts.rewards[row, column]),
    }
    joined = {}
    for name, (recorded, foreseen) in parts.items():
        extra = (..., None) if recorded.ndim == 3 else ...
        known = np.where(imagined[extra], foreseen, recorded)
        joined[name] = np.where(valid[extra], known, 0.0).astype(np.float32)
    last = torch.from_numpy(rollouts.observations[row[:, 0], rollouts.lengths]).to(agent.device)
    beyond = np.where(rollouts.terminated, 0.0, agent.value(last).cpu().numpy())
    return ImaginedWindows(
        observations=torch.from_numpy(joined["observations"]),
        actions=torch.from_numpy(joined["actions"]),
        returns=torch.from_numpy(_returns(joined["rewards"], beyond, discount)),
        valid=torch.from_numpy(valid),
        counted=torch.from_numpy(imagined),
    )


def _returns(rewards: np.ndarray, beyond: np.ndarray, discount: float) -> np.ndarray:
    """g_t = r_t + γ g_{t+1} from the right, `beyond` behind the last step."""
    returns, following = np.zeros_like(rewards), beyond
    for step in reversed(range(rewards.shape[1])):
        following = rewards[:, step] + discount * following
        returns[:, step] = following
    return returns
