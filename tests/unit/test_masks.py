"""The named masks, token by token, and the statistics of the training masks."""

import numpy as np
import pytest

from system.families.masked_trajectory.config import MaskName, TrajectoryTrainingConfig, planning_masks
from system.families.masked_trajectory.masks import (
    ACTIONS,
    ANCHOR_ORDER,
    ANCHOR_PROBABILITIES,
    KEEP_RATIOS,
    RETURNS,
    REWARDS,
    STATES,
    TASK_MASKS,
    forward_dynamics,
    random_autoregressive,
    random_tokens,
    return_conditioned,
    sample_training_mask,
)

LENGTH = 8
NUM_DRAWS = 6000
# Of eight steps, each keep ratio keeps 4, 4, 5, 6, 6, 7, 7 or 8.
COUNTS = [4, 4, 5, 6, 6, 7, 7, 8]
KEPT = np.mean(COUNTS) / LENGTH

# With five steps of which step 2 is the current one; # is visible.
DRAWN = {
    "behaviour_cloning": {STATES: "###..", RETURNS: ".....", ACTIONS: "##...", REWARDS: "....."},
    "return_conditioned": {STATES: "###..", RETURNS: "#####", ACTIONS: "##...", REWARDS: "....."},
    "forward_dynamics": {STATES: "###..", RETURNS: ".....", ACTIONS: "#####", REWARDS: "....."},
    "reward_return": {STATES: "###..", RETURNS: ".....", ACTIONS: "###..", REWARDS: "....."},
    "inverse_dynamics": {STATES: "#####", RETURNS: ".....", ACTIONS: "##...", REWARDS: "....."},
    "path_inference": {STATES: "###.#", RETURNS: ".....", ACTIONS: "##...", REWARDS: "....."},
}


def drawn(row: np.ndarray) -> str:
    return "".join("#" if visible else "." for visible in row)


@pytest.mark.parametrize("name", TASK_MASKS)
def test_a_named_mask_shows_exactly_this(name: str) -> None:
    mask = TASK_MASKS[name](5, 2)
    assert mask.dtype == bool
    assert {modality: drawn(mask[modality]) for modality in (STATES, RETURNS, ACTIONS, REWARDS)} == DRAWN[name]


@pytest.mark.parametrize("name", TASK_MASKS)
def test_at_the_first_step_nothing_of_the_past_is_shown(name: str) -> None:
    mask = TASK_MASKS[name](4, 0)
    assert mask[STATES, 0]
    assert mask[ACTIONS, 0] == (name in ("forward_dynamics", "reward_return"))


@pytest.fixture(scope="module")
def training_masks() -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.stack([random_autoregressive(LENGTH, generator) for _ in range(NUM_DRAWS)])


@pytest.mark.parametrize("order", range(4))
def test_each_token_is_visible_as_often_as_the_two_steps_say(order: int, training_masks: np.ndarray) -> None:
    """Kept by the first step, and left of the place that the second step draws."""
    modality = ANCHOR_ORDER[order]
    behind_an_anchor_to_come = sum(ANCHOR_PROBABILITIES[order + 1 :])
    expected = KEPT * (LENGTH - 1 - np.arange(LENGTH) + behind_an_anchor_to_come) / LENGTH
    assert np.allclose(training_masks[:, modality].mean(0), expected, atol=0.03)


def test_the_anchor_is_an_action_most_of_the_time(training_masks: np.ndarray) -> None:
    """Where states reach further than returns the anchor is a return token, and so on down the order."""
    last = np.where(training_masks.any(2), LENGTH - np.argmax(training_masks[:, :, ::-1], axis=2), 0)
    assert np.mean(last[:, STATES] > last[:, ACTIONS]) > np.mean(last[:, ACTIONS] > last[:, STATES])
    empty = ~training_masks.any(axis=(1, 2))
    assert empty.mean() == pytest.approx(0.034, abs=0.015)


def test_an_action_is_always_hidden_even_in_the_shortest_window(training_masks: np.ndarray) -> None:
    assert not training_masks[:, ACTIONS].all(1).any()
    generator = np.random.default_rng(1)
    for _ in range(300):
        assert not random_autoregressive(2, generator)[ACTIONS].all()


def test_by_default_three_tenths_each_are_policy_and_dynamics_at_every_step() -> None:
    generator = np.random.default_rng(0)
    shares = TrajectoryTrainingConfig().mask_shares
    names = {
        TASK_MASKS[name](LENGTH, current).tobytes(): (name, current)
        for name in shares
        for current in range(LENGTH)
    }
    drawn = [names.get(sample_training_mask(LENGTH, shares, generator).tobytes()) for _ in range(6000)]
    for name in ("return_conditioned", "forward_dynamics"):
        steps = [each[1] for each in drawn if each is not None and each[0] == name]
        assert len(steps) / len(drawn) == pytest.approx(0.3, abs=0.03)
        assert np.allclose(np.bincount(steps, minlength=LENGTH) / len(steps), 1 / LENGTH, atol=0.03)
    assert np.mean([each is None for each in drawn]) == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("name", TASK_MASKS)
def test_every_named_mask_gets_its_share(name: MaskName) -> None:
    generator, mask = np.random.default_rng(0), TASK_MASKS[name]
    exact = {mask(LENGTH, current).tobytes() for current in range(LENGTH)}
    rest: MaskName = "reward_return" if name != "reward_return" else "return_conditioned"
    shares = {rest: 0.2, name: 0.7}
    seen = [sample_training_mask(LENGTH, shares, generator).tobytes() in exact for _ in range(2000)]
    assert np.mean(seen) == pytest.approx(0.7, abs=0.05)
    assert all(sample_training_mask(LENGTH, {name: 1.0}, generator).tobytes() in exact for _ in range(100))


def test_a_share_of_the_task_masks_stands_where_the_planner_acts() -> None:
    generator = np.random.default_rng(0)
    exact = {mask(LENGTH, 1).tobytes() for mask in (return_conditioned, forward_dynamics)}
    shares = planning_masks(1.0)
    seen = [
        sample_training_mask(LENGTH, shares, generator, planning_step=1, planning_step_share=0.7).tobytes()
        for _ in range(2000)
    ]
    seen = [tokens in exact for tokens in seen]
    assert np.mean(seen) == pytest.approx(0.7 + 0.3 / LENGTH, abs=0.03)


def test_the_same_generator_gives_the_same_mask() -> None:
    first, second = (sample_training_mask(LENGTH, planning_masks(0.5), np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)


def test_the_keep_ratios_are_shares_and_keep_what_is_said_above() -> None:
    assert [int(LENGTH * ratio) for ratio in KEEP_RATIOS] == COUNTS
    assert all(0.0 < ratio <= 1.0 for ratio in KEEP_RATIOS)


def test_plainly_random_masks_look_into_the_future_too() -> None:
    generator = np.random.default_rng(0)
    masks = np.stack([random_tokens(LENGTH, generator) for _ in range(NUM_DRAWS)])
    assert not masks[:, ACTIONS].all(axis=1).any()
    for modality in (STATES, RETURNS, REWARDS):
        assert masks[:, modality].mean(axis=0) == pytest.approx([KEPT] * LENGTH, abs=0.03)


def test_keep_ratios_say_how_much_random_masks_keep() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        mask = random_tokens(LENGTH, generator, keep_ratios=(0.25,))
        assert mask.sum(axis=1).tolist() == [2, 2, 2, 2]
        assert random_autoregressive(LENGTH, generator, keep_ratios=(0.25,)).sum(axis=1).max() <= 2


def test_shares_choose_between_the_kinds_of_random_masks() -> None:
    """Of plainly random masks that keep everything, the hidden token is an action; the others hide a future."""
    generator = np.random.default_rng(0)
    for shares, share in (({"random": 1.0}, 1.0), ({"random": 0.3, "forward_dynamics": 0.3}, 0.3), ({}, 0.0)):
        drawn = [
            sample_training_mask(LENGTH, shares, generator, keep_ratios=(1.0,)) for _ in range(1500)
        ]
        plain = np.mean([mask[RETURNS].all() and mask[REWARDS].all() for mask in drawn])
        assert plain == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("name", ["inverse_dynamics", "path_inference"])
def test_masks_with_a_goal_begin_a_step_earlier(name: MaskName) -> None:
    generator = np.random.default_rng(0)
    mask = sample_training_mask(LENGTH, {name: 1.0}, generator, planning_step=4, planning_step_share=1.0)
    assert np.array_equal(mask, TASK_MASKS[name](LENGTH, 3))
