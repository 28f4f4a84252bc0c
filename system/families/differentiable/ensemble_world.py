"""The probabilistic ensemble as a world: every future is imagined by a member of its own, by reparameterisation.

    future m, member e = m mod E:   s′ = μ_e(s, a) + Σ_e(s, a)^½ ε,   r_e(s, a),   P_e(end | s, a)

so that the spread of the returns over members tells what the data leave open (`planner.ascent.model_pessimism`),
and that over futures of one member what chance does.
"""

import torch
from jaxtyping import Float
from torch import nn

from system.data.store.statistics import DatasetStatistics
from system.families.differentiable.config import DifferentiableConfig
from system.families.differentiable.world_model import keep_within
from system.models.probabilistic_ensemble import ProbabilisticEnsemble, bounded_log_variance, world_losses
from system.models.protocols import Outcome


class EnsembleWorld(nn.Module):
    """E Gaussian members.

    Args:
        observation_dim, action_dim: S and A.
        config: sizes.

    Attributes:
        noise_dim, num_members: as of a `DifferentiableModel`.
    """

    def __init__(self, observation_dim: int, action_dim: int, config: DifferentiableConfig) -> None:
        super().__init__()
        model = config.model
        self.ensemble = ProbabilisticEnsemble(
            observation_dim,
            action_dim,
            num_members=model.members,
            hidden_width=model.width,
            hidden_layers=model.layers,
        )
        self.noise_dim = observation_dim
        self.num_members = model.members

    def set_statistics(self, statistics: DatasetStatistics) -> None:
        """Takes over the training split's statistics."""
        mean, std = (
            torch.from_numpy(values.copy()) for values in (statistics.observation_mean, statistics.observation_std)
        )
        self.ensemble.set_scales(mean, std, statistics.reward_mean, statistics.reward_std)

    def imagine(
        self,
        observations: Float[torch.Tensor, "B M S"],
        actions: Float[torch.Tensor, "B M A"],
        noise: Float[torch.Tensor, "M noise"],
        *,
        measure_disagreement: bool = False,
    ) -> Outcome:
        """One step of every future. Disagreement, for which all members are asked, is the variance of their means
        in units of the variance that they expect, the mean over dimensions."""
        ensemble, size = self.ensemble, observations.shape[:2]
        here = (observations - ensemble.observation_mean) / ensemble.observation_std
        inputs = self._by_member(torch.cat([here, actions], dim=-1))
        change, raw = ensemble.dynamics(inputs).chunk(2, dim=-1)
        rewards, ending = ensemble.outcome(inputs).unbind(-1)
        spread = (0.5 * bounded_log_variance(raw)).exp()
        moved = here + self._by_future(change, size) + self._by_future(spread, size) * noise
        following = ensemble.observation_mean + ensemble.observation_std * moved
        rewards = ensemble.reward_scale[0] + ensemble.reward_scale[1] * self._by_future(rewards, size)
        disagreement = torch.zeros_like(rewards)
        if measure_disagreement:
            disagreement = self._disagreement(observations, actions)
        return Outcome(
            keep_within(following, ensemble.observation_mean, ensemble.observation_std),
            rewards,
            torch.sigmoid(-self._by_future(ending, size)),
            disagreement,
        )

    def losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Terms of the loss, as of `WorldModel`; every member learns from every step."""
        losses = world_losses(
            self.ensemble,
            batch["observations"],
            batch["actions"],
            batch["rewards"],
            batch["next_observations"],
            batch["terminated"],
            noise=batch["noise"],
            scale=torch.zeros_like(batch["rewards"][0]),
            regularised_log_variance=0.0,
            objective="likelihood",
        )
        return {"dynamics": losses["transition"], "reward": losses["reward"], "termination": losses["end"]}

    def _disagreement(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        means, log_variances, _, _ = self.ensemble.standardized(observations.flatten(0, 1), actions.flatten(0, 1))
        share = means.var(0, unbiased=False) / log_variances.exp().mean(0)
        return share.mean(-1).unflatten(0, observations.shape[:2])

    def _by_member(self, values: torch.Tensor) -> torch.Tensor:
        """[B, M, C] → [E, B·M/E, C]."""
        return values.unflatten(1, (-1, self.num_members)).movedim(2, 0).flatten(1, 2)

    def _by_future(self, values: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """[E, B·M/E, …] → [B, M, …]."""
        return values.unflatten(1, (size[0], -1)).movedim(0, 2).flatten(1, 2)
