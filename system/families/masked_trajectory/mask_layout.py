"""A mask as the model reads it: tensors on its device, in few shapes.

The encoder sees visible tokens alone, and every random mask has another number of them. Kernels that are planned
for a shape, compiled code and CUDA graphs want few shapes: there the list of visible tokens is filled up to a
multiple of some number with entries that stand for no token, which nobody attends to.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int64

from system.families.masked_trajectory.masks import TASK_MASKS, Mask, MaskName


@dataclass(frozen=True)
class MaskLayout:
    """Tokens are counted modality by modality: token m·T + t is that of modality m at step t.

    Attributes:
        visible: tokens that the encoder reads, in order; then M·T, which is no token, as often as it takes.
        seen: the mask.
    """

    visible: Int64[torch.Tensor, "V"]
    seen: Bool[torch.Tensor, "M T"]

    def to(self, device: torch.device) -> "MaskLayout":
        """The same on another device."""
        return MaskLayout(self.visible.to(device), self.seen.to(device))


def lay_out(mask: Mask, *, multiple: int = 1) -> MaskLayout:
    """A mask's layout, on the CPU.

    Args:
        mask: what is visible.
        multiple: the number of entries of `visible` is one of these, and not 0.
    """
    visible = np.flatnonzero(mask)
    filled = multiple * max(1, -(-len(visible) // multiple))
    padded = np.full(filled, mask.size, dtype=np.int64)
    padded[: len(visible)] = visible
    return MaskLayout(torch.from_numpy(padded), torch.from_numpy(mask))


def layout_of(mask: Mask | MaskLayout, device: torch.device) -> MaskLayout:
    """A mask's layout on a device."""
    return (mask if isinstance(mask, MaskLayout) else lay_out(mask)).to(device)


def inference_layout(name: MaskName, length: int, current: int, device: torch.device) -> MaskLayout:
    """The layout of a named mask, which is made once; compiled and exported programs have one of their own.

    Args:
        name: of the mask.
        length: T.
        current: step that the mask is about.
        device: of the model that is asked.
    """
    if torch.compiler.is_compiling():
        return layout_of(TASK_MASKS[name](length, current), device)
    return _inference_layout(name, length, current, device)


@lru_cache(maxsize=256)
def _inference_layout(name: MaskName, length: int, current: int, device: torch.device) -> MaskLayout:
    return layout_of(TASK_MASKS[name](length, current), device)
