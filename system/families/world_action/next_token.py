"""What the next frame token is: the one that stood there before, or one that the head names.

    p_v = σ(g) · 1[v = token at the same place of the frame before] + (1 − σ(g)) · softmax_v(head(h))

with g = w·h + b of the output h at the token before. Most of a frame stays as it was, in codes that may be
rare or new in their place. A head alone has to learn to copy every code by itself, and takes held-out frames for
those that it remembers; with a gate it is left with what moves.

Source: pointer-generator networks, See et al. 2017, "Get To The Point: Summarization with Pointer-Generator
Networks", eq. 9.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

# At first nine of ten tokens are expected to stay.
INITIAL_ODDS = 9.0


class NextTokenHead(nn.Module):
    """A distribution over V tokens.

    Args:
        head: logits of the tokens that do not stay.
        width: of the outputs that are read.
    """

    def __init__(self, head: nn.Module, width: int) -> None:
        super().__init__()
        self.head = head
        # Nothing is drawn for these.
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.full((), math.log(INITIAL_ODDS)))

    def forward(
        self, hidden: Float[torch.Tensor, "*B D"], previous: Int[torch.Tensor, "*B"]
    ) -> Float[torch.Tensor, "*B V"]:
        """Log-probabilities of all tokens.

        Args:
            hidden: outputs at the tokens before.
            previous: what stood at these places in the frame before; −1: there was none, and none stays.
        """
        moves, logits = self._parts(hidden, previous)
        place = previous.clamp_min(0).long().unsqueeze(-1)
        by_head = logits.log_softmax(dim=-1) + functional.logsigmoid(moves).unsqueeze(-1)
        mixed = torch.logaddexp(by_head.gather(-1, place), functional.logsigmoid(-moves).unsqueeze(-1))
        return by_head.scatter(-1, place, mixed)

    def errors(
        self,
        hidden: Float[torch.Tensor, "*B D"],
        previous: Int[torch.Tensor, "*B"],
        target: Int[torch.Tensor, "*B"],
    ) -> Float[torch.Tensor, "*B"]:
        """Negative log-probabilities of the tokens that came, with fewer steps than `forward` takes.

        Args:
            hidden, previous: as for `forward`.
            target: the tokens.
        """
        moves, logits = self._parts(hidden, previous)
        by_head = logits.log_softmax(dim=-1)
        named = by_head.gather(-1, target.long().unsqueeze(-1)).squeeze(-1) + functional.logsigmoid(moves)
        stayed = functional.logsigmoid(-moves).masked_fill(target != previous, -torch.inf)
        return -torch.logaddexp(named, stayed)

    def likeliest(
        self, hidden: Float[torch.Tensor, "*B D"], previous: Int[torch.Tensor, "*B"]
    ) -> Int[torch.Tensor, "*B"]:
        """The tokens of largest probability, with fewer steps than `forward` takes: what stood there stays if the
        head's favourite is ahead of it by no more than σ(g) / (1 − σ(g)) = eᵍ.

        Args:
            hidden, previous: as for `forward`.
        """
        moves, logits = self._parts(hidden, previous)
        largest, named = logits.max(dim=-1)
        stood = logits.gather(-1, previous.clamp_min(0).long().unsqueeze(-1)).squeeze(-1)
        total = logits.logsumexp(dim=-1)
        ahead = (largest - total).exp() - (stood - total).exp()
        return torch.where((ahead <= (-moves).exp()) & (previous >= 0), previous, named)

    def _parts(
        self, hidden: Float[torch.Tensor, "*B D"], previous: Int[torch.Tensor, "*B"]
    ) -> tuple[Float[torch.Tensor, "*B"], Float[torch.Tensor, "*B V"]]:
        """−g, ∞ where nothing can stay, and the head's logits."""
        moves = -((hidden @ self.weight).float() + self.bias)
        return moves.masked_fill(previous < 0, torch.inf), self.head(hidden).float()
