"""Which recorded states are imagined from, and what is stored of it: equations 17 to 25 and algorithm 1."""

import numpy as np
import pytest
import torch

from system.config import RunConfig
from system.data.store.episodes import EpisodeStore
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.imagined_windows import windows_of
from system.families.imagination.imagining import (
    imagine,
    imagined_returns,
    recorded_returns,
    reliable_disagreement,
    suboptimal_steps,
)
from tests.support.tiny_imagination import in_known_world, tiny_agent, tiny_config, tiny_store

DISCOUNT = 0.9


def make(*lengths: int, ending: str = "time_limit", **augmentation: object) -> tuple[
    RunConfig, EpisodeStore, ImaginationAgent
]:
    config, store = tiny_config(**augmentation), tiny_store(*lengths, ending=ending)
    return config, store, tiny_agent(config, store)


def test_returns_are_those_of_equations_17_and_18() -> None:
    _, store, agent = make(8, 7)
    with torch.no_grad():
        recorded = recorded_returns(agent, store, 1, np.array([3, 5]), 2, DISCOUNT)
        states = torch.from_numpy(np.array(store.observations[[9 + 3, 9 + 5]]))
        imagined = imagined_returns(agent, states, 2, DISCOUNT)
        for place, step in enumerate((3, 5)):
            first = 8 + step
            rewards = store.rewards[first : first + 2]
            behind = torch.from_numpy(np.array(store.observations[9 + step + 2]))[None]
            value = agent.value(behind).item()
            assert recorded[place] == pytest.approx(rewards[0] + 0.9 * rewards[1] + 0.81 * value, rel=1e-5)
            state, total, lasting = states[place][None], 0.0, 1.0
            for ahead in range(2):
                foresight = agent.world(state, agent.values.policy(state).mode())
                total += 0.9**ahead * lasting * foresight.rewards.item()
                lasting, state = lasting * (1.0 - foresight.ends.item()), foresight.mean
            total += 0.81 * lasting * agent.value(state).item()
            assert imagined[place].item() == pytest.approx(total, rel=1e-5)


def test_behind_a_terminal_state_there_is_nothing_and_behind_a_truncation_its_value() -> None:
    found = {}
    for ending in ("terminated", "time_limit"):
        _, store, agent = make(6, ending=ending)
        in_known_world(agent, value=100.0)
        found[ending] = recorded_returns(agent, store, 0, np.array([3, 4]), 2, DISCOUNT)
    assert found["time_limit"][0] == found["terminated"][0]
    assert found["time_limit"][1] - found["terminated"][1] == pytest.approx(81.0)


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (0.3, 1), (0.5, 2), (10.0, 6)])
def test_the_states_of_largest_gap_are_chosen_among_those_with_a_past_and_a_future(
    ratio: float, count: int
) -> None:
    config, store, agent = make(10, ratio=ratio)
    with torch.no_grad():
        chosen = suboptimal_steps(agent, store, 0, config)
        candidates = np.arange(3, 9)  # T = 5 of which H = 2 are imagined: three steps before, two behind
        states = torch.from_numpy(np.array(store.observations[candidates]))
        gap = imagined_returns(agent, states, 2, DISCOUNT).numpy() - recorded_returns(
            agent, store, 0, candidates, 2, DISCOUNT
        )
    assert chosen.tolist() == sorted(candidates[np.argsort(-gap)[:count]].tolist())


def test_an_episode_too_short_has_no_candidates() -> None:
    config, store, agent = make(4, 5)
    assert suboptimal_steps(agent, store, 0, config).tolist() == []
    assert len(suboptimal_steps(agent, store, 1, config)) == 1
    rollouts = imagine(agent, store, [0], config, ("x",))
    assert len(rollouts) == 0
    assert windows_of(agent, store, rollouts, 5, DISCOUNT).observations.shape == (0, 5, 3)


def test_rollouts_follow_the_model_from_where_they_leave_the_record() -> None:
    config, store, agent = make(10, 12)
    in_known_world(agent)
    rollouts = imagine(agent, store, [0, 1], config, ("x",))
    assert set(zip(rollouts.episodes, rollouts.steps, strict=True)) == {
        (episode, step) for episode in (0, 1) for step in suboptimal_steps(agent, store, episode, config)
    }
    cut = dict.fromkeys(("unreliable", "exploded", "not_finite", "terminated"), 0)
    assert rollouts.counts == {**cut, "begun": len(rollouts), "whole": len(rollouts)}
    for row in range(len(rollouts)):
        recorded = store.episode(int(rollouts.episodes[row])).observations[rollouts.steps[row]]
        np.testing.assert_array_equal(rollouts.observations[row, 0], recorded)
        np.testing.assert_allclose(rollouts.observations[row, 2], recorded + 2.0, rtol=1e-6)
    assert (rollouts.rewards == 1.0).all()
    assert (np.abs(rollouts.actions) <= 1.0).all()
    assert rollouts.num_steps == 2 * len(rollouts)


@pytest.mark.parametrize(
    ("fault", "kept_steps"), [("unsure", 1), ("breaks_above", 1), ("ends_above", 2), ("largest_deviation", 1)]
)
def test_what_must_not_be_stored_is_cut_and_counted(fault: str, kept_steps: int) -> None:
    """From 0 on the state grows by 1: the second step begins at 1, where something is wrong."""
    farthest = 1.5 if fault == "largest_deviation" else 10.0
    config, store, agent = make(10, horizon=4, largest_deviation=farthest)
    store = store.with_observations(np.zeros_like(store.observations))
    agent.world.observation_mean.zero_()
    agent.world.observation_std.fill_(1.0)
    world = in_known_world(agent)
    if fault != "largest_deviation":
        setattr(world, fault, 0.5)
    rollouts = imagine(agent, store, [0], config, ("x",))
    assert len(rollouts) > 0
    assert set(rollouts.lengths.tolist()) == {kept_steps}
    names = {"unsure": "unreliable", "breaks_above": "not_finite", "ends_above": "terminated"}
    name = names.get(fault, "exploded")
    assert rollouts.counts == {
        **dict.fromkeys(("whole", "unreliable", "exploded", "not_finite", "terminated"), 0),
        "begun": len(rollouts),
        name: len(rollouts),
    }
    for column in (rollouts.observations, rollouts.actions, rollouts.rewards, rollouts.disagreements):
        assert np.isfinite(column).all()
        assert not column[:, kept_steps + 1 :].any(), "nothing of what was cut is left"
    assert (rollouts.disagreements < 1.0).all()
    assert rollouts.terminated.all() == (fault == "ends_above")


def test_what_is_unsure_at_once_leaves_no_rollout() -> None:
    config, store, agent = make(10)
    in_known_world(agent).unsure = -1e9
    rollouts = imagine(agent, store, [0], config, ("x",))
    assert len(rollouts) == 0
    assert rollouts.counts["unreliable"] == rollouts.counts["begun"] > 0


def test_greedy_rollouts_do_not_plan() -> None:
    config, store, agent = make(10, rollouts="greedy")
    in_known_world(agent)
    rollouts = imagine(agent, store, [0], config, ("x",))
    states = torch.from_numpy(rollouts.observations[:, :2])
    with torch.no_grad():
        mode = agent.values.policy(states.flatten(0, 1)).mode().view(-1, 2, 2)
    np.testing.assert_allclose(rollouts.actions, mode.numpy(), rtol=1e-6)
    agent = tiny_agent(config, store)  # in a world where actions make a difference
    planned, greedy = (imagine(agent, store, [0], each, ("x",)) for each in (make(10)[0], config))
    assert not np.allclose(planned.actions, greedy.actions)


def test_imagining_depends_on_its_seed_alone() -> None:
    config, store, agent = make(10, 12)
    first, again, other = (imagine(agent, store, [0, 1], config, (name,)) for name in ("x", "x", "y"))
    assert first.to_bytes() == again.to_bytes()
    assert first.to_bytes() != other.to_bytes()


def test_the_threshold_is_a_quantile_of_disagreement_on_held_out_steps() -> None:
    _, store, agent = make(10, 12)
    low, high = (reliable_disagreement(agent, store, quantile) for quantile in (0.2, 0.9))
    assert 0.0 < low < high
    assert reliable_disagreement(agent, store.select([]), 0.5) == float("inf")


def test_a_window_is_the_recorded_past_and_then_what_was_imagined() -> None:
    config, store, agent = make(10, 12)
    in_known_world(agent, value=7.0)
    rollouts = imagine(agent, store, [0, 1], config, ("x",))
    windows = windows_of(agent, store, rollouts, 5, DISCOUNT)
    assert windows.valid.all()
    assert windows.counted.tolist() == [[False] * 3 + [True] * 2] * len(rollouts)
    for row in range(len(rollouts)):
        episode, step = store.episode(int(rollouts.episodes[row])), int(rollouts.steps[row])
        np.testing.assert_array_equal(windows.observations[row, :4], episode.observations[step - 3 : step + 1])
        np.testing.assert_array_equal(windows.observations[row, 4], rollouts.observations[row, 1])
        np.testing.assert_array_equal(windows.actions[row, :3], episode.actions[step - 3 : step])
        np.testing.assert_array_equal(windows.actions[row, 3:], rollouts.actions[row])
        last = 1.0 + 0.9 * 7.0
        assert windows.returns[row, -2:].tolist() == pytest.approx([1.0 + 0.9 * last, last])
        past = float(episode.rewards[step - 1]) + 0.9 * (1.0 + 0.9 * last)
        assert windows.returns[row, 2].item() == pytest.approx(past, rel=1e-5)
