"""The world model as a planning model, within the set of state–action pairs whose outcome is known.

    candidates  N rollouts of the quasi-optimal policy in the world model, the first of them without noise
    utility     Σ_{k<H} γᵏ R(ŝ_k, a_k) + γ^H V(ŝ_H)                               eq. 25, with λ = 1
    reliable    U(ŝ_k, a_k) < κ at every k                                        eq. 12

With values g_n = r_n + γ V(ŝ_{n+1}) the project's planners add up to eq. 25 where λ = 1, and to mixtures of
shorter horizons where λ < 1. A candidate that leaves the reliable set is worth −inf, unless all of a state's do.

Deviations from the paper, with the reason:

- its sum counts k = H too, and V of the state before that step's outcome again: the last term is dropped;
- candidates follow the members' mean, not a draw: three candidates are few, and one draw's luck would decide;
- rewards count as far as the episode is expected to go on until then (`system.models.probabilistic_ensemble`).

Source: Imaginary Planning Distillation, section 3.3, eqs. 12 and 25.
"""

import torch
from jaxtyping import Bool, Float

from system.decisions import Context
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.disagreement import geometric_jensen_shannon
from system.models.optimizer_state import full_precision
from system.models.protocols import Imagination


class ReliableWorld:
    """Proposes what the quasi-optimal policy would do, and foresees what comes of it.

    Args:
        agent: its world model, values and κ.
        discount: γ.
        spread: of the policy's distribution; 1 is its own.
    """

    def __init__(self, agent: ImaginationAgent, discount: float, spread: float) -> None:
        self.agent = agent
        self.discount = discount
        self.spread = spread

    def propose(
        self, context: Context, *, horizon: int, num_candidates: int, generator: torch.Generator
    ) -> Float[torch.Tensor, "B N H A"]:
        """H decisions in the world model, and the H − 1 steps between them."""
        batch = len(context.observations)
        observations = context.observations[:, -1].repeat_interleave(num_candidates, dim=0)
        decided: list[torch.Tensor] = []
        with full_precision(observations.device):
            for step in range(horizon):
                policy = self.agent.values.policy(observations).spread_by(self.spread)
                action = policy.sample(1, generator)[0].unflatten(0, (batch, num_candidates))
                action[:, 0] = policy.mode().unflatten(0, (batch, num_candidates))[:, 0]
                decided.append(action)
                if step < horizon - 1:
                    following = self.agent.world.next_mean(observations, action.flatten(0, 1))
                    # Where the model breaks down the candidate is worth nothing, but has to be one.
                    observations = torch.where(torch.isfinite(following), following, observations)
        return torch.stack(decided, dim=2)

    def imagine(self, context: Context, actions: Float[torch.Tensor, "B N H A"]) -> Imagination:
        """Every candidate's future; what is not finite is worth as little as what is not reliable."""
        observations = context.observations[:, None, -1].expand(-1, actions.shape[1], -1)
        lasting = torch.ones_like(observations[..., 0])
        reliable = finite = torch.ones_like(lasting, dtype=torch.bool)
        steps = []
        with full_precision(actions.device):
            for action in actions.unbind(2):
                foresight = self.agent.world(observations, action)
                disagreement = geometric_jensen_shannon(foresight.means, foresight.variances)
                reliable = reliable & (disagreement < self.agent.reliable_disagreement)
                going_on = 1.0 - foresight.ends
                following = foresight.mean
                finite = finite & torch.isfinite(following).all(-1)
                value = foresight.rewards + self.discount * going_on * self.agent.value(following)
                steps.append((observations, lasting * foresight.rewards, lasting * value))
                observations, lasting = following, lasting * going_on
        seen, rewards, values = (torch.stack(parts, dim=2) for parts in zip(*steps, strict=True))
        finite = finite & (torch.isfinite(rewards) & torch.isfinite(values)).all(dim=-1)
        return Imagination(seen, *_within_reach(rewards, values, finite, reliable))


def _within_reach(
    rewards: Float[torch.Tensor, "B N H"],
    values: Float[torch.Tensor, "B N H"],
    finite: Bool[torch.Tensor, "B N"],
    reliable: Bool[torch.Tensor, "B N"],
) -> tuple[Float[torch.Tensor, "B N H"], Float[torch.Tensor, "B N H"]]:
    """−inf for candidates out of reach, where others are not; where nothing is finite, all are worth 0."""
    usable = finite & reliable
    usable = torch.where(usable.any(dim=1, keepdim=True), usable, finite)
    excluded = usable.any(dim=1, keepdim=True) & ~usable
    rewards, values = (torch.where(finite[..., None], each, 0.0) for each in (rewards, values))
    return rewards, values.masked_fill(excluded[..., None], -torch.inf)
