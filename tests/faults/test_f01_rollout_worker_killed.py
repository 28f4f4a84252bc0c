"""F1, F3: rollout workers are killed in the middle of a round; others go on, and nothing is counted twice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from system.config import RunConfig
from system.data.replay.buffer import ReplayBuffer
from system.distributed import rollout_group
from system.distributed.rollout_group import RolloutGroup
from system.errors import SystemFailure, WorkerLost
from system.training.protocols import Exploration, UpdateRequest
from tests.support.tiny_workers import (
    EXPLORATIONS,
    collect_rounds,
    kill_process,
    local_workers,
    logged_episodes,
    ray_workers,
    tiny_config,
    tiny_data,
    tiny_game_config,
)

pytestmark = pytest.mark.usefixtures("ray_session")

LONG_ROUND = 40
TWO_ENVIRONMENTS = {"environments_per_worker": 2}


def test_workers_killed_at_once_come_back_while_others_go_on(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, deterministic=False, learners=0, rollout_workers=3, online=TWO_ENVIRONMENTS)
    workers = ray_workers(config, tmp_path, tmp_path / "run")
    try:
        before = workers.processes()
        workers.rollouts.set_weights(workers.learners.weights(), 1)
        workers.rollouts.submit(Exploration("forward_mpc_q", 1.0), LONG_ROUND)
        for index in range(2):
            kill_process(before[f"rollout_worker-{index}"])
        assert workers.learners.update(UpdateRequest("offline", 0, 2))
        results = collect_rounds(workers.rollouts, 3, num_episodes=LONG_ROUND)
        assert workers.take_losses() == {"rollout_worker_lost": 2}
        assert workers.take_losses() == {}, "a loss is counted once"
        workers.rollouts.wait_until_started()
        after = workers.processes()
        assert {role for role, number in before.items() if after[role] != number} == {
            "rollout_worker-0",
            "rollout_worker-1",
        }
        assert all(len(result.returns) == LONG_ROUND for result in results)
    finally:
        workers.close()
    episodes = logged_episodes(tmp_path / "run")
    assert {(key.worker, key.epoch) for key in episodes} <= {(0, 1), (1, 1), (2, 0)}, "a key is never used again"
    assert (2, 0) in {(key.worker, key.epoch) for key in episodes}
    assert len(episodes) >= sum(len(result.returns) for result in results)


@pytest.mark.parametrize(
    ("configure", "online", "num_episodes"),
    [
        (tiny_config, TWO_ENVIRONMENTS, LONG_ROUND),
        pytest.param(tiny_game_config, {}, 6, marks=pytest.mark.slow),
    ],
)
def test_a_killed_round_is_played_again_to_the_same_bytes(
    configure: Callable[..., RunConfig], online: dict[str, int], num_episodes: int, tmp_path: Path
) -> None:
    outcomes = []
    for name, make, actors in (("calm", local_workers, 0), ("killed", ray_workers, 1)):
        config = configure(tmp_path, learners=0, rollout_workers=actors, online=online)
        exploration = EXPLORATIONS[config.family]
        workers = make(config, tmp_path, tmp_path / name)
        try:
            workers.rollouts.set_weights(workers.learners.weights(), 1)
            workers.rollouts.submit(exploration, num_episodes)
            if actors:
                kill_process(workers.processes()["rollout_worker-0"])
            (result,) = collect_rounds(workers.rollouts, 1, exploration, num_episodes)
            assert workers.take_losses() == ({"rollout_worker_lost": 1} if actors else {})
            assert workers.rollouts.position() == {"0": num_episodes}
        finally:
            workers.close()
        outcomes.append((result.returns, logged_episodes(tmp_path / name)))
    assert outcomes[0] == outcomes[1]


def test_workers_that_die_again_and_again_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_group, "MOST_LOSSES_IN_A_ROW", 1)
    config = tiny_config(tmp_path, deterministic=False, learners=0, rollout_workers=1, online=TWO_ENVIRONMENTS)
    workers = ray_workers(config, tmp_path, tmp_path / "run")
    try:
        workers.rollouts.set_weights(workers.learners.weights(), 1)
        with pytest.raises(WorkerLost, match="rollout_worker lost: 2 times in a row"):
            for _ in range(2):
                assert isinstance(workers.rollouts, RolloutGroup)
                workers.rollouts.wait_until_started()
                workers.rollouts.submit(Exploration("forward_mpc_q", 1.0), LONG_ROUND)
                kill_process(workers.processes()["rollout_worker-0"])
                while workers.rollouts.num_pending():
                    workers.rollouts.collect(wait=True)
    finally:
        workers.close()


def test_a_worker_that_cannot_be_built_is_not_replaced_for_ever(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, deterministic=False, learners=0, rollout_workers=1)
    data = tiny_data(config, tmp_path)
    task = replace(data.task, environment_id="Nowhere-v1")
    replay = ReplayBuffer(data.training, context_length=4, max_episode_steps=10)
    group = RolloutGroup((task,), config, replay, 0)
    with pytest.raises(SystemFailure, match=r"could not start: .*Nowhere-v1"):
        group.wait_until_started()
    group.close()
