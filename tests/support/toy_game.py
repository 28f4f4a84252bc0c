"""A small game with known transitions behind the planner's protocol, and its exhaustive solution."""

from dataclasses import dataclass

import torch

from system.decisions import TokenContext


@dataclass(frozen=True)
class _States:
    """Which state each row stands at, and which game it plays."""

    state: torch.Tensor
    game: torch.Tensor


class ToyGame:
    """Deterministic transitions and normal rewards drawn at random; some steps end the episode.

    Args:
        num_states, num_actions: S and A.
        seed: of the tables.
        invalid: actions that are invalid in game 1; in game 0 all are valid.
    """

    def __init__(
        self, num_states: int = 12, num_actions: int = 3, seed: int = 0, invalid: tuple[int, ...] = (1,)
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (num_states, num_actions)
        self.discount = 0.9
        self.next_state = torch.randint(num_states, shape, generator=generator)
        self.rewards = torch.randn(shape, generator=generator)
        self.ends = torch.rand(shape, generator=generator) < 0.2
        self.values = 4.0 * torch.randn(shape, generator=generator)
        self.valid = torch.ones(2, num_actions, dtype=torch.bool)
        self.valid[1, list(invalid)] = False
        self.rows_stepped: list[int] = []

    def context(self, states: list[int], games: list[int] | None = None) -> TokenContext:
        """Environments that stand at these states, of a game each."""
        game = torch.tensor(games or [0] * len(states))
        return TokenContext(
            tokens=torch.tensor(states)[:, None, None],
            actions=torch.zeros(len(states), 0, dtype=torch.int64),
            valid=torch.ones(len(states), 1, dtype=torch.bool),
            game=game,
            valid_actions=self.valid[game],
        )

    def begin(self, context: TokenContext) -> tuple[_States, torch.Tensor]:
        """One row for each environment."""
        carry = _States(context.tokens[:, -1, 0], context.game)
        return carry, self._q(carry)

    def step(
        self, carry: _States, parents: torch.Tensor, actions: torch.Tensor
    ) -> tuple[_States, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Looks the tables up; what is not a number marks the values of ended episodes, which mean nothing."""
        self.rows_stepped.append(len(parents))
        state, game = carry.state[parents], carry.game[parents]
        if not bool(self.valid[game, actions].all()):
            raise ValueError("an invalid action was tried")
        ended = self.ends[state, actions]
        following = _States(self.next_state[state, actions], game)
        values = self._q(following).masked_fill(ended[:, None], torch.nan)
        return following, self.rewards[state, actions], ended, values

    def observations(self, carry: _States) -> torch.Tensor:
        """The state as the one token of a frame."""
        return carry.state[:, None]

    def _q(self, carry: _States) -> torch.Tensor:
        return self.values[carry.state].masked_fill(~self.valid[carry.game], -torch.inf)

    def exhaustive(self, state: int, game: int, horizon: int) -> list[tuple[float, list[int]]]:
        """Of every first action the largest total of eq. 12 over all continuations, and the states on the way."""
        totals = []
        for action in range(len(self.valid[game])):
            if not self.valid[game, action]:
                totals.append((-torch.inf, [0] * (horizon + 1)))
                continue
            total, path = self._after(state, action, game, horizon)
            totals.append((total, [state, *path]))
        return totals

    def _after(self, state: int, action: int, game: int, horizon: int) -> tuple[float, list[int]]:
        """The reward of a step and the best of what may follow it, with the `horizon` states it leads to."""
        reward, following = self.rewards[state, action].item(), int(self.next_state[state, action])
        if self.ends[state, action]:
            return reward, [following] * horizon
        valid = [other for other in range(len(self.valid[game])) if self.valid[game, other]]
        if horizon == 1:
            best = max(self.values[following, other].item() for other in valid)
            return reward + self.discount * best, [following]
        total, path = max(
            (self._after(following, other, game, horizon - 1) for other in valid), key=lambda pair: pair[0]
        )
        return reward + self.discount * total, [following, *path]
