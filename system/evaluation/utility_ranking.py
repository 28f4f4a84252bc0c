"""Whether utilities rank candidates: their first actions are executed, and what comes of each is compared.

A plan is worth following as far as its utilities put the candidates in the order of the returns that their first
actions lead to. At states of played episodes the planner plans once; the first action of each of its candidates is
executed in a copy of the simulator, and a policy that does not plan goes on from there. The copy is the episode
played again, from its seed and its actions, so that it works for every environment that depends on nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped

from system.envs.vector import EnvironmentBatch
from system.evaluation.rollouts import Perceive, play_episodes
from system.planning.acting import Policy
from system.planning.history import History
from system.types import Episode, UtilityRanking

STATES_PER_EPISODE = 5

CANDIDATES_PER_COEFFICIENT = 8
FOLDS = 8
RIDGE = 3.0


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
    ranking = UtilityRanking([], [], None, num_candidates, num_states - len(states), [])
    horizon: int | None = None
    for start in range(0, len(states), together):
        chunk = states[start : start + together]
        copies = _Copies(environments, chunk, num_candidates, history_length, perceive)
        compared = copies.compare(planner, follower, follow_steps, discount, generator)
        for state, (actions, utilities, returns) in zip(chunk, compared, strict=True):
            _note(ranking, state, actions, utilities, returns)
        horizon = copies.horizon or horizon
    num_left_out = num_states - len(ranking.correlations)
    return replace(ranking, horizon=horizon, num_left_out=num_left_out)


def _note(
    ranking: UtilityRanking, state: _State, actions: np.ndarray, utilities: np.ndarray, returns: np.ndarray
) -> None:
    """Adds a state's candidates, if anything differs between them."""
    if len(returns) < 2 or np.ptp(utilities) == 0.0 or np.ptp(returns) == 0.0:
        return
    ranking.correlations.append(spearman(utilities, returns))
    possible = returns.max() - returns.mean()
    ranking.gain_shares.append(float((returns[utilities.argmax()] - returns.mean()) / possible))
    ranking.episodes.append(state.seed)
    expected = expected_linearly(actions, returns)
    if expected is not None and np.ptp(expected) > 0.0:
        ranking.reachable.append(spearman(expected, returns))


def expected_linearly(
    actions: Shaped[np.ndarray, "n *action"], returns: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n"] | None:
    """What a linear function of a state's first actions expects of each, fitted to candidates of other folds.

    How well this ranks is what a good utility could reach there: it is fitted to the very returns, at this state
    alone, and judged by those that it has not seen. What is left is not linear, or chance.

    Args:
        actions, returns: of the candidates of one state.

    Returns:
        None of discrete actions, and where there are fewer than `CANDIDATES_PER_COEFFICIENT` candidates for each
        coefficient.
    """
    if actions.ndim != 2 or len(actions) < CANDIDATES_PER_COEFFICIENT * (actions.shape[1] + 1):
        return None
    fold = np.arange(len(actions)) % FOLDS
    expected = np.zeros(len(actions))
    for held_out in range(FOLDS):
        known = fold != held_out
        mean, spread = actions[known].mean(0), actions[known].std(0) + 1e-9
        inputs, asked = (actions[known] - mean) / spread, (actions[~known] - mean) / spread
        level = returns[known].mean()
        gram = inputs.T @ inputs + RIDGE * np.eye(actions.shape[1])
        expected[~known] = level + asked @ np.linalg.solve(gram, inputs.T @ (returns[known] - level))
    return expected


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
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each state the first actions of its candidates, their utilities and their returns; none if it was not
        reached again."""
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
            chosen = kept[index][: len(copies)][sound]
            compared.append((first_actions[index, chosen], utilities[index, chosen], returns[copies][sound]))
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
