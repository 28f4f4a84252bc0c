"""What a planner had before it at chosen steps of an episode: its candidates, their worth, and what came."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes

from system.documents.canvas import new_figure, save_figure
from system.envs.vector import EnvironmentBatch
from system.evaluation.rollouts import Perceive, play_episodes
from system.planning.acting import Decision, Policy
from system.planning.history import History
from system.types import Episode

MOST_DIMENSIONS = 3
MOST_IMAGINED = 5


@dataclass(frozen=True)
class RecordedPlan:
    """One decision of a planner.

    Attributes:
        step: of the episode at which it was made.
        utilities, probabilities: of the candidates that search did not give up.
        imagined: o_t, … of each of them where vectors were imagined; else None.
    """

    step: int
    utilities: Float[np.ndarray, "N"]
    probabilities: Float[np.ndarray, "N"]
    imagined: Float[np.ndarray, "N frames S"] | None


@dataclass
class _Recording:
    """A policy whose plans at some of its decisions are kept."""

    policy: Policy
    steps: Sequence[int]
    plans: list[RecordedPlan] = field(default_factory=list)
    num_decisions: int = 0

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        """The policy's decision."""
        decision = self.policy.act(history, rows, generator)
        plan = decision.plan
        if plan is not None and self.num_decisions in self.steps:
            utilities = plan.utilities[0].float().cpu().numpy()
            kept = np.isfinite(utilities)
            seen = plan.imagined_observations
            vectors = seen is not None and seen.is_floating_point() and seen.ndim == 4
            self.plans.append(
                RecordedPlan(
                    self.num_decisions,
                    utilities[kept],
                    plan.probabilities[0].float().cpu().numpy()[kept],
                    seen[0].float().cpu().numpy()[kept] if vectors and seen is not None else None,
                )
            )
        self.num_decisions += 1
        return decision


def record_plans(
    policy: Policy,
    environments: EnvironmentBatch,
    steps: Sequence[int],
    *,
    seed: int,
    history_length: int,
    generator: torch.Generator,
    perceive: Perceive | None = None,
) -> tuple[list[RecordedPlan], Episode | None]:
    """Plays one episode and keeps the plans of some steps.

    Args:
        policy: plans.
        environments: one of them, cut where enough has been seen.
        steps: whose plans are kept, those that the episode reaches.
        seed: of the reset.
        history_length, generator, perceive: as in `play_episodes`.

    Returns:
        The plans, and the episode; None if the environment failed.
    """
    recording = _Recording(policy, steps)
    play = play_episodes(
        recording, environments, [seed], history_length=history_length, generator=generator, perceive=perceive
    )
    return recording.plans, play.episodes[0].episode if play.episodes else None


def draw_plans(
    plans: Sequence[RecordedPlan], episode: Episode, names: Sequence[str], title: str, path: Path
) -> None:
    """A row for each plan: utility against probability of the candidates, and imagined against real observations.

    Shown are the dimensions that vary most in the episode, over the range that they have there, of the candidates
    that are most probable.

    Args:
        plans: at least one.
        episode: that they were made in.
        names: of the dimensions of its observations.
        title: of the figure; says which policy it shows, and when.
        path: of the PNG.
    """
    dimensions = _varying(episode) if any(plan.imagined is not None for plan in plans) else []
    figure = new_figure(3.2 * (1 + len(dimensions)), 2.0 * len(plans) + 0.4)
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(len(plans), 1 + len(dimensions), squeeze=False)
    for row, plan in zip(panels, plans, strict=True):
        best = int(plan.utilities.argmax())
        row[0].scatter(plan.utilities, plan.probabilities, s=12, alpha=0.7)
        row[0].scatter(plan.utilities[best], plan.probabilities[best], s=36, facecolors="none", edgecolors="C3")
        row[0].set_ylabel(f"step {plan.step}\nprobability", fontsize=8)
        for axes, dimension in zip(row[1:], dimensions, strict=True):
            _draw_dimension(axes, plan, episode, dimension)
    panels[-1][0].set_xlabel("utility of a candidate", fontsize=8)
    for axes, dimension in zip(panels[0][1:], dimensions, strict=True):
        axes.set_title(names[dimension], fontsize=8)
    for axes in panels[-1][1:]:
        axes.set_xlabel("step; imagined thin, real black", fontsize=8)
    save_figure(figure, path)


def _varying(episode: Episode) -> list[int]:
    spread = episode.observations.astype(np.float64).std(axis=0)
    return sorted(np.argsort(spread)[::-1][:MOST_DIMENSIONS].tolist())


def _draw_dimension(axes: Axes, plan: RecordedPlan, episode: Episode, dimension: int) -> None:
    real = episode.observations[:, dimension]
    if plan.imagined is not None:
        length = plan.imagined.shape[1]
        for candidate in np.argsort(plan.probabilities)[::-1][:MOST_IMAGINED]:
            axes.plot(plan.step + np.arange(length), plan.imagined[candidate, :, dimension], linewidth=0.8)
        real = real[plan.step : plan.step + length]
    axes.plot(plan.step + np.arange(len(real)), real, color="black")
    low, high = episode.observations[:, dimension].min(), episode.observations[:, dimension].max()
    margin = 0.15 * max(float(high - low), 1e-6)
    axes.set_ylim(low - margin, high + margin)
