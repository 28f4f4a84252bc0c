"""Exploring episodes: some draw by utility, the others act as evaluation would."""

import numpy as np
import pytest
import torch

from system.decisions import Plan
from system.planning.acting import Decision
from system.planning.history import History
from system.planning.utility import choose_action
from system.training.exploration import MixedExploration

PROBABILITIES = torch.tensor([[0.25, 0.75]])
FIRST_ACTIONS = torch.tensor([[[-1.0], [1.0]]])
UTILITIES = torch.tensor([[2.0, 1.0]])


class Drawing:
    """Always draws the first candidate in every environment."""

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        count = len(rows)
        plan = Plan(
            action=FIRST_ACTIONS[:, 0].expand(count, 1),
            first_actions=FIRST_ACTIONS.expand(count, 2, 1),
            probabilities=PROBABILITIES.expand(count, 2),
            utilities=UTILITIES.expand(count, 2),
            selected=torch.zeros(count, dtype=torch.int64),
        )
        return Decision(plan.action.numpy(), plan)


@pytest.mark.parametrize(("select", "steady"), [("expectation", 0.5), ("argmax", -1.0)])
@pytest.mark.parametrize(
    ("share", "drawing"), [(0.0, []), (0.5, [11, 13, 15]), (0.25, [11, 15]), (1.0, [10, 11, 12, 13, 14, 15])]
)
def test_a_share_of_the_episodes_draw_whatever_environment_they_are_played_in(
    select: str, steady: float, share: float, drawing: list[int]
) -> None:
    history, rows = History(8, 2, 1, 1), np.array([0, 1, 2, 4, 6, 7])
    history.episodes[rows] = [3, 5, 0, 1, 4, 2]
    policy = MixedExploration(Drawing(), share, 10, select)
    decision = policy.act(history, rows, torch.Generator())
    expected = np.where(np.isin(10 + history.episodes[rows], drawing), -1.0, steady)
    np.testing.assert_allclose(decision.action[:, 0], expected)
    assert decision.plan is not None


def test_a_choice_is_the_mean_or_the_best_candidate() -> None:
    assert choose_action(FIRST_ACTIONS, PROBABILITIES, UTILITIES, "expectation").tolist() == [[0.5]]
    assert choose_action(FIRST_ACTIONS, PROBABILITIES, UTILITIES, "argmax").tolist() == [[-1.0]]
    before = torch.tensor([[[-2.0], [0.5], [3.0]]])
    weights = torch.tensor([[0.2, 0.5, 0.3]])
    centre = choose_action(before.tanh(), weights, weights.log(), "unsquashed_expectation")
    assert torch.allclose(centre, torch.tensor([[0.75]]).tanh())
    certain = choose_action(torch.tensor([[[1.0]]]), torch.ones(1, 1), torch.zeros(1, 1), "unsquashed_expectation")
    assert 0.998 < certain.item() < 1.0, "nothing is infinitely sure"
    tied = torch.tensor([[1.0, 1.0]])
    assert choose_action(FIRST_ACTIONS, PROBABILITIES, tied, "argmax").tolist() == [[-1.0]], "the first of equals"
