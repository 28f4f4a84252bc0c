"""Whether the world model knows what it does not know: predicted against real error on held-out episodes.

Held-out steps are put in order of the members' disagreement and divided into tenths. Of each tenth: the
disagreement, the error that the members predict (the root of their mean variance and of the variance of their
means), and the real one, both in standard deviations of the data. Beside it the error of states and rewards by
steps ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore, gather_transitions
from system.documents.canvas import new_axes, save_figure
from system.families.imagination.agent import ImaginationAgent
from system.families.imagination.disagreement import geometric_jensen_shannon

DECILES = 10
MOST_STEPS = 5000
NUM_STARTS = 256


@dataclass(frozen=True)
class Calibration:
    """Of each tenth of held-out steps, from the least to the greatest disagreement.

    Attributes:
        disagreement, predicted, error: means over the tenth.
        correlation: Spearman's, of disagreement and error over all steps.
    """

    disagreement: Float64[np.ndarray, "tenths"]
    predicted: Float64[np.ndarray, "tenths"]
    error: Float64[np.ndarray, "tenths"]
    correlation: float


@torch.no_grad()
def calibration(agent: ImaginationAgent, store: EpisodeStore) -> Calibration | None:
    """None where there are fewer steps than tenths.

    Args:
        agent: its world model.
        store: held out.
    """
    if store.num_steps < DECILES:
        return None
    rows = np.unique(np.linspace(0, store.num_steps - 1, min(MOST_STEPS, store.num_steps)).astype(np.int64))
    episode = np.searchsorted(store.step_offsets, rows, side="right") - 1
    batch = gather_transitions(store, episode, rows - store.step_offsets[episode])
    observations, actions, following = (
        torch.tensor(each, device=agent.device)
        for each in (batch.observations, batch.actions, batch.next_observations)
    )
    foresight, std = agent.world(observations, actions), agent.world.observation_std
    spread = foresight.variances.mean(0) + foresight.means.var(0, unbiased=False)
    columns = [
        geometric_jensen_shannon(foresight.means, foresight.variances),
        (spread / std.square()).mean(-1).sqrt(),
        ((foresight.mean - following) / std).square().mean(-1).sqrt(),
    ]
    disagreement, predicted, error = (each.cpu().double().numpy() for each in columns)
    order = np.argsort(disagreement, kind="stable")
    tenths = [
        np.array([part.mean() for part in np.array_split(each[order], DECILES)])
        for each in (disagreement, predicted, error)
    ]
    return Calibration(tenths[0], tenths[1], tenths[2], correlation=_rank_correlation(disagreement, error))


@torch.no_grad()
def open_loop_error(
    agent: ImaginationAgent, store: EpisodeStore, horizon: int
) -> dict[str, Float64[np.ndarray, "horizon"]]:
    """Errors of states and rewards by steps ahead under the recorded actions, in standard deviations of the data.

    Args:
        agent: its world model.
        store: held out.
        horizon: steps ahead; nothing where no episode has as many.
    """
    long_enough = np.flatnonzero(store.lengths >= horizon)
    if not len(long_enough):
        return {}
    places = [
        (episode, step) for episode in long_enough for step in range(int(store.lengths[episode]) - horizon + 1)
    ]
    chosen = [places[index] for index in np.unique(np.linspace(0, len(places) - 1, NUM_STARTS).astype(int))]
    episode, first = (np.array(each, dtype=np.int64) for each in zip(*chosen, strict=True))
    rows = store.step_offsets[episode] + first
    world = agent.world
    found: dict[str, list[float]] = {"states": [], "unchanged": [], "rewards": []}
    states = start = torch.tensor(np.asarray(store.observations[rows + episode]), device=agent.device)
    for ahead in range(horizon):
        foresight = world(states, torch.tensor(store.actions[rows + ahead], device=agent.device))
        states = foresight.mean
        real = torch.tensor(np.asarray(store.observations[rows + episode + ahead + 1]), device=agent.device)
        reward = torch.tensor(store.rewards[rows + ahead], device=agent.device)
        found["states"].append(_rmse((states - real) / world.observation_std))
        found["unchanged"].append(_rmse((start - real) / world.observation_std))
        found["rewards"].append(_rmse((foresight.rewards - reward) / world.reward_scale[1]))
    return {name: np.array(values) for name, values in found.items()}


def diagnose(
    agent: ImaginationAgent, data: PreparedData, config: RunConfig, folder: Path, stage: str
) -> Mapping[str, np.ndarray]:
    """Curves and pictures of both.

    Args:
        agent: in evaluation mode.
        data: whose held-out episodes are looked at.
        config: the run's.
        folder: of the pictures, `open_loop_error_STAGE.png` and `calibration_STAGE.png`.
        stage: `offline` or `online`.

    Returns:
        `states`, `unchanged` and `rewards` by step ahead, `disagreement_by_decile`, `predicted_error_by_decile`
        and `error_by_decile`; what held-out episodes are too few or too short for is left out.
    """
    curves: dict[str, np.ndarray] = dict(
        open_loop_error(agent, data.validation, config.method.augmentation.horizon)
    )
    if curves:
        _draw_open_loop(curves, folder / f"open_loop_error_{stage}.png")
    found = calibration(agent, data.validation)
    if found is not None:
        _draw_calibration(found, float(agent.reliable_disagreement), folder / f"calibration_{stage}.png")
        curves["disagreement_by_decile"] = found.disagreement
        curves["predicted_error_by_decile"] = found.predicted
        curves["error_by_decile"] = found.error
    return curves


def _draw_open_loop(curves: Mapping[str, np.ndarray], path: Path) -> None:
    figure, axes = new_axes("steps ahead", "RMSE / standard deviation")
    for name, style in (("states", "-o"), ("unchanged", "--"), ("rewards", "-s")):
        axes.plot(np.arange(1, len(curves[name]) + 1), curves[name], style, label=name)
    axes.set_ylim(bottom=0.0)
    axes.legend()
    save_figure(figure, path)


def _draw_calibration(found: Calibration, threshold: float, path: Path) -> None:
    figure, axes = new_axes("disagreement of the members, mean of a tenth", "error / standard deviation")
    axes.plot(found.disagreement, found.error, "-o", label=f"real (Spearman {found.correlation:+.2f})")
    axes.plot(found.disagreement, found.predicted, "--s", label="predicted")
    if np.isfinite(threshold):
        axes.axvline(threshold, color="black", linewidth=0.8, label="κ: unreliable beyond")
    if found.disagreement.min() > 0.0:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0.0)
    axes.legend()
    save_figure(figure, path)


def _rmse(differences: torch.Tensor) -> float:
    return float(differences.square().mean().sqrt())


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(each, kind="stable")) for each in (first, second)]
    return float(np.asarray(np.corrcoef(ranks[0], ranks[1]))[0, 1])
