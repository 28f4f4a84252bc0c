"""The distilled policy: a causal transformer over (value asked for, state, action), which gives actions.

    … v_{t−1} s_{t−1} a_{t−1}  v_t s_t  →  a_t = π(s_t, v_t, past)

Steps before an episode's beginning come first in a window; they are turned behind the others, where the causal
order hides them from everything that counts, so that no mask is needed.

Source: Imaginary Planning Distillation, section 3.4; Chen et al. 2021 (decision transformer).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from system.families.imagination.config import DistilledModelConfig
from system.models.causal_transformer import CausalTransformer

TOKENS_PER_STEP = 3


class DistilledPolicy(nn.Module):
    """Actions of every step of a window, each from what came before it.

    Args:
        observation_dim, action_dim: S and A.
        config: sizes.
    """

    observation_mean: torch.Tensor
    observation_std: torch.Tensor
    return_scale: torch.Tensor

    def __init__(self, observation_dim: int, action_dim: int, config: DistilledModelConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.asked = nn.Linear(1, width)
        self.state = nn.Linear(observation_dim, width)
        self.action = nn.Linear(action_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(config.context_length, width))
        self.backbone = CausalTransformer(width, config.num_layers, config.num_heads, dropout=0.0)
        self.head = nn.Linear(width, action_dim)
        nn.init.normal_(self.head.weight, std=0.01 / width**0.5)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("observation_mean", torch.zeros(observation_dim))
        self.register_buffer("observation_std", torch.ones(observation_dim))
        self.register_buffer("return_scale", torch.tensor([0.0, 1.0]))

    def forward(
        self,
        observations: Float[torch.Tensor, "B T S"],
        actions: Float[torch.Tensor, "B T A"],
        asked: Float[torch.Tensor, "B T"],
        valid: Bool[torch.Tensor, "B T"],
    ) -> Float[torch.Tensor, "B T A"]:
        """Actions in (−1, 1) at every step; without meaning where it is not valid.

        Args:
            observations, actions: of the window; an action is seen by later steps alone.
            asked: the value or return that is asked for at each step, in discounted return.
            valid: the step belongs to the episode; those that do not are the first ones.
        """
        first = (~valid).sum(dim=1)
        order = _turned(first, valid.shape[1])
        tokens = torch.stack(
            [
                self.asked(((asked - self.return_scale[0]) / self.return_scale[1])[..., None]),
                self.state((observations - self.observation_mean) / self.observation_std),
                self.action(actions),
            ],
            dim=2,
        )
        tokens = _reordered(tokens.flatten(2), order).unflatten(2, (TOKENS_PER_STEP, -1))
        tokens = (tokens + self.position[: valid.shape[1], None]).flatten(1, 2)
        states = torch.arange(1, tokens.shape[1], TOKENS_PER_STEP, device=tokens.device)
        decided = self.head(self.backbone(tokens, states)).tanh()
        return _reordered(decided, _turned(-first, valid.shape[1]))

    def newest(
        self,
        observations: Float[torch.Tensor, "B T S"],
        actions: Float[torch.Tensor, "B T-1 A"],
        asked: Float[torch.Tensor, "B T"],
        valid: Bool[torch.Tensor, "B T"],
    ) -> Float[torch.Tensor, "B A"]:
        """The action of the newest step, which is not known yet."""
        unknown = torch.zeros_like(actions[:, :1]) if actions.shape[1] else observations.new_zeros(
            len(observations), 1, self.action.in_features
        )
        return self(observations, torch.cat([actions, unknown], dim=1), asked, valid)[:, -1]


def _turned(by: Int[torch.Tensor, "B"], length: int) -> Int[torch.Tensor, "B T"]:
    """Steps `by`, `by` + 1, … of a window, those over its end from its beginning."""
    return (torch.arange(length, device=by.device) + by[:, None]) % length


def _reordered(
    rows: Float[torch.Tensor, "B T D"], order: Int[torch.Tensor, "B T"]
) -> Float[torch.Tensor, "B T D"]:
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[2]))
