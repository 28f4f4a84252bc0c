"""A policy that decides in one pass, as a program of torch alone (`torch.export`), checked against the policy.

    program = torch.export.load("one_pass.pt2").module()
    actions = program(observations, actions, valid, steps)

    observations [B, T, …]   the newest T that the environment showed, the current one last; zeros before the first
    actions      [B, T−1, …] what was done between them, in the environment's own bounds, or numbers
    valid        [B, T]      False before the episode's first step
    steps        [B]         of the episode so far: 0 at its first observation

What it gives is in the environment's own bounds, too.
"""

import copy
import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import nn

from system.errors import SystemFailure
from system.planning.history import History
from system.types import TaskSpec

TOLERANCE = 1e-5

Windows = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class InOwnBounds(nn.Module):
    """A program over actions in [−1, 1] as one over the environment's own.

    Args:
        program: of the family.
        task: with the bounds.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, program: nn.Module, task: TaskSpec) -> None:
        super().__init__()
        self.program = program
        self.is_discrete = task.is_discrete
        self.action_start = task.action_start
        self.register_buffer("low", torch.tensor(task.action_low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(task.action_high, dtype=torch.float32))

    def forward(
        self,
        observations: Shaped[torch.Tensor, "B T *observation"],
        actions: Shaped[torch.Tensor, "B T-1 *action"],
        valid: Bool[torch.Tensor, "B T"],
        steps: Int64[torch.Tensor, "B"],
    ) -> Shaped[torch.Tensor, "B *action"]:
        """One decision of B environments."""
        if self.is_discrete:
            past = (actions - self.action_start) * valid[:, :-1]
            return self.program(observations, past, valid, steps) + self.action_start
        past = 2.0 * (actions - self.low) / (self.high - self.low) - 1.0
        chosen = self.program(observations, torch.where(valid[:, :-1, None], past, 0.0), valid, steps)
        return self.low + 0.5 * (chosen.clamp(-1.0, 1.0) + 1.0) * (self.high - self.low)


def windows_of(
    task: TaskSpec,
    observations: Shaped[np.ndarray, "L *observation"],
    actions: Shaped[np.ndarray, "L *action"],
    length: int,
) -> Windows:
    """What a program is given at each step of an episode's beginning.

    Args:
        task: with the form of the actions.
        observations: as the environment shows them.
        actions: that are decided at them, in the environment's own bounds.
        length: T.
    """
    history = History.of_task(task, 1, length, observations[:1])
    history.reset([0], observations[:1])
    rows: list[Sequence[np.ndarray]] = []
    for step in range(len(observations)):
        if step:
            history.append(actions[step - 1 : step], observations[step : step + 1], np.ones(1, bool))
        window = (history.observations, history.actions, history.valid, history.steps)
        rows.append([each.copy() for each in window])
    seen, done, valid, steps = (torch.from_numpy(np.concatenate(column)) for column in zip(*rows, strict=True))
    return seen, done, valid, steps


def export_program(program: nn.Module, task: TaskSpec, example: Windows, decided: np.ndarray) -> bytes:
    """The program as a file's content.

    Args:
        program: of the family.
        task: with the bounds.
        example: windows of at least two steps.
        decided: what the policy does at each of them, in the environment's own bounds.

    Raises:
        SystemFailure: the program does otherwise.
    """
    whole = copy.deepcopy(InOwnBounds(program, task)).eval().requires_grad_(False)
    environments = torch.export.Dim("environments", min=1)
    exported = torch.export.export(whole, example, dynamic_shapes=tuple({0: environments} for _ in example))
    content = io.BytesIO()
    torch.export.save(exported, content)
    content.seek(0)
    loaded = torch.export.load(content).module()
    for rows in (slice(None), slice(0, 1)):
        done = loaded(*(each[rows] for each in example)).numpy()
        if not np.allclose(done, decided[rows], rtol=0.0, atol=TOLERANCE * max(1.0, np.abs(decided).max())):
            raise SystemFailure("the exported program does not decide as the policy does, so it was not written")
    return content.getvalue()
