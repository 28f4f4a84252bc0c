"""Acting at random, whatever the form of the actions."""

import numpy as np
import torch
from jaxtyping import Int

from system.planning.acting import Decision, Policy
from system.planning.history import History
from system.types import TaskSpec


class RandomVectors:
    """Uniform actions in [−1, 1].

    Args:
        action_dim: A.
    """

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Ignores the history."""
        drawn = torch.rand(len(rows), self.action_dim, generator=generator, device=generator.device)
        return Decision.of(2.0 * drawn - 1.0)


class RandomButtons:
    """Uniform over the discrete actions that mean something.

    Args:
        valid_actions: their numbers.
    """

    def __init__(self, valid_actions: tuple[int, ...]) -> None:
        self.valid_actions = np.asarray(valid_actions, dtype=np.int64)

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Ignores the history."""
        chosen = torch.randint(len(self.valid_actions), (len(rows),), generator=generator, device=generator.device)
        return Decision(self.valid_actions[chosen.cpu().numpy()])


class WithRandomActions:
    """A policy some of whose decisions are replaced by any valid action: games that leave nothing to chance then
    differ from each other also where idle frames at their start change little.

    Args:
        policy: decides all the same, and tells its plan.
        valid_actions: of the game.
        share: how often its action is replaced, 0 to 1.
    """

    def __init__(self, policy: Policy, valid_actions: tuple[int, ...], share: float) -> None:
        self.policy = policy
        self.buttons = RandomButtons(valid_actions)
        self.share = share

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        """Draws from the generator after the policy did."""
        decision = self.policy.act(history, rows, generator)
        others = self.buttons.act(history, rows, generator)
        drawn = torch.rand(len(rows), generator=generator, device=generator.device).cpu().numpy()
        return Decision(np.where(drawn < self.share, others.action, decision.action), decision.plan)


def random_policy(task: TaskSpec) -> Policy:
    """Uniform over the actions of a task."""
    return RandomButtons(task.valid_actions) if task.is_discrete else RandomVectors(task.action_dim)
