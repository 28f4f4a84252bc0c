"""The plans of an episode are kept where they were asked for, and drawn against what happened."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from system.decisions import Plan
from system.envs.vector import EnvironmentBatch
from system.evaluation import plan_viewer
from system.evaluation.plan_viewer import draw_plans, record_plans
from system.planning.acting import Decision
from system.planning.history import History

CANDIDATES, HORIZON = 4, 3


class Pushing:
    """Candidates of which the second is given up; imagines that nothing will change."""

    def act(self, history: History, rows: np.ndarray, generator: torch.Generator) -> Decision:
        step = float(history.steps[rows[0]])
        first = torch.zeros(1, CANDIDATES, 1)
        now = torch.from_numpy(history.observations[rows, -1])
        plan = Plan(
            action=first[:, 0],
            first_actions=first,
            probabilities=torch.tensor([[0.5, 0.0, 0.3, 0.2]]),
            utilities=torch.tensor([[step, -torch.inf, 1.0, 0.0]]),
            selected=torch.zeros(1, dtype=torch.int64),
            imagined_observations=now[:, None, None].expand(1, CANDIDATES, HORIZON, -1).clone(),
        )
        return Decision.of(plan.action, plan)


def record(steps: tuple[int, ...]) -> Any:
    environments = EnvironmentBatch("InvertedPendulum-v5", 1, max_episode_steps=6)
    return record_plans(Pushing(), environments, steps, seed=3, history_length=2, generator=torch.Generator())


def test_plans_are_those_of_their_steps() -> None:
    plans, episode = record((0, 2, 5, 9))
    assert [plan.step for plan in plans] == [0, 2, 5], "as many as the episode reaches"
    assert episode.num_steps == 6
    for plan in plans:
        assert plan.utilities.tolist() == [plan.step, 1.0, 0.0], "without the candidate that was given up"
        assert plan.probabilities == pytest.approx([0.5, 0.3, 0.2])
        assert np.array_equal(plan.imagined[0, 0], episode.observations[plan.step]), "imagined from where it was"


def test_the_picture_says_whose_plans_they_are_and_names_dimensions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plan_viewer, "save_figure", lambda figure, path: figures.append(figure))
    plans, episode = record((0, 3))
    draw_plans(plans, episode, ("place", "angle", "speed", "turning"), "plans of pushing", tmp_path / "plans.png")
    (figure,) = figures
    assert figure.get_suptitle() == "plans of pushing"
    panels = np.array(figure.axes).reshape(2, -1)
    assert panels.shape == (2, 1 + plan_viewer.MOST_DIMENSIONS)
    assert {axes.get_title() for axes in panels[0][1:]} <= {"place", "angle", "speed", "turning"}
    assert "step 3" in panels[1][0].get_ylabel()
    candidates, real = 3, 1
    assert all(len(axes.lines) == candidates + real for axes in panels[:, 1:].ravel())
    shown = panels[1][1].lines[-1]
    dimension = ("place", "angle", "speed", "turning").index(panels[0][1].get_title())
    assert shown.get_ydata().tolist() == episode.observations[3:6, dimension].tolist()
