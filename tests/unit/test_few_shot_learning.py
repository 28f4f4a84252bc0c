"""Learning from windows with an imagined end: COMBO's penalty, who takes part, and when."""

from dataclasses import replace

import pytest
import torch
from configs import with_method

from system.families.world_action import learner as jowa
from system.families.world_action.learner import WorldActionLearner
from system.families.world_action.losses import (
    ImaginedEnds,
    TokenWindows,
    backups,
    imagined_excess,
    value_losses,
    world_losses,
)
from system.types import SegmentBatch
from tests.support.jowa_windows import (
    DISCOUNT,
    LENGTH,
    draw_segments,
    hidden_of,
    make_agent,
    windows_of,
    with_training,
)

PLANNED = torch.zeros(4, LENGTH, dtype=torch.bool)
PLANNED[2, 0], PLANNED[3, 0:1] = True, True
ENDS = ImaginedEnds(PLANNED, num_steps=2)
FEW_SHOT = {"imagined_share": 0.5, "imagined_start": 0.75, "imagined_steps": 1}


def test_the_penalty_is_what_is_planned_less_what_is_recorded() -> None:
    q_taken = torch.tensor([[1.0, 2.0, 3.0, 50.0], [4.0, 5.0, 60.0, 70.0], [9.0, 7.0, 80.0, 80.0], [90.0] * 4])
    known = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    planned = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]]).bool()
    excess = imagined_excess(q_taken, known, ImaginedEnds(planned, num_steps=2))
    # Two windows of two planned steps, one of which an early end left out; two windows of data, of three targets.
    assert excess.item() == pytest.approx(4 / 16 * ((9.0 + 7.0 + 90.0) / 4 - (1 + 2 + 3 + 4 + 5) / 6))


def test_values_keep_their_balance_under_the_penalty() -> None:
    """Free values whose TD target is 2, α = 0.1: they stay 1/α away from the support's ends, and not so if the
    means were plain ones."""
    support = torch.linspace(-10.0, 30.0, 51)
    planned = torch.zeros(16, 8, dtype=torch.bool)
    planned[12:, 5:7] = True
    ends, known = ImaginedEnds(planned, num_steps=2), torch.ones(16, 8, dtype=torch.bool)
    share = planned.float().mean()

    def settled(factor: float) -> tuple[float, float]:
        logits = (-support.abs()).expand(16, 8, -1).clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.05)
        for _ in range(300):
            probabilities = logits.softmax(dim=-1)
            q_taken = probabilities @ support
            td = -probabilities[..., 15].log().mean()  # of a return of 2
            optimizer.zero_grad()
            (td + 0.1 * factor * imagined_excess(q_taken, known, ends)).backward()
            optimizer.step()
        q_taken = logits.detach().softmax(dim=-1) @ support
        return q_taken[planned].min().item(), q_taken[:12].max().item()

    lowest, highest = settled(1.0)
    assert lowest == pytest.approx(-10.0 + 1.0 / 0.1, abs=0.1)
    assert highest == pytest.approx(2.0, abs=0.1)
    lowest, highest = settled(1.0 / share.item())
    assert lowest < -9.0
    assert highest > 5.0


def test_the_penalty_pushes_planned_actions_down_and_recorded_ones_up() -> None:
    q_taken = torch.zeros(4, LENGTH, requires_grad=True)
    known = torch.ones(4, LENGTH, dtype=torch.bool)
    imagined_excess(q_taken, known, ENDS).backward()
    assert torch.equal(q_taken.grad > 0, PLANNED)
    assert bool((q_taken.grad[:2] < 0).all())
    assert not bool(q_taken.grad[2:][~PLANNED[2:]].any())


@torch.no_grad()
def test_combo_takes_the_place_of_cql_and_leaves_td_alone() -> None:
    agent, windows = make_agent(), windows_of(draw_segments())
    features, plan = hidden_of(agent, windows)[1], backups(windows, DISCOUNT, 1)
    plain, combo = (value_losses(agent, features, features, windows, plan, ends) for ends in (None, ENDS))
    assert torch.equal(plain["td"], combo["td"])
    q_taken = agent.model.q_values(features).gather(2, windows.actions[..., None])[..., 0]
    assert combo["conservative"].item() == pytest.approx(
        imagined_excess(q_taken, plan.known, ENDS).item(), rel=1e-6
    )
    assert plain["conservative"].item() != pytest.approx(combo["conservative"].item(), rel=1e-2)


def test_the_world_is_learnt_from_recorded_windows_alone() -> None:
    config = with_training(world_weight=0.3, conservative_weight=0.7)
    learner = WorldActionLearner(make_agent(config), config)
    windows = windows_of(draw_segments())
    joint, terms = learner._loss(windows, False, ENDS)
    recorded = windows.select(~ENDS.windows)
    world = world_losses(learner.agent.model, hidden_of(learner.agent, recorded)[0], recorded)
    for name, value in world.items():
        assert terms[f"world/{name}_loss"].item() == pytest.approx(value.item(), rel=1e-5)
    expected = 0.3 * sum(world.values()) + terms["value/td_loss"] + 0.7 * terms["value/conservative_loss"]
    assert joint.item() == pytest.approx(expected.item(), rel=1e-5)


def test_imagination_begins_at_its_step_of_pretraining_and_is_not_for_the_online_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_training(world_share=0.5, **FEW_SHOT)
    learner = WorldActionLearner(make_agent(config), config)
    imagined: list[int] = []
    original = jowa.with_imagined_ends

    def counted(agent: object, windows: TokenWindows, rows: torch.Tensor, **options: object) -> object:
        imagined.append(int(rows.sum()))
        assert (options["num_steps"], options["discount"]) == (1, DISCOUNT)
        return original(agent, windows, rows, **options)

    monkeypatch.setattr(jowa, "with_imagined_ends", counted)
    when = {}
    for stage, step in [*(("offline", step) for step in range(8)), ("online", 7)]:
        imagined.clear()
        learner.update(draw_segments(seed=step), [], stage=stage, step=step)
        when[stage, step] = list(imagined)
    # 8 updates: the first 4 are the world's, the first 6 the data's.
    assert when == {**{("offline", step): [2] if step >= 6 else [] for step in range(8)}, ("online", 7): []}
    late = with_training(world_share=1.0, **FEW_SHOT)
    assert not WorldActionLearner(make_agent(late), late)._imagines("offline", 7)
    plain = with_training()
    assert not WorldActionLearner(make_agent(plain), plain)._imagines("offline", 7)


def test_two_learners_on_half_batches_equal_one_on_the_whole() -> None:
    config = with_training(learning_rate=1e-5, **FEW_SHOT)
    agents, gradients = [make_agent(config) for _ in range(3)], []
    whole = draw_segments(8)
    shares = [
        SegmentBatch(**{name: value[part] for name, value in vars(whole).items()})
        for part in (slice(8), slice(4), slice(4, 8))
    ]
    for agent, share in zip(agents, shares, strict=True):
        learner = WorldActionLearner(
            agent,
            config,
            average_gradients=lambda parameters: gradients.append(
                torch.cat([each.grad.flatten() for each in parameters if each.grad is not None]).clone()
            ),
        )
        learner.update(share, [], stage="offline", step=7)
    assert float(gradients[0].abs().max()) > 1e-3
    assert float((gradients[0] - (gradients[1] + gradients[2]) / 2).abs().max()) <= 1e-6


def test_a_restored_learner_imagines_the_same() -> None:
    config = replace(with_training(**FEW_SHOT))
    config = with_method(config, model=replace(config.method.model, dropout=0.3))
    learner, other = (WorldActionLearner(make_agent(config), config) for _ in range(2))
    for step in range(7):
        learner.update(draw_segments(seed=step), [], stage="offline", step=step)
    other.load_state(learner.state())
    torch.manual_seed(123)
    ours, theirs = (each.update(draw_segments(seed=7), [], stage="offline", step=7) for each in (learner, other))
    assert {name: float(value) for name, value in ours.items()} == {
        name: float(value) for name, value in theirs.items()
    }
    assert all(torch.equal(value, other.state()[name]) for name, value in learner.state().items())
