"""How well the model does what each of its masks asks for, on every window of held-out episodes.

| capability | mask | predicted |
|---|---|---|
| id | inverse_dynamics | the actions between known states |
| fd | forward_dynamics | the states that known actions lead to, further and further from the last known one |
| rp | reward_return | reward and return-to-go of the current step |
| pi | path_inference | the states between the current one and a known later one |

Behaviour cloning (bc, rcbc) is measured by what it earns: its policies are played.

Source: MTM section 4.2, tables 1 and 2, whose public code measures in raw units on a single batch.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore, gather_segments
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.mask_layout import inference_layout
from system.families.masked_trajectory.masks import ACTIONS, RETURNS, REWARDS, STATES, MaskName
from system.families.masked_trajectory.model import Reconstruction, Tokens
from system.families.masked_trajectory.windows import segment_tensors
from system.types import PredictionErrors, SegmentBatch

BATCH = 512

Differences = Mapping[str, Float[np.ndarray, "B steps"]]


def measure_capability(
    name: str, agent: TrajectoryAgent, data: PreparedData, config: RunConfig
) -> list[PredictionErrors]:
    """The errors of one capability.

    Args:
        name: `id`, `fd`, `rp` or `pi`.
        agent: in evaluation mode.
        data: whose held-out windows are predicted, all of them; spreads are those of the training part.
        config: of its planner the horizon, at most the model's window less one, is how far is looked ahead.
    """
    length = agent.model.config.context_length
    ahead = min(max(1, config.planner.horizon), length - 1)
    current = length - 1 - ahead
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, np.ndarray] = {}
    store = data.validation
    episodes, last_steps = _windows(store, ahead)
    for first in range(0, len(episodes), BATCH):
        rows = slice(first, first + BATCH)
        batch = gather_segments(store, episodes[rows], last_steps[rows], length)
        for what, errors in MEASURED[name](agent, batch, current, data.training).items():
            known = np.isfinite(errors)
            if what not in sums:
                sums[what] = np.zeros((store.num_episodes, errors.shape[1]))
                counts[what] = np.zeros_like(sums[what])
            np.add.at(sums[what], episodes[rows], np.where(known, errors, 0.0))
            np.add.at(counts[what], episodes[rows], known)
    return [PredictionErrors(name, what, sums[what], counts[what]) for what in sums]


def _windows(store: EpisodeStore, ahead: int) -> tuple[Int64[np.ndarray, "W"], Int64[np.ndarray, "W"]]:
    """Every window that has as many steps after its current one as are looked ahead: episode and last step."""
    counts = np.maximum(store.lengths - ahead, 0)
    episodes = np.repeat(np.arange(store.num_episodes), counts)
    starts = np.concatenate([np.arange(count) for count in counts]) if len(counts) else np.zeros(0)
    return episodes.astype(np.int64), starts.astype(np.int64) + ahead


@torch.no_grad()
def _reconstruct(
    agent: TrajectoryAgent, batch: SegmentBatch, mask: MaskName, current: int, modalities: tuple[int, ...]
) -> Reconstruction:
    """What the model says of the steps from the current one on; what the mask hides is not looked at."""
    device = agent.device
    tensors = segment_tensors(batch, incomplete=True)
    tokens = Tokens(**{name: value.to(device) for name, value in tensors.items()})
    layout = inference_layout(mask, agent.model.config.context_length, current, device)
    return agent.model.reconstruct(tokens, layout, first_step=current, modalities=modalities)


def _dynamics(agent: TrajectoryAgent, batch: SegmentBatch, current: int, training: EpisodeStore) -> Differences:
    found = _reconstruct(agent, batch, "forward_dynamics", current, (STATES,)).states.cpu().numpy()
    truth = batch.observations[:, current + 1 :]
    return {
        "states": _of_states(agent, found[:, 1:], truth),
        "states if nothing changed": _of_states(agent, batch.observations[:, current, None], truth),
    }


def _path(agent: TrajectoryAgent, batch: SegmentBatch, current: int, training: EpisodeStore) -> Differences:
    found = _reconstruct(agent, batch, "path_inference", current, (STATES,)).states.cpu().numpy()
    now, goal = batch.observations[:, current, None], batch.observations[:, -1, None]
    share = np.linspace(0.0, 1.0, batch.observations.shape[1] - current)[1:-1, None]
    truth = batch.observations[:, current + 1 : -1]
    return {
        "states": _of_states(agent, found[:, 1:-1], truth),
        "states on a straight line": _of_states(agent, now + share * (goal - now), truth),
    }


def _of_states(
    agent: TrajectoryAgent, states: Float[np.ndarray, "B #steps S"], truth: Float[np.ndarray, "B steps S"]
) -> Float[np.ndarray, "B steps"]:
    """Squared errors in variances of the training data, their mean over the dimensions."""
    scale = agent.model.observation_std.cpu().numpy()
    return np.asarray(np.square((states - truth) / scale).mean(-1))


def _actions(agent: TrajectoryAgent, batch: SegmentBatch, current: int, training: EpisodeStore) -> Differences:
    inferred = _reconstruct(agent, batch, "inverse_dynamics", current, (ACTIONS,)).actions
    found, truth = inferred.mode().cpu().numpy()[:, :-1], batch.actions[:, current:-1]
    if truth.ndim == 2:
        return {"actions, share wrong": (found != truth).astype(np.float64)}
    variance = np.maximum(np.nanvar(np.asarray(training.actions), axis=0), 1e-8)
    return {"actions": (np.square(found - truth) / variance).mean(-1)}


def _rewards_and_returns(
    agent: TrajectoryAgent, batch: SegmentBatch, current: int, training: EpisodeStore
) -> Differences:
    found = _reconstruct(agent, batch, "reward_return", current, (RETURNS, REWARDS))
    rewards = found.rewards[:, :1].cpu().numpy() - batch.rewards[:, current, None]
    returns = found.returns[:, :1].cpu().numpy() - batch.returns_to_go[:, current, None]
    squared = np.square(returns / float(agent.model.return_scale[1]))
    return {
        "rewards": np.square(rewards / float(agent.model.reward_scale[1])),
        "returns": np.where(batch.returns_valid[:, current, None], squared, np.nan),
    }


MEASURED: Mapping[str, Callable[[TrajectoryAgent, SegmentBatch, int, EpisodeStore], Differences]] = {
    "id": _actions,
    "fd": _dynamics,
    "rp": _rewards_and_returns,
    "pi": _path,
}
