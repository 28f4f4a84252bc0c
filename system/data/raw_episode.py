"""An episode as it lies in somebody's file, before anything is known to be right with it."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Origin:
    """Where in a file an episode lies and what its numbers are called there; only messages need it.

    Attributes:
        place: what the layout calls the episode, `demo_3` or `run_07.csv`; empty where its number says it all.
        counted: what the file counts its steps in, `row` or `line`.
        first: the count of step 0; None where steps are counted from the episode's own beginning.
        observation_names, action_names: of the dimensions; empty where they have none.
    """

    place: str = ""
    counted: str = "row"
    first: int | None = None
    observation_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    def describe(self, step: int | None) -> str:
        """`row 312`, `demo_3` or `line 14 of run_07.csv`; empty where there is nothing to add."""
        if step is None or self.first is None:
            return self.place
        row = f"{self.counted} {self.first + step}"
        return f"{row} of {self.place}" if self.place else row


@dataclass(frozen=True)
class RawEpisode:
    """An episode as it lies in the file, unchecked but for safety.

    Attributes:
        number: N of the group episode_N, or its place in the file, from 0.
        observations: o_0 … o_L, one more than there are steps.
        actions, rewards: a_0 … a_{L−1} in the environment's own units, or numbers of discrete ones; r_0 … r_{L−1}.
        terminations, truncations: flags of every step.
        problem: why it could not be read; the arrays are empty then.
        note: what a person should know of how it was read; empty where there is nothing.
        origin: where it lies, for messages.
    """

    number: int
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    problem: str | None = None
    note: str = ""
    origin: Origin = field(default_factory=Origin)


def unreadable(number: int, problem: str, origin: Origin | None = None) -> RawEpisode:
    """An episode of which nothing could be read, and why."""
    nothing = np.zeros(0, dtype=np.float32)
    return RawEpisode(
        number, nothing, nothing, nothing, nothing, nothing, problem=problem, origin=origin or Origin()
    )


def episode_of_rows(
    number: int,
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    *,
    terminated: bool,
    truncated: bool,
    last_observation: np.ndarray | None,
    note: str = "",
    origin: Origin | None = None,
) -> RawEpisode | None:
    """An episode from a file's rows (o_t, a_t, r_t), which may not tell what was seen after the last action.

    Where they don't, an episode that went on in the environment loses its last transition, and what was seen
    before it ends the episode: no transition leads to what was never seen. In one that terminated, nothing is
    learnt from what came after but that it is the end: the last observation stands in for it.

    Args:
        number: of the episode.
        observations, actions, rewards: L rows each.
        terminated, truncated: how the last row ended.
        last_observation: o_L, where the file has it.
        note: as in `RawEpisode`.
        origin: as in `RawEpisode`.

    Returns:
        None where no transition is left.
    """
    if last_observation is not None:
        observations = np.concatenate([observations, last_observation[None]])
    elif terminated:
        observations = np.concatenate([observations, observations[-1:]])
    else:
        actions, rewards = actions[:-1], rewards[:-1]
    if not len(rewards):
        return None
    flags = np.zeros((2, len(rewards)), dtype=bool)
    flags[:, -1] = terminated, truncated
    return RawEpisode(
        number, observations, actions, rewards, flags[0], flags[1], note=note, origin=origin or Origin()
    )
