"""What the world model imagines of held-out episodes' actions against what happened, and how sure it is of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore, gather_segments
from system.data.store.statistics import SMALLEST_STD
from system.documents.canvas import new_axes, save_figure
from system.families.differentiable.agent import WorldModelAgent
from system.seeding import numpy_generator, torch_generator

NUM_STARTS = 256
NUM_FUTURES = 32
LONGEST = 16
COVERED = 0.8


@dataclass(frozen=True)
class OpenLoopError:
    """By steps ahead; errors are root mean squares in standard deviations of the data.

    Attributes:
        states: of the mean of the imagined observations, 1 … H−1 steps ahead.
        unchanged: of the guess that the observation stays what it is.
        rewards: of predicted rewards, at the current step and 1 … H−1 ahead.
        coverage: share of the observed values within the middle `COVERED` of the imagined ones, 1 … H−1 ahead; it
            would be `COVERED` if futures were imagined as often as they happen.
    """

    states: Float[np.ndarray, "steps"]
    unchanged: Float[np.ndarray, "steps"]
    rewards: Float[np.ndarray, "H"]
    coverage: Float[np.ndarray, "steps"]


def diagnose(
    agent: WorldModelAgent, data: PreparedData, config: RunConfig, folder: Path, stage: str
) -> Mapping[str, np.ndarray]:
    """Imagined futures against recorded ones.

    Args:
        agent: in evaluation mode.
        data: whose held-out episodes are imagined.
        config: the run's.
        folder: of the pictures, `open_loop_error_STAGE.png` and `coverage_STAGE.png`.
        stage: `offline` or `online`.

    Returns:
        The curves of `OpenLoopError` by name; empty where no held-out episode is long enough.
    """
    lengths = data.validation.lengths
    horizon = min(LONGEST, int(np.median(lengths))) if len(lengths) else 0
    if horizon < 2:
        return {}
    error = open_loop_error(agent, data.validation, horizon=horizon, num_starts=NUM_STARTS, seed=config.seed)
    figure, axes = new_axes("steps ahead", "RMSE / standard deviation")
    ahead = np.arange(1, horizon)
    axes.plot(ahead, error.states, marker="o", label="observations")
    axes.plot(ahead, error.unchanged, linestyle="--", label="observation unchanged")
    axes.plot(np.arange(horizon), error.rewards, marker="s", label="rewards")
    axes.set_ylim(bottom=0.0)
    axes.legend()
    save_figure(figure, folder / f"open_loop_error_{stage}.png")
    figure, axes = new_axes("steps ahead", f"share within the middle {COVERED:.0%} of the imagined")
    axes.plot(ahead, error.coverage, marker="o")
    axes.axhline(COVERED, linestyle="--")
    axes.set_ylim(0.0, 1.0)
    save_figure(figure, folder / f"coverage_{stage}.png")
    return dict(vars(error))


@torch.no_grad()
def open_loop_error(
    agent: WorldModelAgent, store: EpisodeStore, *, horizon: int, num_starts: int, seed: int
) -> OpenLoopError:
    """Imagines recorded actions, in `NUM_FUTURES` futures of each start.

    Args:
        agent: its world model.
        store: held-out episodes, some of at least `horizon` steps.
        horizon: H, actions of a sequence, at least 2.
        num_starts: to draw.
        seed: of starts and futures.
    """
    generator = numpy_generator(seed, "open loop")
    episode = generator.choice(np.flatnonzero(store.lengths >= horizon), size=num_starts)
    step = (generator.random(num_starts) * (store.lengths[episode] - horizon + 1)).astype(np.int64)
    recorded = gather_segments(store, episode, step + horizon - 1, horizon)
    actions = torch.tensor(recorded.actions, device=agent.device)
    futures = -(-NUM_FUTURES // agent.model.num_members) * agent.model.num_members
    states = torch.tensor(recorded.observations[:, :1], device=agent.device).expand(-1, futures, -1)
    draws = torch_generator(seed, "open loop", device=agent.device)
    imagined, rewards = [], []
    for index in range(horizon):
        noise = torch.randn(futures, agent.model.noise_dim, generator=draws, device=agent.device)
        outcome = agent.model.imagine(states, actions[:, index, None].expand(-1, futures, -1), noise)
        states = outcome.states
        imagined.append(states.cpu().numpy())
        rewards.append(outcome.rewards.mean(1).cpu().numpy())
    seen = np.stack(imagined[:-1], 1)
    real, scale = recorded.observations, agent.values.observation_std.cpu().numpy()
    low, high = np.quantile(seen, [0.5 - COVERED / 2, 0.5 + COVERED / 2], axis=2)
    covered = (real[:, 1:] >= low) & (real[:, 1:] <= high)
    reward_error = (np.stack(rewards, 1) - recorded.rewards) / max(recorded.rewards.std(), SMALLEST_STD)
    return OpenLoopError(
        states=_root_mean_square((seen.mean(2) - real[:, 1:]) / scale, (0, 2)),
        unchanged=_root_mean_square((real[:, :1] - real[:, 1:]) / scale, (0, 2)),
        rewards=_root_mean_square(reward_error, (0,)),
        coverage=covered.mean((0, 2)),
    )


def _root_mean_square(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(values).mean(axis=axes)))
