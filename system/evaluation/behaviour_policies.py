"""Policies that only record data: a behaviour agent's own, and any other with noise added."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from system.models.gaussian_policy import GaussianPolicy
from system.planning.acting import Decision, Policy
from system.planning.history import History


@dataclass(frozen=True)
class SampledPolicy:
    """Draws from a behaviour agent's distribution, as it did while it learnt.

    Attributes:
        policy: the agent's.
    """

    policy: GaussianPolicy

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """One draw for each environment."""
        observations = torch.from_numpy(history.observations[rows, -1])
        return Decision(self.policy.sample(observations, generator).cpu().numpy())


@dataclass(frozen=True)
class NoisyPolicy:
    """Another policy's actions with Gaussian noise, clipped to [−1, 1].

    Attributes:
        policy: decides.
        action_noise: standard deviation.
    """

    policy: Policy
    action_noise: float

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """The policy's decision, disturbed."""
        action = torch.from_numpy(self.policy.act(history, rows, generator).action)
        noise = torch.randn(action.shape, generator=generator, device=generator.device).cpu()
        return Decision((action + self.action_noise * noise).clamp(-1.0, 1.0).numpy())
