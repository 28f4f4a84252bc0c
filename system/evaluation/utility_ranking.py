"""Whether utilities rank candidates: their first actions are executed, and what comes of each is compared.

A plan is worth following as far as its utilities put the candidates in the order of the returns that their first
actions lead to. At states of played episodes the planner plans once; the first action of each of its candidates is
executed in a copy of the simulator, and a policy that does not plan goes on from there. The copy is the episode
played again, from its seed and its actions, so that it works for every environment that depends on nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from system.envs.vector import EnvironmentBatch
from system.evaluation.rollouts import Perceive, play_episodes
from system.planning.acting import Policy
from system.planning.history import History
from system.types import Episode, UtilityRanking

STATES_PER_EPISODE = 5


@dataclass(frozen=True)
class _State:
    seed: int
    step: int
    episode: Episode


def rank_utilities(
    planner: Policy,
    follower: Policy,
    environments: EnvironmentBatch,
    *,
    num_states: int,
    num_candidates: int,
    follow_steps: int,
    discount: float,
    first_seed: int,
    history_length: int,
    generator: torch.Generator,
    perceive: Perceive | None = None,
) -> UtilityRanking:
    """Compares a planner's utilities with the returns that its candidates lead to.

    Args:
        planner: plays the episodes whose states are looked at, and plans there; its decisions hold plans.
        follower: acts after a candidate's first action.
        environments: copies that are used together, at least `num_candidates`.
        num_states: looked at, `STATES_PER_EPISODE` of an episode.
        num_candidates: of those of a plan, the first so many whose utility is finite.
        follow_steps: steps after the first action whose rewards count.
        discount: γ of the returns.
        first_seed: of the episodes; of the choice of states too.
        history_length, generator, perceive: as in `play_episodes`.
    """
    seeds = [first_seed + number for number in range(-(-num_states // STATES_PER_EPISODE))]
    play = play_episodes(
        planner, environments, seeds, history_length=history_length, generator=generator, perceive=perceive
    )
    episodes = [(seeds[played.position], played.episode) for played in play.episodes]
    states = _choose_states(episodes, num_states, np.random.default_rng(first_seed))
    together = max(1, environments.num_environments // num_candidates)
    correlations, shares, left_out = [], [], num_states - len(states)
    horizon: int | None = None
    for start in range(0, len(states), together):
        copies = _Copies(environments, states[start : start + together], num_candidates, history_length, perceive)
        for utilities, returns in copies.compare(planner, follower, follow_steps, discount, generator):
            if len(returns) < 2 or np.ptp(utilities) == 0.0 or np.ptp(returns) == 0.0:
                left_out += 1
                continue
            correlations.append(spearman(utilities, returns))
            possible = returns.max() - returns.mean()
            shares.append(float((returns[utilities.argmax()] - returns.mean()) / possible))
        horizon = copies.horizon or horizon
    return UtilityRanking(correlations, shares, horizon, num_candidates, left_out)


def spearman(first: Float[np.ndarray, "n"], second: Float[np.ndarray, "n"]) -> float:
    """Correlation of ranks, equal values sharing theirs; in [−1, 1].

    Args:
        first, second: neither of them constant.
    """
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def _choose_states(
    episodes: Sequence[tuple[int, Episode]], count: int, generator: np.random.Generator
) -> list[_State]:
    """Steps of each episode that something follows, evenly drawn and without repetition."""
    states = []
    for seed, episode in episodes:
        steps = generator.permutation(episode.num_steps)[:STATES_PER_EPISODE]
        states += [_State(seed, int(step), episode) for step in np.sort(steps)]
    return states[:count]


class _Copies:
    """Every state once for each of its candidates, the simulators and what is remembered of them.

    Args:
        environments, num_candidates, history_length, perceive: as in `rank_utilities`.
        states: as many as there is room for.

    Attributes:
        horizon: actions of the candidates compared last; None where the plan does not tell.
    """

    def __init__(
        self,
        environments: EnvironmentBatch,
        states: Sequence[_State],
        num_candidates: int,
        history_length: int,
        perceive: Perceive | None,
    ) -> None:
        self.environments = environments
        self.states = states
        self.per_state = num_candidates
        self.horizon: int | None = None
        self.perceive: Callable[[np.ndarray], np.ndarray] = perceive or (lambda shown: shown)
        first = np.stack([state.episode.observations[0] for state in states])
        self.history = History.of_task(environments.task, environments.num_environments, history_length, first)

    def compare(
        self, planner: Policy, follower: Policy, follow_steps: int, discount: float, generator: torch.Generator
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each state the utilities of its candidates and their returns; none if it was not reached again."""
        reached = self._play_again()
        places = np.arange(len(self.states)) * self.per_state
        plan = planner.act(self.history, places, generator).plan
        assert plan is not None, "a policy that plans says so"
        self.horizon = None if plan.imagined_rewards is None else plan.imagined_rewards.shape[-1]
        utilities = plan.utilities.float().cpu().numpy()
        first_actions = plan.first_actions.cpu().numpy()
        kept = [np.flatnonzero(np.isfinite(row))[: self.per_state] for row in utilities]
        rows = [place + np.arange(len(each)) for place, each in zip(places, kept, strict=True)]
        actions = self._no_actions()
        for index, (candidates, copies) in enumerate(zip(kept, rows, strict=True)):
            actions[copies] = first_actions[index, candidates]
        rows = [copies[: len(copies) * bool(there)] for copies, there in zip(rows, reached, strict=True)]
        running = np.concatenate(rows)
        returns = self._follow(actions, running, follower, follow_steps, discount, generator)
        compared = []
        for index, copies in enumerate(rows):
            sound = np.isfinite(returns[copies])
            compared.append((utilities[index, kept[index][: len(copies)]][sound], returns[copies][sound]))
        return compared

    def _play_again(self) -> np.ndarray:
        """Brings every copy to its state; tells which states look as they did."""
        count = len(self.states) * self.per_state
        owners = [state for state in self.states for _ in range(self.per_state)]
        shown = self.environments.reset(range(count), [state.seed for state in owners])
        self.history.reset(range(count), np.stack([state.episode.observations[0] for state in owners]))
        steps = np.array([state.step for state in owners])
        lost = np.zeros(count, dtype=bool)
        active = np.zeros(self.environments.num_environments, dtype=bool)
        for step in range(steps.max()):
            active[:count] = step < steps
            rows = np.flatnonzero(active)
            actions, observed = self._no_actions(), np.zeros_like(self.history.observations[:, -1])
            for row in rows:
                actions[row] = owners[row].episode.actions[step]
                observed[row] = owners[row].episode.observations[step + 1]
            stepped = self.environments.step(actions, active)[0]
            shown[rows] = stepped[rows]
            lost[rows] |= self.environments.errors[rows]
            self.history.append(actions, observed, active)
        there = []
        for place, state in zip(range(0, count, self.per_state), self.states, strict=True):
            seen = state.episode.observations if state.episode.frames is None else state.episode.frames
            copies = slice(place, place + self.per_state)
            there.append(not lost[copies].any() and bool((shown[copies] == seen[state.step]).all()))
        return np.array(there)

    def _follow(
        self,
        actions: np.ndarray,
        running: np.ndarray,
        follower: Policy,
        follow_steps: int,
        discount: float,
        generator: torch.Generator,
    ) -> np.ndarray:
        """Discounted returns of the first actions, by row; NaN where the environment failed."""
        returns, weight = np.zeros(len(self.history.steps)), 1.0
        for _ in range(1 + follow_steps):
            if not len(running):
                break
            active = np.isin(np.arange(len(returns)), running)
            shown, rewards, terminated, truncated = self.environments.step(actions, active)
            returns[running] += weight * rewards[running]
            returns[self.environments.errors] = np.nan
            weight *= discount
            observed = np.zeros_like(self.history.observations[:, -1])
            sound = running[~self.environments.errors[running]]
            if len(sound):
                observed[sound] = self.perceive(shown[sound])
            self.history.append(actions, observed, active)
            running = sound[~(terminated | truncated)[sound]]
            if len(running):
                actions = self._no_actions()
                actions[running] = follower.act(self.history, running, generator).action
        return returns

    def _no_actions(self) -> np.ndarray:
        return np.zeros((len(self.history.steps), *self.history.actions.shape[2:]), self.history.actions.dtype)
