"""What the learners share: optimisers as flat, named tensors (for checkpoints), groups, rates, precision."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

AverageGradients = Callable[[Iterable[nn.Parameter]], None]


def keep_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The gradient hook of a lone learner: nothing to average."""


def flatten_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, torch.Tensor]:
    """Moments and step counts of every parameter, named `prefix.<index>.<quantity>`."""
    flat = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for name, value in entry.items():
            flat[f"{prefix}.{index}.{name}"] = value.detach().clone()
    return flat


def restore_optimizer(optimizer: torch.optim.Optimizer, prefix: str, flat: Mapping[str, torch.Tensor]) -> None:
    """Puts back what `flatten_optimizer` took; an optimiser that had made no step stays fresh."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        if key.startswith(prefix + "."):
            index, name = key[len(prefix) + 1 :].split(".")
            state.setdefault(int(index), {})[name] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def step_if_finite(optimizer: torch.optim.Optimizer, gradient_norm: torch.Tensor) -> bool:
    """One step, unless the gradient is NaN or infinite: weights and moments then stay as they are.

    Args:
        optimizer: of parameters with gradients, averaged over learners, so that all of them decide alike.
        gradient_norm: of these.

    Returns:
        Whether the step was made.
    """
    is_finite = bool(torch.isfinite(gradient_norm))
    if is_finite:
        optimizer.step()
    return is_finite


def step_where_finite(optimizer: torch.optim.Optimizer, gradient_norm: torch.Tensor) -> torch.Tensor:
    """`step_if_finite` of a fused optimiser, without waiting for the device to say whether the gradient is.

    Returns:
        Whether the step was made, on the gradient's device.
    """
    is_finite = torch.isfinite(gradient_norm)
    vars(optimizer)["found_inf"] = (~is_finite).float()  # which `torch.amp.GradScaler` sets as well
    optimizer.step()
    del vars(optimizer)["found_inf"]
    return is_finite


@torch.no_grad()
def move_towards(
    targets: Iterable[torch.Tensor], newest: Iterable[torch.Tensor], share: torch.Tensor
) -> None:
    """target ← target + share · (newest − target), in place.

    Args:
        targets, newest: in the same order.
        share: one number, on their device.
    """
    moved = list(targets)
    differences = torch._foreach_sub(list(newest), moved)
    torch._foreach_mul_(differences, share)
    torch._foreach_add_(moved, differences)


def has_fused_steps(device: torch.device) -> bool:
    """Whether optimisers can be fused there; they can't on torch's `meta` device, whose tensors have no values."""
    return device.type in ("cpu", "cuda")


def rates_as_tensors(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Learning rates that recorded work reads anew at every replay, in place of numbers that it would keep."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"], device=device)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Of all groups; a rate that recorded work reads is changed where it lies."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def rate_factor(step: int, *, warmup_steps: int, total_steps: int, final_fraction: float) -> float:
    """Linear warm-up to 1, then half a cosine down to `final_fraction`; 1 leaves it at 1.

    Args:
        step: update step, from 0; from `total_steps` on the end value holds.
        warmup_steps: the first ones, of which the last has the whole rate.
        total_steps: warm-up and cosine together.
        final_fraction: 0 to 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + math.cos(math.pi * progress))


def decayed_groups(
    module: nn.Module, weight_decay: float, without: Iterable[nn.Parameter] = ()
) -> list[dict[str, object]]:
    """Parameter groups with decay on matrices of linear layers, those of ensembles among them, only.

    Args:
        module: whose parameters.
        weight_decay: of the matrices.
        without: parameters that another optimiser has.
    """
    left_out = {id(parameter) for parameter in without}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if id(parameter) in left_out:
            continue
        is_matrix = parameter.ndim >= 2 and name.endswith("weight")
        (decayed if is_matrix else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def mixed_precision(precision: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass: bfloat16 where it is asked for, or on a GPU when left to `auto`."""
    enabled = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def full_precision(device: torch.device) -> torch.autocast:
    """The context of what stays float32 within `mixed_precision`."""
    return torch.autocast(device.type, enabled=False)
