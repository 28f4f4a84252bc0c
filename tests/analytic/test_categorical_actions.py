"""The categorical head and its losses, against what can be worked out by hand."""

import math

import numpy as np
import pytest
import torch

from system.errors import PlannerError
from system.families.masked_trajectory.config import ModelConfig
from system.families.masked_trajectory.learner import trajectory_losses
from system.families.masked_trajectory.masks import ACTIONS, empty_mask
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.models.action_forms import action_form
from system.models.distributions import CategoricalActions
from system.planning.utility import action_probabilities, choose_action

PROBABILITIES = (0.5, 0.3, 0.2)
LENGTH = 4


def categorical(*batch: int) -> CategoricalActions:
    """With the probabilities above; logits may be shifted by any number."""
    return CategoricalActions((torch.tensor(PROBABILITIES).log() + 7.0).expand(*batch, 3))


def test_probabilities_entropy_and_mode_are_those_of_the_table() -> None:
    distribution = categorical(2, 3)
    actions = torch.tensor([[0, 1, 2], [2, 1, 0]])
    expected = torch.tensor(PROBABILITIES)[actions].log()
    assert torch.allclose(distribution.log_prob(actions), expected)
    assert torch.allclose(distribution.reconstruction_error(actions), -expected)
    entropy = -sum(p * math.log(p) for p in PROBABILITIES)
    assert torch.allclose(distribution.entropy(torch.zeros(2, 3, 0)), torch.full((2, 3), entropy))
    assert distribution.mode().tolist() == [[0, 0, 0], [0, 0, 0]]
    uniform = CategoricalActions(torch.full((1, 5), 3.0))
    assert uniform.entropy(torch.zeros(1, 0)).item() == pytest.approx(math.log(5))


def test_samples_are_as_frequent_as_they_are_likely_in_every_row() -> None:
    logits = torch.tensor([PROBABILITIES, PROBABILITIES[::-1]]).log()[:, None].expand(2, 3, 3)
    samples = CategoricalActions(logits).sample(40_000, torch.Generator().manual_seed(0))
    assert samples.shape == (40_000, 2, 3)
    assert samples.dtype == torch.int64
    shares = torch.stack([(samples == action).float().mean(0) for action in range(3)], dim=-1)
    assert torch.allclose(shares, logits.exp(), atol=0.01)
    together = (samples[:, 0, 0] == 0) & (samples[:, 0, 1] == 0)
    assert together.float().mean().item() == pytest.approx(0.25, abs=0.01), "draws of neighbours are independent"
    again = CategoricalActions(logits).sample(40_000, torch.Generator().manual_seed(0))
    assert torch.equal(samples, again)


@pytest.mark.parametrize("act", [lambda each: each.mode(), lambda each: each.sample(2, torch.Generator())])
def test_nothing_is_chosen_from_what_is_not_a_number(act: object) -> None:
    assert callable(act)
    with pytest.raises(PlannerError, match="not finite"):
        act(CategoricalActions(torch.tensor([[0.0, float("nan")]])))


def test_raising_the_entropy_levels_the_logits() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    CategoricalActions(logits).entropy(torch.zeros(1, 0)).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 2]
    assert logits.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


def test_the_bound_of_the_entropy_is_a_share_of_the_largest() -> None:
    assert action_form(4, discrete=True).entropy_bound(-1.0, 0.25) == pytest.approx(0.25 * math.log(4))
    assert action_form(4, discrete=False).entropy_bound(-1.0, 0.25) == -4.0


def make_model(probabilities: tuple[float, ...] = PROBABILITIES) -> MaskedTrajectoryModel:
    """Its head says the same of every step."""
    config = ModelConfig(context_length=LENGTH, width=8, encoder_layers=1, decoder_layers=1, num_heads=1)
    model = MaskedTrajectoryModel(2, 3, config, discrete=True)
    with torch.no_grad():
        model.action_head.weight.zero_()
        model.action_head.bias.copy_(torch.tensor(probabilities).log())
    return model


def test_the_losses_of_actions_are_cross_entropies_of_hidden_and_of_visible_ones() -> None:
    """The last step is padding: it counts in the divisor alone."""
    actions = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])
    mask = empty_mask(LENGTH)
    mask[ACTIONS, :2] = True
    valid = torch.tensor([[True, True, True, False]] * 2)
    tokens = Tokens(
        states=torch.zeros(2, LENGTH, 2),
        returns=torch.zeros(2, LENGTH),
        actions=actions,
        rewards=torch.zeros(2, LENGTH),
        valid=valid,
    )
    losses = trajectory_losses(make_model(), tokens, valid.float(), mask, torch.zeros(2, LENGTH, 0), 0.1)
    surprise = -np.log(np.array(PROBABILITIES))[actions.numpy()]
    assert losses["visible_actions"].item() == pytest.approx(surprise[:, :2].sum() / (2 * LENGTH))
    assert losses["nll"].item() == pytest.approx(surprise[:, 2].sum() / 4)
    excess = -sum(p * math.log(p) for p in PROBABILITIES) - 0.1
    assert losses["entropy_excess"].item() == pytest.approx(2 * excess / 4)


@torch.no_grad()
def test_actions_are_read_as_one_hot_tokens() -> None:
    """A visible action adds its own column of the embedding, whatever its number."""
    model = make_model()
    numbers = torch.arange(3)
    encoded = model.actions.encode(numbers)
    assert torch.equal(encoded, torch.eye(3))
    embedding = model.embeddings[ACTIONS]
    assert torch.allclose(embedding(encoded), embedding.weight.T + embedding.bias)


def test_a_vote_is_won_by_the_largest_sum_and_not_by_the_best_candidate() -> None:
    first = torch.tensor([[2, 0, 0, 1], [1, 1, 0, 0]])
    probabilities = torch.tensor([[0.4, 0.25, 0.25, 0.1], [0.1, 0.2, 0.3, 0.4]])
    shares = action_probabilities(first, probabilities)
    assert torch.allclose(shares, torch.tensor([[0.5, 0.1, 0.4], [0.7, 0.3, 0.0]]))
    assert choose_action(first, probabilities, probabilities.log(), "expectation").tolist() == [0, 0]
    assert choose_action(first, probabilities, probabilities.log(), "argmax").tolist() == [2, 0]
