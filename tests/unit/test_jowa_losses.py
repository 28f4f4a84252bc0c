"""Every loss term of the world-action learner, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from system.envs.atari_games import GAMES
from system.families.world_action.losses import TokenWindows, backups, clone_loss, value_losses, world_losses
from tests.support.jowa_windows import (
    DISCOUNT,
    LENGTH,
    PER_FRAME,
    PONG,
    draw_segments,
    hidden_of,
    make_agent,
    windows_of,
    with_training,
)


def test_windows_are_aligned_on_the_left_and_rewards_become_signs() -> None:
    segments = draw_segments()
    windows = windows_of(segments)
    for row in range(4):
        count = LENGTH - row
        assert windows.valid[row].tolist() == [True] * count + [False] * row
        assert np.array_equal(windows.tokens[row, :count].numpy(), segments.observations[row, row:])
        assert np.array_equal(windows.actions[row, :count].numpy(), segments.actions[row, row:])
        assert np.array_equal(windows.reward_signs[row, :count].numpy(), np.sign(segments.rewards[row, row:]))
        assert windows.terminated[row].tolist() == [bool(row % 2 and step == count - 1) for step in range(LENGTH)]
        assert windows.tokens[row, count:].sum() == 0


@torch.no_grad()
def test_the_world_losses_are_cross_entropies_of_what_follows() -> None:
    agent, windows = make_agent(), windows_of(draw_segments())
    hidden, _ = hidden_of(agent, windows)
    losses = world_losses(agent.model, hidden, windows)
    token = reward = end = 0.0
    for row in range(4):
        for step in range(int(windows.valid[row].sum())):
            at_action = hidden[row, step, PER_FRAME]
            sign = int(windows.reward_signs[row, step])
            reward -= agent.model.reward_logits(at_action).log_softmax(-1)[sign + 1].item()
            end -= agent.model.end_logits(at_action).log_softmax(-1)[int(windows.terminated[row, step])].item()
            for place in range(PER_FRAME):
                if step == place == 0:
                    continue
                before = hidden[row, step - 1, PER_FRAME] if place == 0 else hidden[row, step, place - 1]
                stood = windows.tokens[row, step - 1, place] if step else torch.tensor(-1)
                predicted = agent.model.token_head(before, stood).log_softmax(-1)
                token -= predicted[windows.tokens[row, step, place]].item()
    assert losses["token"].item() == pytest.approx(token / (4 * (LENGTH * PER_FRAME - 1)), rel=1e-5)
    assert losses["reward"].item() == pytest.approx(reward / (4 * LENGTH), rel=1e-5)
    assert losses["end"].item() == pytest.approx(end / (4 * LENGTH), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_value_losses_by_hand(threshold: float) -> None:
    """With a threshold of 1 the next action is the likeliest in the data, whatever its value."""
    agent, windows = make_agent(with_training(clone_weight=1.0)), windows_of(draw_segments())
    # An action that neither game knows looks best everywhere: it must count nowhere.
    agent.model.q_head.output.bias.view(2, 18, 9)[:, 17, -1] += 30.0
    _, features = hidden_of(agent, windows)
    target_features = features + 0.3
    assert (agent.model.q_values(target_features).argmax(dim=-1) == 17).all()
    plan = backups(windows, DISCOUNT, 1)
    losses = value_losses(agent, features, target_features, windows, plan, support_threshold=threshold)
    support = agent.model.q_head.support
    spacing = (support[1] - support[0]).item()
    td = gap = 0.0
    for row in range(4):
        allowed = list(GAMES[int(windows.game[row])].minimal_actions)
        count = int(windows.valid[row].sum())
        for step in range(count):
            is_terminal = bool(windows.terminated[row, step])
            if step == count - 1 and not is_terminal:
                continue
            reward = windows.reward_signs[row, step].item()
            if is_terminal:
                atoms = {reward: 1.0}
            else:
                online = agent.model.q_values(target_features[row, step + 1])
                ranks = agent.model.clone_logits(target_features[row, step + 1]) if threshold else online
                best = max(allowed, key=lambda action: ranks[action].item())
                valued = agent.target_head(target_features[row, step + 1])[best].exp()
                atoms = {
                    reward + DISCOUNT * atom: share
                    for atom, share in zip(support.tolist(), valued.tolist(), strict=True)
                }
            target = [
                sum(
                    share * max(0.0, 1.0 - abs(min(max(value, -10.0), 30.0) - atom) / spacing)
                    for value, share in atoms.items()
                )
                for atom in support.tolist()
            ]
            action = int(windows.actions[row, step])
            predicted = agent.model.q_head(features[row, step])
            td -= float(np.dot(target, predicted[action].numpy()))
            q_values = (predicted.exp() @ support).tolist()
            gap += math.log(sum(math.exp(q_values[each]) for each in allowed)) - q_values[action]
    assert losses["td"].item() == pytest.approx(td / (4 * LENGTH), rel=1e-4)
    assert losses["conservative"].item() == pytest.approx(gap / (4 * LENGTH), rel=1e-4)


@torch.no_grad()
def test_a_share_of_the_target_is_what_was_received() -> None:
    """td is linear in the target; received 1.2 lies between the atoms 0 and 5, nearer to the first."""
    agent, segments = make_agent(), draw_segments()
    segments.returns_to_go[:] = 1.2
    segments = replace(segments, returns_valid=segments.valid & (np.arange(4) != 2)[:, None])
    windows = windows_of(segments)
    assert windows.returns[3].tolist() == pytest.approx([1.2, 0.0, 0.0, 0.0])
    _, features = hidden_of(agent, windows)
    plan = backups(windows, DISCOUNT, 1)

    def td(share: float) -> float:
        return value_losses(agent, features, features, windows, plan, return_share=share)["td"].item()

    assert agent.model.q_head.support.tolist()[2:4] == [0.0, 5.0]
    taken = agent.model.q_head(features).take_along_dim(windows.actions[..., None, None], dim=2)[:, :, 0]
    errors = -(0.76 * taken[..., 2] + 0.24 * taken[..., 3])
    received = (errors * plan.known)[windows.returns_valid].sum().item() / (4 * LENGTH)
    plan_unknown = replace(plan, known=plan.known & ~windows.returns_valid)
    backed_up = value_losses(agent, features, features, windows, plan_unknown)["td"].item()
    assert td(1.0) == pytest.approx(received + backed_up, rel=1e-5)
    assert td(0.3) == pytest.approx(0.7 * td(0.0) + 0.3 * td(1.0), rel=1e-5)


@torch.no_grad()
def test_the_clone_loss_is_over_valid_actions_and_steps() -> None:
    agent = make_agent(with_training(objective="clone"))
    segments = draw_segments()
    segments.actions[0, 0] = GAMES[PONG].minimal_actions[-1]
    windows = windows_of(segments)
    _, features = hidden_of(agent, windows)
    expected = 0.0
    for row in range(4):
        allowed = list(GAMES[int(windows.game[row])].minimal_actions)
        for step in range(int(windows.valid[row].sum())):
            logits = agent.model.clone_logits(features[row, step])[allowed]
            expected -= logits.log_softmax(-1)[allowed.index(int(windows.actions[row, step]))].item()
    assert clone_loss(agent, features, windows).item() == pytest.approx(expected / (4 * LENGTH), rel=1e-5)


def test_backups_stop_at_terminal_states_and_bootstrap_at_cuts() -> None:
    def plan(num_valid: int, terminated: bool, num_steps: int) -> list[tuple[float, float, int] | None]:
        valid = torch.arange(4)[None] < num_valid
        windows = TokenWindows(
            tokens=torch.zeros(1, 4, 1, dtype=torch.int64),
            actions=torch.zeros(1, 4, dtype=torch.int64),
            reward_signs=torch.tensor([[1.0, -1.0, 0.0, 1.0]]) * valid,
            terminated=(torch.arange(4)[None] == num_valid - 1) & terminated,
            valid=valid,
            game=torch.zeros(1, dtype=torch.int64),
            returns=torch.zeros(1, 4),
            returns_valid=valid,
        )
        result = backups(windows, 0.5, num_steps)
        columns = (result.rewards, result.discounts, result.states)
        rows = zip(*(column[0].tolist() for column in columns), strict=True)
        return [row if known else None for row, known in zip(rows, result.known[0].tolist(), strict=True)]

    assert plan(4, False, 1) == [(1.0, 0.5, 1), (-1.0, 0.5, 2), (0.0, 0.5, 3), None]
    assert plan(4, True, 1)[3] == (1.0, 0.0, 3)
    assert plan(2, False, 1) == [(1.0, 0.5, 1), None, None, None]
    assert plan(2, True, 1)[1][:2] == (-1.0, 0.0) and plan(2, True, 1)[2:] == [None, None]
    assert plan(4, False, 2) == [(0.5, 0.25, 2), (-1.0, 0.25, 3), (0.0, 0.5, 3), None]
    assert plan(4, True, 3) == [(0.5, 0.125, 3), (-0.75, 0.0, 3), (0.5, 0.0, 3), (1.0, 0.0, 3)]
    assert plan(1, False, 9) == [None] * 4
