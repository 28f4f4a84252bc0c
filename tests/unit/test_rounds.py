"""Rounds of the online stage: as many whole episodes as are expected to make the steps that are asked for."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from frame_factory import PONG

from system.config import OnlineConfig, RunConfig
from system.runs.progress import Progress
from system.training.collapse_guard import CollapseGuard
from system.training.experiment import Experiment
from system.training.offline_to_online import OnlineStage
from system.training.protocols import Exploration, RolloutResult

TASK = replace(PONG, max_episode_steps=500)
DATA_LENGTH = 20


class Played:
    """Stands in for a run and its workers: how long episodes are is a function of the steps collected so far."""

    def __init__(
        self, length: Callable[[int], int], *, workers: int = 0, progress: Progress | None = None, **online: Any
    ) -> None:
        settings = OnlineConfig(**{"env_steps": 1000, "env_steps_per_round": 100, **online})
        self.config = RunConfig(online=settings, rollout_workers=workers)
        self.progress = progress or Progress()
        training = SimpleNamespace(num_steps=30 * DATA_LENGTH, num_episodes=30)
        self.data = SimpleNamespace(task=TASK, training=training)
        self.tracker = SimpleNamespace(progress=lambda *told: None)
        self.rollouts, self.length, self.num_workers = self, length, max(1, workers)
        self.pending: list[int] = []
        self.asked: list[tuple[int, int]] = []

    def submit(self, exploration: Exploration, num_episodes: int, *, most_env_steps: int) -> None:
        for _ in range(self.num_idle()):
            self.asked.append((num_episodes, most_env_steps))
            self.pending.append(num_episodes)

    def collect(self, *, wait: bool) -> list[RolloutResult]:
        if not self.pending or not wait:
            return []
        count, length = self.pending.pop(0), self.length(self.progress.env_steps)
        return [RolloutResult(0, [0.0] * count, [length] * count, [0.0] * count, [], 0)]

    def account_rollout(self, result: RolloutResult, *, exact: bool) -> None:
        self.progress.env_steps += sum(result.lengths)
        self.progress.episodes += len(result.lengths)
        self.progress.remember_episodes(result.returns, result.first_utilities, result.lengths)

    def num_pending(self) -> int:
        return len(self.pending)

    def num_idle(self) -> int:
        return self.num_workers - len(self.pending)

    def position(self) -> dict[str, int]:
        return {}

    def update(self, *told: Any, **more: Any) -> None: ...

    def broadcast_weights(self) -> None: ...

    def stop_if_asked(self) -> None: ...

    def save_if_due(self) -> None: ...


def stage_of(run: Played) -> OnlineStage:
    stage = OnlineStage.__new__(OnlineStage)
    stage.run, stage.config = cast(Experiment, run), run.config.online
    guard = SimpleNamespace(evaluate_if_due=lambda: None, judge_the_last=lambda: None)
    stage.guard, stage.exploration = cast(CollapseGuard, guard), Exploration("forward_mpc_q", 1.0)
    stage.lock_step = run.config.rollout_workers == 0
    return stage


def test_the_first_round_is_measured_by_the_data_and_later_ones_by_the_last_episodes() -> None:
    run = Played(lambda env_steps: 10 if env_steps < 400 else 40, env_steps=10_000)
    stage = stage_of(run)
    while run.progress.env_steps < 9_000:
        stage._round()
    counts = [count for count, _ in run.asked]
    assert counts[0] == round(100 / DATA_LENGTH)
    assert set(counts[1:30]) >= {10}, "episodes of ten steps"
    assert counts[-1] == 2, "and of forty"
    assert sorted(counts[1:], reverse=True) == counts[1:], "the fewer the longer they get"


def test_one_episode_is_the_least() -> None:
    run = Played(lambda env_steps: 400, env_steps=2500)
    stage_of(run).train()
    assert [count for count, _ in run.asked] == [5, 1, 1]


def test_the_last_round_is_what_is_left_of_the_budget() -> None:
    run = Played(lambda env_steps: 20, env_steps=250)
    stage_of(run).train()
    assert run.asked == [(5, 250), (5, 150), (2, 50), (1, 10)]
    assert run.progress.env_steps == 260


def test_a_budget_of_episodes_is_not_exceeded() -> None:
    run = Played(lambda env_steps: 10, episodes=13)
    stage_of(run).train()
    assert [count for count, _ in run.asked] == [5, 8]


def test_episodes_that_are_cut_are_not_longer_than_that() -> None:
    run = Played(lambda env_steps: 5, max_episode_steps=5)
    stage_of(run)._round()
    assert run.asked[0][0] == 20


def test_workers_share_what_nobody_collects_yet() -> None:
    run = Played(lambda env_steps: 20, workers=4, env_steps=500)
    stage_of(run).train()
    assert run.asked[:4] == [(5, 125)] * 4
    assert run.progress.env_steps == 500
    assert len(run.asked) == 5, "the last hundred steps are one worker's"
    run = Played(lambda env_steps: 20, workers=4, env_steps=240)
    stage_of(run).train()
    assert run.asked == [(3, 60)] * 4


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_resumed_run_goes_on_with_the_same_rounds(rounds: int) -> None:
    def length(env_steps: int) -> int:
        return 7 + env_steps // 50

    whole = Played(length)
    stage_of(whole).train()
    first = Played(length)
    stage = stage_of(first)
    for _ in range(rounds):
        stage._round()
    second = Played(length, progress=Progress.from_dict(first.progress.to_dict()))
    stage_of(second).train()
    assert first.asked + second.asked == whole.asked
