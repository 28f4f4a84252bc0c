"""The mixture of tokens that stay and tokens that the head names."""

import pytest
import torch
from torch import nn

from system.families.world_action.next_token import NextTokenHead

WIDTH, VOCABULARY = 8, 5
PREVIOUS = torch.tensor([[0, 3, -1], [4, -1, 3]])


def make_head(strength: float = 1.0) -> NextTokenHead:
    torch.manual_seed(0)
    head = NextTokenHead(nn.Linear(WIDTH, VOCABULARY), WIDTH)
    with torch.no_grad():
        head.weight += strength * torch.randn(WIDTH)
        head.bias -= 2.0 * strength
    return head


def test_probabilities_are_the_mixture() -> None:
    head, hidden = make_head(), torch.randn(2, 3, WIDTH)
    gate = torch.sigmoid(hidden @ head.weight + head.bias)
    assert gate.amin() < 0.3
    assert gate.amax() > 0.6
    found, by_head = head(hidden, PREVIOUS).exp(), head.head(hidden).softmax(dim=-1)
    for row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        expected, stays = by_head[row, column], int(PREVIOUS[row, column])
        if stays >= 0:
            kept = gate[row, column]
            expected = (1.0 - kept) * expected + kept * torch.eye(VOCABULARY)[stays]
        assert torch.allclose(found[row, column], expected, atol=1e-6)
        assert found[row, column].sum().item() == pytest.approx(1.0, abs=1e-5)


def test_errors_are_those_of_the_mixture_with_the_same_gradients() -> None:
    head, hidden = make_head(), torch.randn(2, 3, WIDTH, requires_grad=True)
    target = torch.tensor([[0, 1, 2], [2, 3, 3]])
    short = head.errors(hidden, PREVIOUS, target)
    written_out = -head(hidden, PREVIOUS).gather(-1, target[..., None])[..., 0]
    assert torch.allclose(short, written_out, atol=1e-6)
    inputs = [hidden, *head.parameters()]
    gradients = [torch.autograd.grad(each.sum(), inputs) for each in (short, written_out)]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.isfinite(ours).all()
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_likeliest_is_that_of_the_mixture() -> None:
    head, hidden = make_head(), torch.randn(400, WIDTH)
    previous = torch.randint(-1, VOCABULARY, (400,))
    found = head.likeliest(hidden, previous)
    assert torch.equal(found, head(hidden, previous).argmax(dim=-1))
    by_head = head.head(hidden).argmax(dim=-1)
    assert 50 < ((found == previous) & (by_head != previous)).sum() < 200, "stayed against the head"
    assert ((found == by_head) & (by_head != previous) & (previous >= 0)).sum() > 50, "moved"


def test_even_a_head_that_is_sure_is_overruled_where_tokens_surely_stay() -> None:
    """As with a frame that is not among those remembered."""
    head, hidden = make_head(strength=0.0), torch.randn(1, WIDTH)
    with torch.no_grad():
        head.head.bias[1] += 100.0
        head.bias.fill_(1.0)
    assert head(hidden, torch.tensor([3])).argmax(dim=-1).item() == 3
    assert head(hidden, torch.tensor([-1])).argmax(dim=-1).item() == 1


def test_at_first_nine_of_ten_tokens_are_expected_to_stay() -> None:
    head = NextTokenHead(nn.Linear(WIDTH, 2048), WIDTH)
    stays = head(torch.randn(4, WIDTH), torch.arange(4)).exp()[torch.arange(4), torch.arange(4)]
    assert torch.allclose(stays, torch.full((4,), 0.9), atol=1e-3)


def test_initial_weights_of_what_comes_later_do_not_depend_on_it() -> None:
    states = []
    for make in (lambda: NextTokenHead(nn.Linear(WIDTH, VOCABULARY), WIDTH), lambda: nn.Linear(WIDTH, VOCABULARY)):
        torch.manual_seed(3)
        make()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
