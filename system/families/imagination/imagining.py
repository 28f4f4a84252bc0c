"""Imaginary augmentation: which recorded states could have gone better, and what the planner does from there.

    imagined    R_I(s_t) = Σ_{k<H} γᵏ R(ŝ_k, π(ŝ_k)) + γ^H V(ŝ_H), π the quasi-optimal policy's mode      eq. 17
    recorded    R_R(s_t) = Σ_{k<H} γᵏ r_{t+k} + γ^H V(s_{t+H})                                           eq. 18
    candidates  t with H_con recorded steps before it and H behind it                                    eq. 19
    chosen      of every episode the K largest R_I − R_R, K = min(⌊N_aug L / H⌋, candidates)             eqs. 20–22
    rollouts    algorithm 1: plan, act in the model, until H steps are made or the model is unsure       eqs. 23–25

Of the window of T steps that the transformer sees, H_con = T − H are left for the past.

Deviations from the paper, with the reason:

- V of eqs. 17 and 18 is discounted by γ^H, as eq. 25 has it: without it both sides count H steps too late;
- eq. 24 makes H − 1 actions, algorithm 1 H; the algorithm is followed;
- a step whose own disagreement is κ or more, that is not finite, or that lands farther from the data than
  `augmentation.largest_deviation` is left out, and the rollout ends before it; one that is expected to end the
  episode is the last one.

Source: Imaginary Planning Distillation, section 3.3, eqs. 17–25 and algorithm 1.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64

from system.config import RunConfig
from system.data.imagined_rollouts import ImaginedRollouts
from system.data.store.episodes import EpisodeStore, gather_transitions
from system.decisions import Context
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.disagreement import geometric_jensen_shannon
from system.families.imagination.reliable_world import ReliableWorld
from system.planning.registry import planner_named
from system.seeding import torch_generator

ENDS_AT = 0.5


@torch.no_grad()
def imagine(
    agent: ImaginationAgent,
    store: EpisodeStore,
    episodes: Sequence[int],
    config: RunConfig,
    seed: tuple[str | int, ...],
) -> ImaginedRollouts:
    """Imagines from the most promising states of some episodes.

    Args:
        agent: in evaluation mode.
        store: what was recorded.
        episodes: whose states are looked at.
        config: how much, how far and with which planner.
        seed: path within the run's seed: the outcome depends on it, the agent and the episodes alone.
    """
    chosen = [suboptimal_steps(agent, store, episode, config) for episode in episodes]
    episode = np.repeat(np.asarray(episodes, dtype=np.int64), [len(each) for each in chosen])
    step = np.concatenate([np.zeros(0, np.int64), *chosen])
    rows = store.step_offsets[episode] + step + episode
    starts = torch.tensor(np.asarray(store.observations[rows]), device=agent.device)
    generator = torch_generator(config.seed, "imagine", *seed, device=agent.device)
    return roll_out(agent, starts, config, generator).placed(episode, step)


@torch.no_grad()
def suboptimal_steps(
    agent: ImaginationAgent, store: EpisodeStore, episode: int, config: RunConfig
) -> Int64[np.ndarray, "K"]:
    """The steps of an episode from which imagination promises most beyond what was recorded, in order of time.

    Source: eqs. 17–22.
    """
    augmentation = config.method.augmentation
    horizon, length = augmentation.horizon, int(store.lengths[episode])
    candidates = np.arange(config.context_length - horizon, length - horizon + 1)
    count = min(int(augmentation.ratio * length / horizon), len(candidates))
    if count <= 0:
        return np.zeros(0, np.int64)
    recorded = recorded_returns(agent, store, episode, candidates, horizon, config.discount)
    first = int(store.step_offsets[episode]) + episode
    states = torch.tensor(np.asarray(store.observations[first + candidates]), device=agent.device)
    gap = imagined_returns(agent, states, horizon, config.discount).cpu().numpy() - recorded
    gap = np.where(np.isfinite(gap), gap, -np.inf)
    return np.sort(candidates[np.argsort(-gap, kind="stable")[:count]])


def imagined_returns(
    agent: ImaginationAgent, observations: Float[torch.Tensor, "B S"], horizon: int, discount: float
) -> Float[torch.Tensor, "B"]:
    """R_I of each state; rewards count as far as the episode is expected to go on until then.

    Source: eq. 17.
    """
    total = torch.zeros_like(observations[:, 0])
    lasting = torch.ones_like(total)
    for step in range(horizon):
        foresight = agent.world(observations, agent.values.policy(observations).mode())
        total = total + discount**step * lasting * foresight.rewards
        observations, lasting = foresight.mean, lasting * (1.0 - foresight.ends)
    return total + discount**horizon * lasting * agent.value(observations)


def recorded_returns(
    agent: ImaginationAgent,
    store: EpisodeStore,
    episode: int,
    steps: Int64[np.ndarray, "K"],
    horizon: int,
    discount: float,
) -> Float32[np.ndarray, "K"]:
    """R_R at some steps; behind a terminal state there is nothing, behind a truncation V.

    Source: eq. 18.
    """
    first, length = int(store.step_offsets[episode]), int(store.lengths[episode])
    rewards = store.rewards[first : first + length]
    ahead = np.lib.stride_tricks.sliding_window_view(rewards, horizon)[steps]
    reached = steps + horizon
    states = torch.tensor(np.asarray(store.observations[first + episode + reached]), device=agent.device)
    going_on = ~(bool(store.terminated[episode]) & (reached == length))
    values = np.where(going_on, agent.value(states).cpu().numpy(), 0.0)
    powers = discount ** np.arange(horizon)
    return (ahead @ powers + discount**horizon * values).astype(np.float32)


@dataclass(frozen=True)
class _Imagined:
    """Rollouts of which it is not said yet where they begin."""

    observations: Float[torch.Tensor, "M H1 S"]
    actions: Float[torch.Tensor, "M H A"]
    rewards: Float[torch.Tensor, "M H"]
    disagreements: Float[torch.Tensor, "M H"]
    lengths: Int64[np.ndarray, "M"]
    terminated: Bool[np.ndarray, "M"]
    counts: Counter[str]

    def placed(self, episode: Int64[np.ndarray, "M"], step: Int64[np.ndarray, "M"]) -> ImaginedRollouts:
        """Those with any step, as arrays."""
        kept = self.lengths > 0
        names = ("observations", "actions", "rewards", "disagreements")
        arrays = {name: getattr(self, name).cpu().numpy().astype(np.float32)[kept] for name in names}
        return ImaginedRollouts(
            **arrays,
            lengths=self.lengths[kept],
            terminated=self.terminated[kept],
            episodes=episode[kept],
            steps=step[kept],
            counts=dict(self.counts),
        )


def roll_out(
    agent: ImaginationAgent, starts: Float[torch.Tensor, "M S"], config: RunConfig, generator: torch.Generator
) -> _Imagined:
    """Algorithm 1 from every start at once; rollouts that were cut are not planned for any more."""
    augmentation, horizon = config.method.augmentation, config.method.augmentation.horizon
    count, (states, inputs) = len(starts), (starts.shape[-1], agent.task.action_dim)
    observations, actions = starts.new_zeros(count, horizon + 1, states), starts.new_zeros(count, horizon, inputs)
    rewards, disagreements = starts.new_zeros(2, count, horizon)
    lengths, terminated = np.zeros(count, np.int64), np.zeros(count, bool)
    observations[:, 0] = starts
    decide = _decider(agent, config)
    counts: Counter[str] = Counter({name: 0 for name in ("unreliable", "exploded", "not_finite", "terminated")})
    counts["begun"] = count
    alive = np.arange(count)
    for step in range(horizon):
        if not len(alive):
            break
        rows = torch.from_numpy(alive).to(starts.device)
        here = observations[rows, step]
        action = decide(here, generator)
        foresight = agent.world(here, action)
        following = foresight.mean
        disagreement = geometric_jensen_shannon(foresight.means, foresight.variances)
        kept = _kept(agent, disagreement, following, foresight.rewards, augmentation.largest_deviation, counts)
        rows, alive = rows[kept], alive[kept.cpu().numpy()]
        actions[rows, step], rewards[rows, step] = action[kept], foresight.rewards[kept]
        disagreements[rows, step], observations[rows, step + 1] = disagreement[kept], following[kept]
        lengths[alive] += 1
        ended = (foresight.ends[kept] > ENDS_AT).cpu().numpy()
        terminated[alive[ended]] = True
        counts["terminated"] += int(ended.sum())
        alive = alive[~ended]
    counts["whole"] = len(alive)
    return _Imagined(observations, actions, rewards, disagreements, lengths, terminated, counts)


def _kept(
    agent: ImaginationAgent,
    disagreement: Float[torch.Tensor, "M"],
    following: Float[torch.Tensor, "M S"],
    rewards: Float[torch.Tensor, "M"],
    largest_deviation: float,
    counts: Counter[str],
) -> Bool[torch.Tensor, "M"]:
    """Which steps may be stored; each of the others is counted under its first fault."""
    finite = torch.isfinite(disagreement) & torch.isfinite(rewards) & torch.isfinite(following).all(-1)
    world = agent.world
    deviation = ((following - world.observation_mean) / world.observation_std).abs().amax(-1)
    near = finite & (deviation <= largest_deviation)
    kept = near & (disagreement < agent.reliable_disagreement)
    totals = [int(each.sum()) for each in (~finite, finite & ~near, near & ~kept)]
    for name, total in zip(("not_finite", "exploded", "unreliable"), totals, strict=True):
        counts[name] += total
    return kept


def _decider(
    agent: ImaginationAgent, config: RunConfig
) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """What acts in the model: the configured planner, or the quasi-optimal policy alone."""
    planner = config.planner
    if config.method.augmentation.rollouts == "greedy" or planner.horizon == 0:
        return lambda observations, generator: agent.values.policy(observations).mode()
    plan, model = planner_named(planner.name).load(), ReliableWorld(agent, config.discount, planner.actor_spread)

    def decide(observations: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        valid = torch.ones_like(observations[:, :1], dtype=torch.bool)
        nothing = observations.new_zeros(len(observations), 0, agent.task.action_dim)
        context = Context(observations[:, None], nothing, valid, observations.new_zeros(len(observations)))
        action: torch.Tensor = plan(model, context, config=planner, generator=generator).action
        return action

    return decide


@torch.no_grad()
def reliable_disagreement(
    agent: ImaginationAgent, held_out: EpisodeStore, quantile: float, most: int = 20_000
) -> float:
    """κ: a quantile of the members' disagreement about steps that they were not trained on.

    Args:
        agent: its world model.
        held_out: at least one step.
        quantile: in [0, 1].
        most: steps that are looked at, evenly spread.
    """
    rows = np.unique(np.linspace(0, held_out.num_steps - 1, min(most, held_out.num_steps)).astype(np.int64))
    episode = np.searchsorted(held_out.step_offsets, rows, side="right") - 1
    batch = gather_transitions(held_out, episode, rows - held_out.step_offsets[episode])
    parts = []
    for first in range(0, len(rows), 4096):
        part = slice(first, first + 4096)
        foresight = agent.world(
            torch.tensor(batch.observations[part], device=agent.device),
            torch.tensor(batch.actions[part], device=agent.device),
        )
        parts.append(geometric_jensen_shannon(foresight.means, foresight.variances))
    return float(torch.cat(parts).cpu().quantile(quantile)) if len(rows) else float("inf")
