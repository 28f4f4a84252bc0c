"""The plainest network behind the same masks: a window as one vector, what is hidden in it as zeros and flags.

With a single mask to train on it is the baseline that MTM compares with, one network for each capability; with all
of them it shows what the transformer is for.

Source: MTM section 4.1, "MLP" baselines.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import nn

HIDDEN_LAYERS = 2


class FlatNetwork(nn.Module):
    """Fully connected layers from a window's contents to one vector for each of its tokens.

    Args:
        dims: of a token's contents, modality by modality.
        length: T.
        width: D of the vectors.
        hidden_width: of the layers between.
    """

    def __init__(self, dims: Sequence[int], length: int, width: int, hidden_width: int) -> None:
        super().__init__()
        inputs = length * (sum(dims) + len(dims))
        layers: list[nn.Module] = []
        for size in [inputs] + [hidden_width] * (HIDDEN_LAYERS - 1):
            layers += [nn.Linear(size, hidden_width), nn.GELU()]
        self.hidden = nn.Sequential(*layers)
        self.outputs = nn.Linear(hidden_width, len(dims) * length * width)
        self.width = width

    def forward(
        self, contents: Sequence[Float[torch.Tensor, "B T _"]], visible: Bool[torch.Tensor, "B M T"]
    ) -> Float[torch.Tensor, "B tokens D"]:
        """Of every token, in modality-major order.

        Args:
            contents: standardised, of each modality; what is not visible may hold anything.
            visible: which tokens are.
        """
        return self.outputs(self.represent(contents, visible)).unflatten(1, (-1, self.width))

    def represent(
        self, contents: Sequence[Float[torch.Tensor, "B T _"]], visible: Bool[torch.Tensor, "B M T"]
    ) -> Float[torch.Tensor, "B hidden"]:
        """What the last hidden layer makes of a window."""
        seen = [values.where(visible[:, index, :, None], 0.0) for index, values in enumerate(contents)]
        flat = torch.cat([values.flatten(1) for values in seen] + [visible.flatten(1).to(seen[0].dtype)], dim=1)
        return self.hidden(flat)
