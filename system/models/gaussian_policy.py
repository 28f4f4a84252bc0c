"""A small Gaussian policy over normalised observations: what a behaviour agent is once it is trained."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from system.errors import CheckpointError

MAX_FILE_BYTES = 64 * 1024 * 1024


class GaussianPolicy(nn.Module):
    """tanh network for the mean, one free standard deviation per action, and the observations' statistics.

    Args:
        observation_dim: S.
        action_dim: A.
        hidden_width: units of each of the two hidden layers.
    """

    observation_mean: torch.Tensor
    observation_std: torch.Tensor

    def __init__(self, observation_dim: int, action_dim: int, hidden_width: int) -> None:
        super().__init__()
        self.register_buffer("observation_mean", torch.zeros(observation_dim))
        self.register_buffer("observation_std", torch.ones(observation_dim))
        self.network = nn.Sequential(
            nn.Linear(observation_dim, hidden_width),
            nn.Tanh(),
            nn.Linear(hidden_width, hidden_width),
            nn.Tanh(),
            nn.Linear(hidden_width, action_dim),
        )
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def forward(self, observations: Float[torch.Tensor, "B S"]) -> Float[torch.Tensor, "B A"]:
        """Mean actions, not yet clipped to [−1, 1]."""
        normalized = (observations - self.observation_mean) / self.observation_std
        return self.network(normalized.clamp(-10.0, 10.0))

    @torch.no_grad()
    def sample(
        self, observations: Float[torch.Tensor, "B S"], generator: torch.Generator
    ) -> Float[torch.Tensor, "B A"]:
        """Draws actions, clipped to [−1, 1]."""
        mean = self(observations)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        return (mean + self.log_std.exp() * noise).clamp(-1.0, 1.0)

    def save(self, path: Path) -> None:
        """Writes the weights as safetensors."""
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path) -> "GaussianPolicy":
        """Reads what `save` wrote; nothing in the file is executed.

        Raises:
            CheckpointError: the file is missing, broken or not such a policy.
        """
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise CheckpointError(f"{path}: larger than a behaviour policy can be")
            state = load_file(path)
            hidden_width, observation_dim = state["network.0.weight"].shape
            policy = cls(observation_dim, len(state["log_std"]), hidden_width)
            policy.load_state_dict(state)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: not a saved behaviour policy ({type(error).__name__})") from None
        return policy
