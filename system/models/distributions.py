"""The squashed Gaussian that actions are reconstructed with."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch.nn import functional

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
ACTION_LIMIT = 0.999


def bounded_log_std(raw: torch.Tensor) -> torch.Tensor:
    """Maps an unbounded output smoothly into [LOG_STD_MIN, LOG_STD_MAX]."""
    return LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (torch.tanh(raw) + 1.0)


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

    def _log_prob_unsquashed(self, unsquashed: torch.Tensor) -> torch.Tensor:
        standard = (unsquashed - self.mean) * torch.exp(-self.log_std)
        normal = -0.5 * standard.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2.0 * (math.log(2.0) - unsquashed - functional.softplus(-2.0 * unsquashed))
        return (normal - log_slope).sum(-1)
