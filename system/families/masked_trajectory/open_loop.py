"""How far the model's imagination can be trusted: its open-loop error by horizon, on held-out episodes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from system.data.store.episodes import EpisodeStore, gather_segments
from system.data.store.incomplete import recorded_whole
from system.decisions import Context
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.guidance import ReturnGuided
from system.seeding import numpy_generator


@dataclass(frozen=True)
class OpenLoopError:
    """Root mean squared errors in units of the data's standard deviation, 1 … H−1 steps ahead.

    Attributes:
        states: of predicted observations.
        unchanged: of the guess that the observation stays what it is, for comparison.
        rewards: of predicted rewards at the current step and 1 … H−1 ahead.
        imagined, real: observations of the first window, the current one first.
        centre, spread: mean and standard deviation of the data's observations.
    """

    states: Float[np.ndarray, "steps"]
    unchanged: Float[np.ndarray, "steps"]
    rewards: Float[np.ndarray, "H"]
    imagined: Float[np.ndarray, "H S"]
    real: Float[np.ndarray, "H S"]
    centre: Float[np.ndarray, "S"]
    spread: Float[np.ndarray, "S"]


@torch.no_grad()
def open_loop_error(
    agent: TrajectoryAgent, store: EpisodeStore, *, discount: float, horizon: int, num_starts: int, seed: int
) -> OpenLoopError | None:
    """Imagines recorded action sequences and compares with what really followed.

    Args:
        agent: its trajectory model is asked with the forward-dynamics mask.
        store: held-out episodes.
        discount: γ, as the model was trained with.
        horizon: H, actions of a sequence, at most the model's window.
        num_starts: windows to draw.
        seed: of the draw.

    Returns:
        None if no episode is as long as the horizon.
    """
    long_enough = np.flatnonzero((store.lengths >= horizon) & recorded_whole(store))
    if len(long_enough) == 0:
        return None
    generator = numpy_generator(seed, "open loop")
    episode = generator.choice(long_enough, size=num_starts)
    step = (generator.random(num_starts) * (store.lengths[episode] - horizon + 1)).astype(np.int64)
    past = gather_segments(store, episode, step, agent.model.config.context_length - horizon + 1)
    future = gather_segments(store, episode, step + horizon - 1, horizon)
    device = agent.target_returns.device
    context = Context(
        observations=torch.tensor(past.observations, device=device),
        actions=torch.tensor(past.actions[:, :-1], device=device),
        valid=torch.tensor(past.valid, device=device),
        target_return=torch.zeros(num_starts, device=device),
    )
    imagination = ReturnGuided(agent.model, discount).imagine(
        context, torch.tensor(future.actions, device=device)[:, None]
    )
    imagined = imagination.observations[:, 0].cpu().numpy()
    rewards = imagination.rewards[:, 0].cpu().numpy()
    scale = agent.model.observation_std.cpu().numpy()
    return OpenLoopError(
        states=_root_mean_square((imagined - future.observations)[:, 1:] / scale, (0, 2)),
        unchanged=_root_mean_square((future.observations[:, :1] - future.observations)[:, 1:] / scale, (0, 2)),
        rewards=_root_mean_square((rewards - future.rewards) / float(agent.model.reward_scale[1]), (0,)),
        imagined=imagined[0],
        real=future.observations[0],
        centre=agent.model.observation_mean.cpu().numpy(),
        spread=scale,
    )


def _root_mean_square(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(values).mean(axis=axes)))
