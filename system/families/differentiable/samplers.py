"""Conditional samplers of a vector x given a condition c: one step of a mean flow, or a few of denoising.

Both turn standard normal ε into a draw, x = x(c, ε), with a gradient in c and ε.

mean flow     z_t = (1 − t) x + t ε, v = ε − x. A network gives the mean velocity between two times,
              u(z_t, r, t | c), and learns u = v − (t − r) du/dt, the derivative along the flow being taken
              forward and the target held; at r = t that is flow matching. A draw is x = ε − u(ε, 0, 1).
denoising     z_k = √ᾱ_k x + √(1 − ᾱ_k) ε. A network gives ε; a draw goes deterministically through a few of
              the levels: x̂ = (z − √(1 − ᾱ) ε̂) / √ᾱ, then on to the next lower level with the same ε̂.

Deviations from the papers: times of the mean flow are uniform and its error is squared, without weights; x̂ of
denoising is kept within ±`LARGEST`, without which the first of few steps divides a small error by √ᾱ ≈ 0.

Source: "Mean Flows for One-step Generative Modeling", arXiv 2505.13447, eqs. 10–11; "Denoising Diffusion Implicit
Models", arXiv 2010.02502, eq. 12.
"""

import math
from typing import Protocol

import torch
from jaxtyping import Float
from torch import nn

LARGEST = 10.0
FREQUENCIES = 8


class Sampler(Protocol):
    """Draws vectors given others, and learns to."""

    def sample(
        self, condition: Float[torch.Tensor, "*B C"], noise: Float[torch.Tensor, "*B S"]
    ) -> Float[torch.Tensor, "*B S"]:
        """A draw for each row of ε."""
        ...

    def errors(
        self,
        condition: Float[torch.Tensor, "B C"],
        target: Float[torch.Tensor, "B S"],
        noise: Float[torch.Tensor, "B S"],
        times: Float[torch.Tensor, "B 3"],
    ) -> Float[torch.Tensor, "B"]:
        """What is to be minimised, of each row; `noise` is standard normal, `times` uniform."""
        ...


class _TimedNetwork(nn.Module):
    """A perceptron of condition, a noisy vector and times in [0, 1]."""

    frequencies: torch.Tensor

    def __init__(self, condition_dim: int, dim: int, num_times: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(FREQUENCIES // 2), persistent=False)
        inputs = condition_dim + dim + num_times * FREQUENCIES
        hidden: list[nn.Module] = []
        for size in (inputs, *[width] * (layers - 1)):
            hidden += [nn.Linear(size, width), nn.SiLU()]
        self.network = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, condition: torch.Tensor, noisy: torch.Tensor, *times: torch.Tensor) -> torch.Tensor:
        embedded = []
        for time in times:
            angles = time.unsqueeze(-1) * self.frequencies
            embedded += [angles.sin(), angles.cos()]
        return self.network(torch.cat([condition, noisy, *embedded], dim=-1))

    @torch.no_grad()
    def derivative(
        self, condition: torch.Tensor, noisy: torch.Tensor, times: list[torch.Tensor], flow: torch.Tensor
    ) -> torch.Tensor:
        """d/dτ of the output where `noisy` moves by `flow` and the last of the times by 1, layer by layer.

        As `torch.func.jvp` has it, but for that being of one thread at a time.
        """
        embedded, moves = [], []
        for index, time in enumerate(times):
            angles = time.unsqueeze(-1) * self.frequencies
            embedded += [angles.sin(), angles.cos()]
            rate = self.frequencies if index == len(times) - 1 else torch.zeros_like(self.frequencies)
            moves += [angles.cos() * rate, -angles.sin() * rate]
        value = torch.cat([condition, noisy, *embedded], dim=-1)
        move = torch.cat([torch.zeros_like(condition), flow, *moves], dim=-1)
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                value, move = layer(value), move @ layer.weight.T
            else:
                gate = value.sigmoid()
                value, move = value * gate, move * gate * (1.0 + value * (1.0 - gate))
        return move


class MeanFlow(nn.Module):
    """Draws in one step.

    Args:
        condition_dim, dim: C and S.
        width, layers: of the network.
        average_share: of the rows, those whose two times differ.
    """

    def __init__(self, condition_dim: int, dim: int, *, width: int, layers: int, average_share: float) -> None:
        super().__init__()
        self.velocity = _TimedNetwork(condition_dim, dim, 2, width=width, layers=layers)
        self.average_share = average_share

    def sample(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x = ε − u(ε, 0, 1)."""
        zero = torch.zeros_like(noise[..., 0])
        return noise - self.velocity(condition, noise, zero, zero + 1.0)

    def errors(
        self, condition: torch.Tensor, target: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        """Squared errors of the mean velocity, summed over dimensions and divided by their number."""
        early, late = times[:, :2].amin(1), times[:, :2].amax(1)
        early = torch.where(times[:, 2] < self.average_share, early, late)
        flow = noise - target
        noisy = target + late[:, None] * flow
        derivative = self.velocity.derivative(condition, noisy, [early, late], flow)
        wanted = flow - (late - early)[:, None] * derivative
        return (self.velocity(condition, noisy, early, late) - wanted).square().mean(-1)


class Denoiser(nn.Module):
    """Draws by a few deterministic steps of denoising.

    Args:
        condition_dim, dim: C and S.
        width, layers: of the network.
        num_levels: of noise, with β linear from 1e-4 to 2e-2 at 1000 levels, and as much in all at others.
        num_steps: of a draw.
    """

    kept: torch.Tensor

    def __init__(
        self, condition_dim: int, dim: int, *, width: int, layers: int, num_levels: int, num_steps: int
    ) -> None:
        super().__init__()
        self.noise = _TimedNetwork(condition_dim, dim, 1, width=width, layers=layers)
        scale = 1000.0 / num_levels
        betas = torch.linspace(scale * 1e-4, min(scale * 2e-2, 0.999), num_levels, dtype=torch.float64)
        self.register_buffer("kept", torch.cumprod(1.0 - betas, 0).float(), persistent=False)
        levels = torch.linspace(num_levels - 1, 0, num_steps + 1)[:-1].round().long()
        self.levels: list[int] = levels.tolist()

    def sample(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """From ε at the highest level down to no noise."""
        noisy = noise
        for index, level in enumerate(self.levels):
            kept = self.kept[level]
            time = torch.full_like(noise[..., 0], (level + 1) / len(self.kept))
            found = self.noise(condition, noisy, time)
            clean = ((noisy - (1.0 - kept).sqrt() * found) / kept.sqrt()).clamp(-LARGEST, LARGEST)
            if index == len(self.levels) - 1:
                return clean
            left = self.kept[self.levels[index + 1]]
            noisy = left.sqrt() * clean + (1.0 - left).sqrt() * found
        return noisy

    def errors(
        self, condition: torch.Tensor, target: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        """Squared errors of ε at one level for each row, the mean over dimensions."""
        level = (times[:, 0] * len(self.kept)).long().clamp(max=len(self.kept) - 1)
        kept = self.kept[level][:, None]
        noisy = kept.sqrt() * target + (1.0 - kept).sqrt() * noise
        found = self.noise(condition, noisy, (level + 1).to(target) / len(self.kept))
        return (found - noise).square().mean(-1)
