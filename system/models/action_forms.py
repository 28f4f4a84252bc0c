"""The two forms that a task's actions have: vectors, or numbers of discrete actions.

A model is built for one of them, and asks it how an action is read as a token and which distribution its head's
outputs mean. Everything else treats actions as tensors of shape [*batch, *action], where *action is (A,) of
vectors and nothing of numbers.
"""

import math
from typing import Protocol

import torch
from jaxtyping import Float, Int64, Shaped
from torch.nn import functional

from system.models.distributions import ActionDistribution, CategoricalActions, SquashedNormal, bounded_log_std


class ActionForm(Protocol):
    """What a model needs to know of its task's actions.

    Attributes:
        num_inputs: of an action read as a token.
        num_outputs: of the head that a distribution is made of.
        num_noise: standard-normal draws that the distribution's entropy takes.
    """

    num_inputs: int
    num_outputs: int
    num_noise: int

    def encode(self, actions: Shaped[torch.Tensor, "*batch_and_action"]) -> Float[torch.Tensor, "*batch inputs"]:
        """Actions as networks read them."""
        ...

    def distribution(self, outputs: Float[torch.Tensor, "*batch outputs"]) -> ActionDistribution:
        """What a head's outputs say of the actions."""
        ...

    def entropy_bound(self, per_dim: float, share: float) -> float:
        """The least entropy of one step's action.

        Args:
            per_dim: differential entropy of one dimension of a vector in [−1, 1].
            share: of the largest entropy that a discrete action can have.
        """
        ...


class ActionVectors:
    """Vectors in [−1, 1], read as they are; the distribution is a squashed Gaussian.

    Args:
        dim: A.
        std: of the Gaussian, the same everywhere; 0: it is read off the head.
    """

    def __init__(self, dim: int, std: float = 0.0) -> None:
        self.num_inputs = self.num_noise = dim
        self.num_outputs = 2 * dim
        self.std = std

    def encode(self, actions: Float[torch.Tensor, "*batch A"]) -> Float[torch.Tensor, "*batch A"]:
        """The same."""
        return actions

    def distribution(self, outputs: Float[torch.Tensor, "*batch outputs"]) -> SquashedNormal:
        """Means, then unbounded logarithms of standard deviations."""
        mean, raw_log_std = outputs.chunk(2, dim=-1)
        if self.std > 0.0:
            return SquashedNormal(mean, torch.full_like(mean, math.log(self.std)))
        return SquashedNormal(mean, bounded_log_std(raw_log_std))

    def entropy_bound(self, per_dim: float, share: float) -> float:
        """A times that of one dimension."""
        return per_dim * self.num_inputs


class ActionNumbers:
    """Numbers 0 … A−1, read one-hot; the distribution is a categorical one.

    Args:
        count: A.
    """

    def __init__(self, count: int) -> None:
        self.num_inputs = self.num_outputs = count
        self.num_noise = 0

    def encode(self, actions: Int64[torch.Tensor, "*batch"]) -> Float[torch.Tensor, "*batch A"]:
        """1 at the action's place, 0 elsewhere."""
        return functional.one_hot(actions, self.num_inputs).float()

    def distribution(self, outputs: Float[torch.Tensor, "*batch A"]) -> CategoricalActions:
        """Logits."""
        return CategoricalActions(outputs)

    def entropy_bound(self, per_dim: float, share: float) -> float:
        """A share of log A, the entropy of a uniform choice."""
        return share * math.log(self.num_inputs)


def action_form(action_dim: int, *, discrete: bool, std: float = 0.0) -> ActionForm:
    """The form of a task's actions.

    Args:
        action_dim: A.
        discrete: they are numbers of A actions, not vectors of A dimensions.
        std: of vectors, as of `ActionVectors`.
    """
    return ActionNumbers(action_dim) if discrete else ActionVectors(action_dim, std)
