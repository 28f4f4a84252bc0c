"""Utilities against what happens, in an environment where the return of an action is known."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from system.decisions import Plan
from system.envs.vector import EnvironmentBatch
from system.evaluation.utility_ranking import expected_linearly, rank_utilities, spearman
from system.planning.acting import Decision
from system.planning.history import History

LIMIT, LENGTH, CANDIDATES = 12, 3, 5


class PayForAction(gymnasium.Env):
    """The reward of a step is its action times a factor that the past decides; it ends at `LIMIT`."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    forgetful = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        self.place, self.steps = 0.0 if self.forgetful else float(seed or 0), 0
        return self._show(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(action[0]) * (1.0 + self.steps)
        self.place += float(action[0])
        self.steps += 1
        return self._show(), reward, False, self.steps == LIMIT, {}

    def _show(self) -> np.ndarray:
        drift = np.random.default_rng().normal() if self.forgetful else 0.0
        return np.array([self.place + drift, self.steps, 0.0, 0.0], dtype=np.float32)


class Forgetful(PayForAction):
    forgetful = True


class Delayed(PayForAction):
    """The steps after an action are worth a third of it each."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        owed = self.place
        shown, _, ended, cut, about = super().step(action)
        return shown, owed / 3.0 - float(action[0]), ended, cut, about


class Proposing:
    """Draws candidates and says what `rate` makes of their first actions."""

    def __init__(self, rate: Any) -> None:
        self.rate = rate
        self.seen: list[np.ndarray] = []

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        self.seen.append(history.observations[rows, -1].copy())
        first = 2.0 * torch.rand(len(rows), 2 * CANDIDATES, 1, generator=generator) - 1.0
        utilities = self.rate(first[..., 0])
        plan = Plan(
            action=first[:, 0],
            first_actions=first,
            probabilities=torch.full(utilities.shape, 1.0 / utilities.shape[1]),
            utilities=utilities,
            selected=torch.zeros(len(rows), dtype=torch.int64),
        )
        return Decision.of(plan.action, plan)


class Steady:
    """Always the same action."""

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        return Decision(np.full((len(rows), 1), 0.25, dtype=np.float32))


def rank(rate: Any, environment: type = PayForAction, num_states: int = 20, **changes: Any) -> Any:
    environments = EnvironmentBatch("InvertedPendulum-v5", 2 * CANDIDATES + 1, make=environment)
    settings = {"follow_steps": 4, "discount": 0.9, "num_candidates": CANDIDATES, **changes}
    return rank_utilities(
        Proposing(rate),
        Steady(),
        environments,
        num_states=num_states,
        first_seed=3,
        history_length=LENGTH,
        generator=torch.Generator().manual_seed(0),
        **settings,
    )


def test_utilities_that_are_right_rank_perfectly_and_wrong_ones_do_not() -> None:
    right, wrong = rank(lambda first: first), rank(lambda first: -first)
    assert len(right.correlations) == 20 and right.num_left_out == 0
    assert right.correlations == pytest.approx(np.ones(20))
    assert right.gain_shares == pytest.approx(np.ones(20))
    assert wrong.correlations == pytest.approx(-np.ones(20))
    assert max(wrong.gain_shares) < 0.0


def test_it_is_known_which_states_are_of_one_episode() -> None:
    assert rank(lambda first: first).episodes == [seed for seed in (3, 4, 5, 6) for _ in range(5)]


def test_right_utilities_of_other_candidates_rank_by_chance() -> None:
    """The very values that rank perfectly, shuffled among the candidates of each state."""
    noise = torch.Generator().manual_seed(1)

    def shuffled(first: torch.Tensor) -> torch.Tensor:
        return first.gather(1, torch.rand(first.shape, generator=noise).argsort(1))

    ranking = rank(shuffled, num_states=200)
    assert abs(np.mean(ranking.correlations)) < 0.12
    assert abs(np.mean(ranking.gain_shares)) < 0.2


def test_the_same_seed_ranks_the_same() -> None:
    first, again = (rank(lambda first: first.square()) for _ in range(2))
    assert first == again and len(set(first.correlations)) > 1


def test_utilities_by_chance_rank_by_chance() -> None:
    noise = torch.Generator().manual_seed(1)
    ranking = rank(lambda first: torch.rand(first.shape, generator=noise), num_states=200)
    assert abs(np.mean(ranking.correlations)) < 0.12


def test_candidates_that_search_gave_up_are_not_compared() -> None:
    """Only those with a finite utility, whatever stands beside them."""
    ranking = rank(lambda first: first.masked_fill(torch.arange(2 * CANDIDATES) % 2 == 0, -torch.inf))
    assert ranking.correlations == pytest.approx(np.ones(20))


def test_states_that_are_not_reached_again_are_left_out() -> None:
    ranking = rank(lambda first: first, Forgetful)
    assert not len(ranking.correlations)
    assert ranking.num_left_out == 20


def test_what_does_not_differ_is_left_out() -> None:
    assert rank(torch.zeros_like).num_left_out == 20


def test_what_comes_later_counts_discounted() -> None:
    """The first action costs what it is, and each of the four steps that follow gives a third of it back."""
    for follow_steps, discount in ((0, 1.0), (2, 1.0), (4, 0.6)):
        ranking = rank(lambda first: first, Delayed, follow_steps=follow_steps, discount=discount)
        assert max(ranking.correlations) < -0.999
    ranking = rank(lambda first: first, Delayed, follow_steps=4, discount=1.0)
    assert np.greater(ranking.correlations, 0.999).sum() > 10, "all but those that the time limit cuts short"


@pytest.mark.parametrize(
    ("first", "second", "expected"), [([1, 2, 3], [5, 6, 90], 1.0), ([1, 2, 2], [3, 1, 1], -1.0)]
)
def test_spearman(first: list, second: list, expected: float) -> None:
    assert spearman(np.array(first, dtype=float), np.array(second, dtype=float)) == pytest.approx(expected)


def test_spearman_of_a_swap() -> None:
    """1 − 6 Σd² / (n (n² − 1)) without ties."""
    assert spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(1 - 12 / 60)


def test_a_linear_reading_ranks_what_is_linear_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    actions = generator.normal(size=(64, 3))
    linear = actions @ [1.0, -2.0, 0.5] + 100.0
    expected = expected_linearly(actions, linear)
    assert expected is not None
    assert spearman(expected, linear) > 0.97
    chance = [generator.normal(size=64) for _ in range(40)]
    found = [spearman(np.asarray(expected_linearly(actions, returns)), returns) for returns in chance]
    assert abs(np.mean(found)) < 0.2, "candidates are judged by a fit to others"


def test_few_candidates_and_numbered_actions_tell_nothing_of_what_is_reachable() -> None:
    assert expected_linearly(np.zeros((31, 3)), np.zeros(31)) is None
    assert expected_linearly(np.zeros(64, np.int64), np.zeros(64)) is None
    assert rank(lambda actions: actions).reachable == []
