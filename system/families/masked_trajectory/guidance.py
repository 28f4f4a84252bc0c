"""The trajectory model as a planning model, under return or critic guidance.

Both adapters propose candidates with the return-conditioned mask and imagine them with the forward-dynamics
mask, one pass each; they differ only in where the values g_n of eq. 3 come from.

Source: M³PC section IV, "Forward M³PC for Reward Maximization".
"""

import torch
from jaxtyping import Float, Shaped

from system.decisions import Context
from system.families.masked_trajectory.masks import (
    ACTIONS,
    RETURNS,
    REWARDS,
    STATES,
    forward_dynamics,
    return_conditioned,
)
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Reconstruction, Tokens
from system.models.distributions import ActionDistribution
from system.models.protocols import Imagination
from system.values.critics import ValueNetworks


def window_tokens(context: Context, horizon: int, actions: torch.Tensor | None = None) -> Tokens:
    """Lays a context and a plan of `horizon` actions out in one window of T' + horizon − 1 steps.

    Args:
        context: T' observations, the current one last.
        horizon: H ≥ 1; the current step stands at position T' − 1 and the plan fills the rest.
        actions: [B, H, *action]; None leaves them zero, for masks that hide them.
    """
    batch, history, _ = context.observations.shape
    future = horizon - 1
    if actions is None:
        actions = context.actions.new_zeros(batch, horizon, *context.actions.shape[2:])
    padding = context.observations.new_zeros(batch, future, context.observations.shape[-1])
    length = history + future
    return Tokens(
        states=torch.cat([context.observations, padding], dim=1),
        returns=context.target_return[:, None].expand(batch, length),
        actions=torch.cat([context.actions, actions], dim=1),
        rewards=context.observations.new_zeros(batch, length),
        valid=torch.cat([context.valid, context.valid.new_ones(batch, future)], dim=1),
    )


def action_distribution(model: MaskedTrajectoryModel, context: Context, horizon: int) -> ActionDistribution:
    """The return-conditioned policy's distribution of a_t … a_{t+H−1}, [B, H]."""
    current = context.observations.shape[1] - 1
    length = model.config.context_length
    tokens = window_tokens(context, horizon)
    mask = return_conditioned(length, current)
    return model.reconstruct(tokens, mask, first_step=current, modalities=(ACTIONS,)).actions


def repeat_context(context: Context, count: int) -> Context:
    """Every environment's context `count` times in a row."""
    return Context(
        context.observations.repeat_interleave(count, dim=0),
        context.actions.repeat_interleave(count, dim=0),
        context.valid.repeat_interleave(count, dim=0),
        context.target_return.repeat_interleave(count, dim=0),
    )


class _ProposingModel:
    """What both kinds of guidance share: the proposals and the forward pass."""

    def __init__(self, model: MaskedTrajectoryModel, discount: float) -> None:
        self.model = model
        self.discount = discount

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Shaped[torch.Tensor, "B N H *action"]:
        """Candidates drawn from the return-conditioned distribution."""
        distribution = action_distribution(self.model, context, horizon)
        return distribution.sample(num_candidates, generator).transpose(0, 1)

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


class ReturnGuided(_ProposingModel):
    """Values are the model's own predicted returns-to-go (M³PC-M)."""

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """One forward pass; g_n is the return token at step n, which includes r_n."""
        shape = actions.shape[:3]
        observations, predicted = self._predict(context, actions, (STATES, RETURNS, REWARDS))
        return Imagination(observations, predicted.rewards.view(shape), predicted.returns.view(shape))


class CriticGuided(_ProposingModel):
    """Values are a critic's min-Q at the imagined states and planned actions (M³PC-Q).

    Args:
        model: the trajectory model.
        critic: value networks.
        discount: γ that the critic was trained with.
    """

    def __init__(self, model: MaskedTrajectoryModel, critic: ValueNetworks, discount: float) -> None:
        super().__init__(model, discount)
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


class Unguided(_ProposingModel):
    """No values at all: every candidate is worth the same, so planning is the policy itself (ξ = 0)."""

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """Zeros; nothing is predicted."""
        batch, count, horizon = actions.shape[:3]
        observations = context.observations[:, None, -1:].expand(batch, count, horizon, -1)
        zeros = observations.new_zeros(batch, count, horizon)
        return Imagination(observations, zeros, zeros)
