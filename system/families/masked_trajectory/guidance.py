"""The trajectory model as a planning model, under return or critic guidance.

Both adapters propose candidates with the return-conditioned mask and imagine them with the forward-dynamics
mask, one pass each; they differ only in where the values g_n of eq. 3 come from.

Source: M³PC section IV, "Forward M³PC for Reward Maximization".
"""

import torch
from jaxtyping import Shaped

from system.decisions import Context
from system.families.masked_trajectory.mask_layout import inference_layout
from system.families.masked_trajectory.masks import ACTIONS, RETURNS, REWARDS
from system.families.masked_trajectory.model import MaskedTrajectoryModel, Tokens
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.models.distributions import ActionDistribution
from system.models.optimizer_state import full_precision
from system.models.protocols import Imagination
from system.values.critics import ValueNetworks


def action_distribution(model: MaskedTrajectoryModel, context: Context, horizon: int) -> ActionDistribution:
    """The return-conditioned policy's distribution of a_t … a_{t+H−1}, [B, H].

    Args:
        model: asked for the actions.
        context: T' observations, the current one last, at position T' − 1 of the window; the plan fills the rest.
        horizon: H ≥ 1.
    """
    batch, history, _ = context.observations.shape
    length, current, device = model.config.context_length, history - 1, context.observations.device
    states = context.observations.new_zeros(batch, horizon - 1, context.observations.shape[-1])
    actions = context.actions.new_zeros(batch, horizon, *context.actions.shape[2:])
    tokens = Tokens(
        states=torch.cat([context.observations, states], dim=1),
        returns=context.target_return[:, None].expand(batch, length),
        actions=torch.cat([context.actions, actions], dim=1),
        rewards=context.observations.new_zeros(batch, length),
        valid=torch.cat([context.valid, context.valid.new_ones(batch, horizon - 1)], dim=1),
    )
    layout = inference_layout("return_conditioned", length, current, device)
    return model.reconstruct(tokens, layout, first_step=current, modalities=(ACTIONS,)).actions


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


class ReturnGuided(_ProposingModel):
    """Values are the model's own predicted returns-to-go (M³PC-M)."""

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """One forward pass; g_n is the return token at step n, which includes r_n."""
        expected = imagine_plans(self.model, context, actions, (RETURNS, REWARDS))
        assert expected.rewards is not None and expected.returns is not None
        return Imagination(expected.states, expected.rewards, expected.returns)


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
            expected = imagine_plans(self.model, context, actions, (REWARDS,))
            assert expected.rewards is not None
            observations, rewards = expected.states, expected.rewards
        with full_precision(actions.device):
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
