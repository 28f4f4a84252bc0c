"""The trajectory model as a planning model, under return or critic guidance.

Candidates are imagined in one pass of the forward-dynamics mask. The adapters differ in where the values g_n of
eq. 3 come from; candidates come from the return-conditioned mask or from the reference actor (`proposals`).

Source: M³PC section IV, "Forward M³PC for Reward Maximization".
"""

import torch
from jaxtyping import Float, Shaped

from system.decisions import Context
from system.families.masked_trajectory.masks import RETURNS, REWARDS, STATES, forward_dynamics
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Reconstruction
from system.families.masked_trajectory.proposals import Proposals, ReturnConditioned
from system.families.masked_trajectory.windows import repeat_context, window_tokens
from system.models.protocols import Imagination
from system.values.critics import ValueNetworks


class _GuidedModel:
    """What every kind of guidance shares: candidates and the forward pass.

    Args:
        model: the trajectory model.
        discount: γ of the utility.
        proposals: where candidates come from; None draws from the return-conditioned mask.
    """

    def __init__(
        self, model: MaskedTrajectoryModel, discount: float, proposals: Proposals | None = None
    ) -> None:
        self.model = model
        self.discount = discount
        self.proposals = proposals or ReturnConditioned(model)

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N H *action"]:
        """Candidates of the configured origin."""
        return self.proposals(context, horizon=horizon, num_candidates=num_candidates, generator=generator)

    def _predict(
        self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"], modalities: tuple[int, ...]
    ) -> tuple[Float[torch.Tensor, "B N H S"], Reconstruction]:
        batch, count, horizon = actions.shape[:3]
        current = context.observations.shape[1] - 1
        repeated = repeat_context(context, count)
        tokens = window_tokens(repeated, horizon, actions.flatten(0, 1))
        mask = forward_dynamics(self.model.config.context_length, current)
        predicted = self.model.reconstruct(tokens, mask, first_step=current, modalities=modalities)
        # Position `current` of the output is a reconstruction of what is known exactly; keep the truth.
        truth = repeated.observations[:, -1:]
        observations = torch.cat([truth, predicted.states[:, 1:]], dim=1)
        return observations.unflatten(0, (batch, count)), predicted


class ReturnGuided(_GuidedModel):
    """Values are the model's own predicted returns-to-go (M³PC-M)."""

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """One forward pass; g_n is the return token at step n, which includes r_n."""
        shape = actions.shape[:3]
        observations, predicted = self._predict(context, actions, (STATES, RETURNS, REWARDS))
        return Imagination(observations, predicted.rewards.view(shape), predicted.returns.view(shape))


class CriticGuided(_GuidedModel):
    """Values are a critic's min-Q at the imagined states and planned actions (M³PC-Q).

    Args:
        model: the trajectory model.
        critic: value networks.
        discount: γ that the critic was trained with.
        proposals: as of every kind of guidance.
    """

    def __init__(
        self,
        model: MaskedTrajectoryModel,
        critic: ValueNetworks,
        discount: float,
        proposals: Proposals | None = None,
    ) -> None:
        super().__init__(model, discount, proposals)
        self.critic = critic

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """One forward pass (none for H = 1), then Q on every imagined step."""
        batch, count, horizon = actions.shape[:3]
        if horizon == 1:
            observations = context.observations[:, None, -1:].expand(batch, count, 1, -1)
            rewards = observations.new_zeros(batch, count, 1)
        else:
            observations, predicted = self._predict(context, actions, (STATES, REWARDS))
            rewards = predicted.rewards.view(batch, count, horizon)
        return Imagination(observations, rewards, self.critic.q(observations, actions))


class FirstActionGuided(CriticGuided):
    """Values are Q of the first actions alone: the same candidates as `CriticGuided`, without their futures."""

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N 1 *action"]:
        """First actions of candidates of `horizon` actions, from the history that these look back on."""
        proposed = super().propose(context, horizon=horizon, num_candidates=num_candidates, generator=generator)
        return proposed[:, :, :1]


class Unguided(_GuidedModel):
    """No values at all: every candidate is worth the same, so planning is the policy itself (ξ = 0)."""

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """Zeros; nothing is predicted."""
        batch, count, horizon = actions.shape[:3]
        observations = context.observations[:, None, -1:].expand(batch, count, horizon, -1)
        zeros = observations.new_zeros(batch, count, horizon)
        return Imagination(observations, zeros, zeros)
