"""The trajectory model as a planning model, under return or critic guidance.

Candidates are imagined in one pass of the forward-dynamics mask. The adapters differ in where the values g_n of
eq. 3 come from; candidates come from the return-conditioned mask or from the reference actor (`proposals`).

Source: M³PC section IV, "Forward M³PC for Reward Maximization".
"""

import torch
from jaxtyping import Shaped

from system.decisions import Context
from system.families.masked_trajectory.masks import RETURNS, REWARDS
from system.families.masked_trajectory.model import MaskedTrajectoryModel
from system.families.masked_trajectory.plan_imagination import imagine_plans
from system.families.masked_trajectory.proposals import Proposals, ReturnConditioned
from system.models.optimizer_state import full_precision
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


class ReturnGuided(_GuidedModel):
    """Values are the model's own predicted returns-to-go (M³PC-M)."""

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """One forward pass; g_n is the return token at step n, which includes r_n."""
        expected = imagine_plans(self.model, context, actions, (RETURNS, REWARDS))
        assert expected.rewards is not None and expected.returns is not None
        return Imagination(expected.states, expected.rewards, expected.returns)


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


class Unguided(_GuidedModel):
    """No values at all: every candidate is worth the same, so planning is the policy itself (ξ = 0)."""

    def imagine(self, context: Context, actions: Shaped[torch.Tensor, "B N H *action"]) -> Imagination:
        """Zeros; nothing is predicted."""
        batch, count, horizon = actions.shape[:3]
        observations = context.observations[:, None, -1:].expand(batch, count, horizon, -1)
        zeros = observations.new_zeros(batch, count, horizon)
        return Imagination(observations, zeros, zeros)
