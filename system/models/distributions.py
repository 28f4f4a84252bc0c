"""What actions are reconstructed with: a squashed Gaussian of vectors, a categorical distribution of numbers."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int64, Shaped
from torch.nn import functional

from system.errors import PlannerError

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
ACTION_LIMIT = 0.999


def bounded_log_std(raw: torch.Tensor) -> torch.Tensor:
    """Maps an unbounded output smoothly into [LOG_STD_MIN, LOG_STD_MAX]."""
    return LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (torch.tanh(raw) + 1.0)


class ActionDistribution(Protocol):
    """Of the actions of a batch; an action is a vector or a number, as in `system.models.action_forms`."""

    def mode(self) -> Shaped[torch.Tensor, "*batch_and_action"]:
        """The deterministic action."""
        ...

    def sample(
        self, num_samples: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "N *batch_and_action"]:
        """Independent draws, without gradient."""
        ...

    def spread_by(self, factor: float) -> "ActionDistribution":
        """The same one, drawn closer to its mode (factor < 1) or wider; 1 changes nothing."""
        ...

    def log_prob(self, actions: Shaped[torch.Tensor, "*batch_and_action"]) -> Float[torch.Tensor, "*batch"]:
        """Logarithm of the density, or of the probability."""
        ...

    def entropy(self, noise: Float[torch.Tensor, "*batch noise"]) -> Float[torch.Tensor, "*batch"]:
        """The entropy or an estimate of it, with gradient, from as many draws as the form of the actions asks."""
        ...

    def reconstruction_error(
        self, actions: Shaped[torch.Tensor, "*batch_and_action"]
    ) -> Float[torch.Tensor, "*batch"]:
        """How badly an action that could be seen is given back."""
        ...


@dataclass(frozen=True)
class SquashedNormal:
    """tanh of independent normals, over the last axis.

    Attributes:
        mean, log_std: of the normal before tanh.
    """

    mean: Float[torch.Tensor, "*batch A"]
    log_std: Float[torch.Tensor, "*batch A"]

    def mode(self) -> Float[torch.Tensor, "*batch A"]:
        """tanh(μ), the public implementations' deterministic action."""
        return torch.tanh(self.mean)

    def sample(self, num_samples: int, generator: torch.Generator) -> Float[torch.Tensor, "N *batch A"]:
        """Independent draws in (−1, 1), without gradient."""
        shape = (num_samples, *self.mean.shape)
        noise = torch.randn(shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return torch.tanh(self.mean + self.log_std.exp() * noise)

    def spread_by(self, factor: float) -> "SquashedNormal":
        """Multiplies the standard deviation before tanh by a factor above 0."""
        return SquashedNormal(self.mean, self.log_std + math.log(factor))

    def log_prob(self, actions: Float[torch.Tensor, "*batch A"]) -> Float[torch.Tensor, "*batch"]:
        """Log density, summed over action dimensions; actions are held inside ±ACTION_LIMIT first."""
        unsquashed = torch.atanh(actions.clamp(-ACTION_LIMIT, ACTION_LIMIT))
        return self._log_prob_unsquashed(unsquashed)

    def entropy(self, noise: Float[torch.Tensor, "*batch A"]) -> Float[torch.Tensor, "*batch"]:
        """One-sample estimate of the entropy, summed over action dimensions, with gradient.

        Args:
            noise: standard-normal draws that pick the sample.
        """
        return -self._log_prob_unsquashed(self.mean + self.log_std.exp() * noise)

    def reconstruction_error(self, actions: Float[torch.Tensor, "*batch A"]) -> Float[torch.Tensor, "*batch"]:
        """Squared distance from the mode, averaged over action dimensions."""
        return (self.mode() - actions).square().mean(-1)

    def _log_prob_unsquashed(self, unsquashed: torch.Tensor) -> torch.Tensor:
        standard = (unsquashed - self.mean) * torch.exp(-self.log_std)
        normal = -0.5 * standard.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2.0 * (math.log(2.0) - unsquashed - functional.softplus(-2.0 * unsquashed))
        return (normal - log_slope).sum(-1)


@dataclass(frozen=True)
class CategoricalActions:
    """One of A actions.

    Attributes:
        logits: unnormalised log-probabilities; the last axis is that of the actions.
    """

    logits: Float[torch.Tensor, "*batch A"]

    def mode(self) -> Int64[torch.Tensor, "*batch"]:
        """The likeliest action, the first of equal ones.

        Raises:
            PlannerError: as for `sample`.
        """
        return self._probabilities().argmax(dim=-1)

    def sample(self, num_samples: int, generator: torch.Generator) -> Int64[torch.Tensor, "N *batch"]:
        """Independent draws.

        Raises:
            PlannerError: a probability is not a number; a draw would pass for an action all the same.
        """
        probabilities = self._probabilities()
        rows = probabilities.flatten(0, -2)
        drawn = torch.multinomial(rows, num_samples, replacement=True, generator=generator)
        return drawn.T.reshape(num_samples, *probabilities.shape[:-1])

    def spread_by(self, factor: float) -> "CategoricalActions":
        """Divides the logits by a factor above 0, a temperature."""
        return CategoricalActions(self.logits / factor)

    def log_prob(self, actions: Int64[torch.Tensor, "*batch"]) -> Float[torch.Tensor, "*batch"]:
        """Log probability: minus the cross-entropy."""
        return self.logits.log_softmax(dim=-1).gather(-1, actions[..., None]).squeeze(-1)

    def entropy(self, noise: Float[torch.Tensor, "*batch noise"]) -> Float[torch.Tensor, "*batch"]:
        """The entropy itself, between 0 and log A; no noise is needed."""
        log_probabilities = self.logits.log_softmax(dim=-1)
        return -(log_probabilities.exp() * log_probabilities).sum(-1)

    def reconstruction_error(self, actions: Int64[torch.Tensor, "*batch"]) -> Float[torch.Tensor, "*batch"]:
        """Cross-entropy."""
        return -self.log_prob(actions)

    @torch.no_grad()
    def _probabilities(self) -> Float[torch.Tensor, "*batch A"]:
        probabilities = self.logits.float().softmax(dim=-1)
        if not bool(torch.isfinite(probabilities).all()):
            raise PlannerError("the model's action probabilities are not finite")
        return probabilities
