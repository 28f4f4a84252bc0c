"""Returns-to-go, and what they are taken for where an episode ended although going on had value.

An episode that terminates has nothing more to come. One that its time limit ends, or that was cut otherwise, had:
the observed sums fall towards its end although the states there are worth as much as any, and a model that sees no
clock learns two labels for one state. Such labels are read in one of three ways:

    complete     the observed sum: what was seen is all there is
    continued    g_t = Σ_{k=t}^{L−1} γ^{k−t} r_k + γ^{L−t} R, with R the worth of going on at the last steps' pace
    unknown      of a limit's end, labels that R would change by more than a tenth are invalid; of a cut, all are

Values that are learnt by bootstrapping go on behind such ends whatever the reading is.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from system.config.sections import EndReading

PACE_SHARE = 0.25
"""Of the horizon 1/(1 − γ), the steps before the end whose mean reward is the pace."""

CHANGED_SHARE = 0.1
"""Of a label: what may be missing from one that still counts as known."""

MOST_LENGTHS = 10
"""An episode's pace says nothing of more than so many times its length."""


@dataclass(frozen=True)
class EndReadings:
    """What is taken for the returns-to-go of episodes that end without termination.

    Attributes:
        limit_ends: of those that end at the environment's own time limit.
        cut_episodes: of those that were cut before it.
    """

    limit_ends: EndReading = "complete"
    cut_episodes: EndReading = "unknown"


AS_OBSERVED = EndReadings()
"""A time limit is an end like any other, and of what was cut nothing is known."""


def returns_to_go(rewards: Float[np.ndarray, "L"], discount: float) -> Float64[np.ndarray, "L"]:
    """Discounted sum of the observed rewards from every step on, that step's own reward included.

    g_t = Σ_{k=t}^{L−1} γ^{k−t} r_k.

    Args:
        rewards: r_0 … r_{L−1}, in the task's own units.
        discount: γ in [0, 1].

    Returns:
        g_0 … g_{L−1}.
    """
    sums = np.empty(len(rewards), dtype=np.float64)
    running = 0.0
    for step in range(len(rewards) - 1, -1, -1):
        running = float(rewards[step]) + discount * running
        sums[step] = running
    return sums


def label_returns(
    rewards: Float[np.ndarray, "L"],
    discount: float,
    *,
    terminated: bool,
    at_limit: bool,
    readings: EndReadings,
) -> tuple[Float32[np.ndarray, "L"], Bool[np.ndarray, "L"]]:
    """The return-to-go of every step, and whether it is known.

    Args:
        rewards: r_0 … r_{L−1}; L ≥ 1.
        discount: γ in [0, 1].
        terminated: the last step reached a terminal state.
        at_limit: else: the environment's time limit came; neither: the episode was cut.
        readings: what is taken for the labels then.
    """
    sums = returns_to_go(rewards, discount)
    everywhere = np.ones(len(rewards), dtype=bool)
    reading = readings.limit_ends if at_limit else readings.cut_episodes
    if terminated or reading == "complete":
        return sums.astype(np.float32), everywhere
    if reading == "unknown" and not at_limit:
        return sums.astype(np.float32), ~everywhere
    missing = discount ** np.arange(len(rewards), 0, -1) * worth_of_going_on(rewards, discount)
    continued = sums + missing
    if reading == "continued":
        return continued.astype(np.float32), everywhere
    return sums.astype(np.float32), np.abs(missing) <= CHANGED_SHARE * np.abs(continued)


def worth_of_going_on(rewards: Float[np.ndarray, "L"], discount: float) -> float:
    """R: the discounted sum of rewards behind an episode's end, were they to come at the pace of its last steps.

    The mean reward of the last 0.25/(1 − γ) steps, times 1/(1 − γ). Where the episode is long enough to hold
    returns-to-go that lack at most a tenth of their discounts, R is no more than the largest of these and no less
    than the smallest: few steps make a noisy pace, and going on is worth no more than its best stretch.

    Args:
        rewards: r_0 … r_{L−1}; L ≥ 1.
        discount: γ in [0, 1]; the horizon is at most `MOST_LENGTHS` times L steps.
    """
    length = len(rewards)
    horizon = min(1.0 / (1.0 - discount) if discount < 1.0 else np.inf, float(MOST_LENGTHS * length))
    pace = float(np.mean(rewards[-max(1, round(PACE_SHARE * horizon)) :], dtype=np.float64))
    seen = returns_to_go(rewards, discount)[discount ** np.arange(length, 0, -1) <= CHANGED_SHARE]
    return float(np.clip(pace * horizon, seen.min(), seen.max())) if len(seen) else pace * horizon
