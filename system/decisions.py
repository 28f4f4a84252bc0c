"""What a planner is asked and what it answers, in tensors; the axis letters are those of `system.types`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped

Carry = Mapping[str, torch.Tensor] | None
"""What a planner hands on, of one environment, to its next decision in the same episode; None: nothing."""


@dataclass(frozen=True)
class GoalStates:
    """What each of B environments is to reach, in the task's own units.

    Attributes:
        values: of the state to reach; zeros where not `named`.
        named: the dimensions that the goal is about; the others may be anything.
        steps_left: until it is due, at least 1; `UNTIMED` where it may take as long as it likes.
    """

    values: Float[torch.Tensor, "B S"]
    named: Bool[torch.Tensor, "B S"]
    steps_left: Int64[torch.Tensor, "B"]


UNTIMED = 2**31 - 1
"""Steps left to reach what has no deadline."""


@dataclass(frozen=True)
class Context:
    """What a planner sees of B environments at one decision, in the task's own units.

    Attributes:
        observations: the last T observations, the current one last; zeros where not `valid`.
        actions: the T−1 actions between them: vectors, or int64 numbers of discrete ones.
        valid: False before the episode's first step.
        target_return: the return-to-go to ask for at the current step.
        goal: what is to be reached; None where nothing in particular.
        carry: of each environment what the latest plan of its episode handed on; empty where no planner does.
    """

    observations: Float[torch.Tensor, "B T S"]
    actions: Shaped[torch.Tensor, "B T-1 *action"]
    valid: Bool[torch.Tensor, "B T"]
    target_return: Float[torch.Tensor, "B"]
    goal: GoalStates | None = None
    carry: tuple[Carry, ...] = ()


@dataclass(frozen=True)
class TokenContext:
    """What a planner over frame tokens sees of B environments at one decision.

    Attributes:
        tokens: of the last T frames, the current one last; zeros where not `valid`.
        actions: the T−1 actions between them.
        valid: False before the episode's first step.
        game: of each environment, as in `TaskSpec`.
        valid_actions: the actions that each environment's game knows; at least one.
    """

    tokens: Int64[torch.Tensor, "B T K"]
    actions: Int64[torch.Tensor, "B T-1"]
    valid: Bool[torch.Tensor, "B T"]
    game: Int64[torch.Tensor, "B"]
    valid_actions: Bool[torch.Tensor, "B A"]


@dataclass(frozen=True)
class Plan:
    """A decision and everything it was based on, batched over B environments.

    Attributes:
        action: what to execute; of discrete plans the number of the action.
        first_actions: the candidates' first actions; of beam search each of the A actions once.
        probabilities: P[i] of eq. 4 (rows sum to 1).
        utilities: U^i of eq. 3.
        selected: index of the executed candidate, −1 where the action is an expectation or a vote.
        imagined_observations: predicted o_t … o_{t+H−1} of each candidate, the true o_t first, of beam search
            and of a path to a goal o_{t+H} too; None where nothing was imagined.
        imagined_rewards: predicted r_t … of each candidate; None likewise.
        imagined_actions: what each candidate of a beam search goes on with, −1 where it has come to an end;
            None of other planners, and likewise.
        imagined_terminated: the last of these actions is expected to end the episode; None likewise.
        carry: of each environment what the next decision of its episode is to be given; empty: nothing.
        fell_back: the search came to nothing that can be used, and what it began with is executed; None of
            planners that refuse instead.
    """

    action: Shaped[torch.Tensor, "B *action"]
    first_actions: Shaped[torch.Tensor, "B N *action"]
    probabilities: Float[torch.Tensor, "B N"]
    utilities: Float[torch.Tensor, "B N"]
    selected: Int[torch.Tensor, "B"]
    imagined_observations: Shaped[torch.Tensor, "B N frames *observation"] | None = None
    imagined_rewards: Float[torch.Tensor, "B N H"] | None = None
    imagined_actions: Int[torch.Tensor, "B N H"] | None = None
    imagined_terminated: Bool[torch.Tensor, "B N"] | None = None
    carry: tuple[Carry, ...] = ()
    fell_back: Bool[torch.Tensor, "B"] | None = None
