"""What makes an episode unfit for training, and the conversion of a fit one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from system.data.raw_episode import RawEpisode
from system.types import Episode, TaskSpec

ACTION_TOLERANCE = 1e-4
LARGEST_MAGNITUDE = 1e15


ASK = "dataset.incomplete: keep learns from the rest of it"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one episode.

    Attributes:
        episode: its number in the file.
        step: where; None where it concerns the episode as a whole.
        message: what.
        origin: where that is in the file, if that says more than episode and step.
    """

    episode: int
    step: int | None
    message: str
    origin: str = ""

    def __str__(self) -> str:
        """`episode 3, step 12 (row 312): reward is nan`."""
        place = f"episode {self.episode}" + ("" if self.step is None else f", step {self.step}")
        return f"{place} ({self.origin}): {self.message}" if self.origin else f"{place}: {self.message}"


def find_faults(raw: RawEpisode, task: TaskSpec, *, incomplete: bool = False) -> list[Fault]:
    """Everything that makes an episode unfit, at most one fault of a kind.

    Args:
        raw: as it was read.
        task: dimensions and action bounds, or frame shape and valid actions, that it must have.
        incomplete: whether it may lack all its actions, or all its rewards.

    Returns:
        Faults in order of severity; none if the episode is fit.
    """
    structural = raw.problem or _shape_problem(raw, task) or _type_problem(raw, task)
    if structural is not None:
        return [Fault(raw.number, None, structural, raw.origin.describe(None))]
    names = raw.origin.observation_names, raw.origin.action_names
    vectors = task.frame_shape is None
    has_actions, has_rewards = not (vectors and is_missing(raw.actions)), not (vectors and is_missing(raw.rewards))
    found = (
        None if has_actions or incomplete else Fault(raw.number, None, f"its actions are not recorded; {ASK}"),
        None if has_rewards or incomplete else Fault(raw.number, None, f"its rewards are not recorded; {ASK}"),
        _bad_value(raw.number, "observation", raw.observations, names[0]) if vectors else None,
        _bad_value(raw.number, "action", raw.actions, names[1]) if has_actions and not task.is_discrete else None,
        _bad_value(raw.number, "reward", raw.rewards) if has_rewards else None,
        (_invalid_action if task.is_discrete else _out_of_bounds)(raw, task) if has_actions else None,
        _early_flag(raw.number, "terminated", raw.terminations),
        _early_flag(raw.number, "truncated", raw.truncations),
    )
    return [replace(fault, origin=raw.origin.describe(fault.step)) for fault in found if fault is not None]


def is_missing(values: np.ndarray) -> bool:
    """Whether nothing of it was recorded: not a number throughout."""
    return values.dtype.kind == "f" and values.size > 0 and bool(np.isnan(values).all())


def to_episode(raw: RawEpisode, task: TaskSpec) -> Episode:
    """Converts a fit episode: vectors to float32, actions clipped to their bounds and rescaled to [−1, 1].

    Frames stay uint8 and lose a channel axis of one; numbers of discrete actions become int64. An episode is
    complete if it terminated, or was truncated exactly at the environment's own time limit.

    Args:
        raw: an episode without faults.
        task: action bounds or game, and time limit.
    """
    terminated, truncated = bool(raw.terminations[-1]), bool(raw.truncations[-1])
    observations = raw.observations
    return Episode(
        observations=(
            observations.astype(np.float32)
            if task.frame_shape is None
            else observations.reshape(len(observations), *task.frame_shape)
        ),
        actions=(
            raw.actions.astype(np.int64) - task.action_start
            if task.is_discrete
            else _scaled_actions(raw.actions, task)
        ),
        rewards=raw.rewards.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        complete=terminated or (truncated and len(raw.rewards) == task.max_episode_steps),
        game=task.game,
    )


def _scaled_actions(actions: np.ndarray, task: TaskSpec) -> np.ndarray:
    if not task.is_rescaled:
        return actions.astype(np.float32).clip(-1.0, 1.0)
    low, high = task.action_bounds
    unit = (actions.astype(np.float64) - low) / (high - low)
    return (2.0 * unit - 1.0).clip(-1.0, 1.0).astype(np.float32)


def _shape_problem(raw: RawEpisode, task: TaskSpec) -> str | None:
    if raw.rewards.ndim != 1:
        return f"rewards have shape {raw.rewards.shape}, expected one number a step"
    length = len(raw.rewards)
    if length == 0:
        return "has no steps"
    observations, row = raw.observations, task.frame_shape or (task.observation_dim,)
    if task.frame_shape is not None and observations.shape[3:] == (1,):
        observations = observations[..., 0]
    expected = {
        "observations": (observations, (length + 1, *row)),
        "actions": (raw.actions, (length,) if task.is_discrete else (length, task.action_dim)),
        "terminations": (raw.terminations, (length,)),
        "truncations": (raw.truncations, (length,)),
    }
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            return f"{name} have shape {array.shape}, expected {shape} ({length} rewards)"
    return None


def _type_problem(raw: RawEpisode, task: TaskSpec) -> str | None:
    if task.frame_shape is not None and raw.observations.dtype != np.uint8:
        return f"observations have type {raw.observations.dtype}, expected uint8 frames"
    if task.is_discrete and raw.actions.dtype.kind not in "iu":
        return f"actions have type {raw.actions.dtype}, expected integers"
    return None


def _bad_value(number: int, name: str, values: np.ndarray, names: Sequence[str] = ()) -> Fault | None:
    """The first step with a value that is not finite, or so large that its square overflows float32."""
    magnitude = np.abs(values.astype(np.float64))
    bad = ~(magnitude <= LARGEST_MAGNITUDE)
    if not bad.any():
        return None
    first = np.unravel_index(int(np.argmax(bad)), bad.shape)
    dimension = _dimension(int(first[1]), names) if values.ndim > 1 else ""
    return Fault(number, int(first[0]), f"{name}{dimension} is {float(values[first]):g}")


def _dimension(index: int, names: Sequence[str]) -> str:
    return f" dimension {index}" + (f" ({names[index]})" if index < len(names) else "")


def _out_of_bounds(raw: RawEpisode, task: TaskSpec) -> Fault | None:
    low, high = task.action_bounds
    outside = (raw.actions < low - ACTION_TOLERANCE) | (raw.actions > high + ACTION_TOLERANCE)
    if not outside.any():
        return None
    step, dimension = np.unravel_index(int(np.argmax(outside)), outside.shape)
    value = float(raw.actions[step, dimension])
    bounds = f"[{low[dimension]:g}, {high[dimension]:g}]"
    named = _dimension(int(dimension), raw.origin.action_names)
    return Fault(raw.number, int(step), f"action{named} is {value:g}, outside {bounds}")


def _invalid_action(raw: RawEpisode, task: TaskSpec) -> Fault | None:
    valid = [action + task.action_start for action in task.valid_actions]
    invalid = ~np.isin(raw.actions, valid)
    if not invalid.any():
        return None
    step = int(np.argmax(invalid))
    known = ", ".join(str(action) for action in valid)
    return Fault(raw.number, step, f"action is {int(raw.actions[step])}, not one of the game's {known}")


def _early_flag(number: int, name: str, flags: np.ndarray) -> Fault | None:
    early = np.flatnonzero(flags[:-1])
    if early.size == 0:
        return None
    return Fault(number, int(early[0]), f"{name} before the last step ({len(flags) - 1})")
