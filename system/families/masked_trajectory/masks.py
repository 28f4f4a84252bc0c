"""A mask is data: which tokens of a trajectory window the encoder sees.

A mask is a boolean array [M, T] over M = 4 modalities and T time steps; True is visible. One model is a
policy, a world model or a return predictor by the mask alone, so a new capability is a new entry here.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from system.families.masked_trajectory.config import MaskName, TrainingMaskName

STATES, RETURNS, ACTIONS, REWARDS = range(4)
NUM_MODALITIES = 4

Mask = Bool[np.ndarray, "M T"]


def empty_mask(length: int) -> Mask:
    """A mask that hides everything."""
    return np.zeros((NUM_MODALITIES, length), dtype=bool)


def behaviour_cloning(length: int, current: int) -> Mask:
    """States up to `current`, actions before it: asks for the actions from `current` on."""
    mask = empty_mask(length)
    mask[STATES, : current + 1] = True
    mask[ACTIONS, :current] = True
    return mask


def return_conditioned(length: int, current: int) -> Mask:
    """Behaviour cloning that also sees every return token: the RCBC policy."""
    mask = behaviour_cloning(length, current)
    mask[RETURNS] = True
    return mask


def forward_dynamics(length: int, current: int) -> Mask:
    """States up to `current` and all actions: asks for later states, rewards and returns."""
    mask = behaviour_cloning(length, current)
    mask[ACTIONS] = True
    return mask


def reward_return(length: int, current: int) -> Mask:
    """States and actions up to `current`: asks for its reward and return."""
    mask = behaviour_cloning(length, current)
    mask[ACTIONS, current] = True
    return mask


def inverse_dynamics(length: int, current: int) -> Mask:
    """All states, actions before `current`: asks for the actions that connect the states."""
    mask = behaviour_cloning(length, current)
    mask[STATES] = True
    return mask


def path_inference(length: int, current: int) -> Mask:
    """States up to `current` and the last one: asks for the states between."""
    mask = behaviour_cloning(length, current)
    mask[STATES, -1] = True
    return mask


TASK_MASKS: dict[MaskName, Callable[[int, int], Mask]] = {
    "behaviour_cloning": behaviour_cloning,
    "return_conditioned": return_conditioned,
    "forward_dynamics": forward_dynamics,
    "reward_return": reward_return,
    "inverse_dynamics": inverse_dynamics,
    "path_inference": path_inference,
}

def infers_a_path(mask: Mask) -> bool:
    """Whether a mask is that of path inference from some step before the last one."""
    length = mask.shape[1]
    current = int(mask[ACTIONS].sum())
    return current < length - 1 and np.array_equal(mask, path_inference(length, current))


TO_A_GOAL: frozenset[MaskName] = frozenset({"inverse_dynamics", "path_inference"})
"""Masks whose plan of h actions ends at a goal, h steps ahead of the current step; the others' ends at h − 1."""

KEEP_RATIOS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
ANCHOR_ORDER = (STATES, RETURNS, ACTIONS, REWARDS)
ANCHOR_PROBABILITIES = (0.2, 0.1, 0.6, 0.1)


def random_tokens(
    length: int, generator: np.random.Generator, keep_ratios: Sequence[float] = KEEP_RATIOS
) -> Mask:
    """Each modality keeps a random share of its steps; at least one action stays hidden.

    Source: MTM section 3, "random" masks.
    """
    mask = empty_mask(length)
    for modality in range(NUM_MODALITIES):
        keep = int(length * generator.choice(keep_ratios))
        mask[modality, generator.permutation(length)[:keep]] = True
    if mask[ACTIONS].all():
        mask[ACTIONS, generator.integers(length)] = False
    return mask


def random_autoregressive(
    length: int, generator: np.random.Generator, keep_ratios: Sequence[float] = KEEP_RATIOS
) -> Mask:
    """The two-step training mask: random tokens, then nothing right of a random place.

    Each modality keeps a random share of its steps. An anchor modality and a step p are drawn;
    modalities before the anchor in `ANCHOR_ORDER` hide the steps after p, the anchor and those behind
    it hide p as well. At least one action stays hidden, for the action likelihood is over hidden ones.

    Source: M³PC section IV, "Training-phase Mask Pattern".
    """
    mask = empty_mask(length)
    for modality in range(NUM_MODALITIES):
        keep = int(length * generator.choice(keep_ratios))
        mask[modality, generator.permutation(length)[:keep]] = True
    anchor = generator.choice(len(ANCHOR_ORDER), p=ANCHOR_PROBABILITIES)
    position = int(generator.integers(length))
    for order, modality in enumerate(ANCHOR_ORDER):
        mask[modality, position + (order < anchor) :] = False
    if mask[ACTIONS].all():
        mask[ACTIONS, -1] = False
    return mask


def draw_known_dimensions(
    count: int, num_dimensions: int, generator: np.random.Generator
) -> Bool[np.ndarray, "count S"]:
    """Which dimensions of `count` goals are named: of every second one all, of the others a random share, at least
    one.

    Args:
        count: rows.
        num_dimensions: S.
        generator: source of the draw.
    """
    share = np.where(generator.random((count, 1)) < 0.5, 1.0, generator.random((count, 1)))
    known = generator.random((count, num_dimensions)) < share
    known[np.arange(count), generator.integers(num_dimensions, size=count)] = True
    return np.asarray(known)


def sample_training_mask(
    length: int,
    shares: Mapping[TrainingMaskName, float],
    generator: np.random.Generator,
    *,
    keep_ratios: Sequence[float] = KEEP_RATIOS,
    planning_step: int = 0,
    planning_step_share: float = 0.0,
) -> Mask:
    """A mask for one training step, shared by the whole batch.

    Args:
        length: T.
        shares: probability of each named mask, of whose like the random masks practically never are; with what
            is left of 1 the mask is random and autoregressive.
        generator: source of the draw.
        keep_ratios: shares of a modality's steps that random masks keep.
        planning_step: place in the window of the step at which the planner acts; with a goal in the window's last
            state that is one earlier.
        planning_step_share: probability that the current step is that one; else it is drawn uniformly, for windows
            of other horizons.
    """
    left = float(generator.random())
    for name, mask in TASK_MASKS.items():
        left -= shares.get(name, 0.0)
        if left < 0.0:
            drawn = int(generator.integers(length))
            planned = max(0, planning_step - (name in TO_A_GOAL))
            return mask(length, planned if generator.random() < planning_step_share else drawn)
    plain = left < shares.get("random", 0.0)
    return (random_tokens if plain else random_autoregressive)(length, generator, keep_ratios)
