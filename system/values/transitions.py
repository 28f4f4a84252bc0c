"""A batch of transitions as tensors."""

import torch

from system.models.graphed_step import Tensors
from system.types import TransitionBatch


def transition_tensors(batch: TransitionBatch) -> Tensors:
    """What everyone reads who learns of transitions, by name, on the host."""
    names = ("observations", "actions", "rewards", "next_observations", "terminated")
    return {name: torch.tensor(getattr(batch, name)) for name in names}
