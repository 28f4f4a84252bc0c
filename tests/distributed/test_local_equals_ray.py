"""One Ray actor of each kind gives what one process gives, bit for bit, in deterministic mode."""

from pathlib import Path

import pytest
import torch

from system.data.replay.episode_log import EpisodeLog
from system.training.protocols import EvaluationRequest, Exploration, UpdateRequest, Weights, Workers
from tests.support.tiny_runs import ENVIRONMENT
from tests.support.tiny_workers import collect_rounds, local_workers, ray_workers, tiny_config

SCHEDULED = EvaluationRequest(ENVIRONMENT, "forward_mpc_q", "schedule", 0.8)


def work(workers: Workers) -> tuple[list[Weights], list[object], list[int]]:
    """Some of everything: learning offline, two rounds of exploring and learning, a step back in the position."""
    seen: list[object] = [workers.learners.update(UpdateRequest("offline", 0, 3))]
    states = [workers.learners.state()]
    for number in range(2):
        workers.rollouts.set_weights(workers.learners.weights(), number)
        workers.rollouts.submit(Exploration("forward_mpc_q", 0.8), 2)
        (result,) = collect_rounds(workers.rollouts, 1)
        seen.append((result.returns, result.lengths, result.first_utilities, result.version, result.worker))
        visible = workers.replay.stats().online_episodes
        seen.append(workers.learners.update(UpdateRequest("online", 3 * number, 3, 0.5, visible)))
        states.append(workers.learners.state())
    workers.evaluators.set_weights(workers.learners.weights(), 1)
    ((_, evaluated),) = workers.evaluators.measure([SCHEDULED], lambda: None)
    seen.append((evaluated.measured.seeds, evaluated.measured.returns, evaluated.ratio_curve))
    seen.append(workers.rollouts.position())
    workers.rollouts.seek({"0": 2})
    workers.rollouts.set_weights(workers.learners.weights(), 7)
    workers.rollouts.submit(Exploration("forward_mpc_q", 0.8), 2)
    collect_rounds(workers.rollouts, 1)
    stats = workers.replay.stats()
    return states, seen, [stats.online_episodes, stats.online_transitions, stats.duplicates]


def assert_equal_states(ours: Weights, theirs: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.usefixtures("ray_session")
def test_ray_and_one_process_agree_bit_for_bit(tmp_path: Path) -> None:
    outcomes, episodes = [], []
    for name, make, actors in (("local", local_workers, 0), ("ray", ray_workers, 1)):
        config = tiny_config(tmp_path, learners=actors, rollout_workers=actors, evaluators=actors)
        workers = make(config, tmp_path, tmp_path / name)
        try:
            outcomes.append(work(workers))
            assert workers.take_losses() == {}
            others = {"replay", "learner-0", "rollout_worker-0", "evaluator-0"} if actors else set()
            roles = {"driver"} | others
            assert workers.processes().keys() == roles
            assert len(set(workers.processes().values())) == len(roles)
        finally:
            workers.close()
        log = EpisodeLog.open(tmp_path / name / "replay")
        episodes.append([(each.key, each.actions.tobytes(), each.observations.tobytes()) for each in log.episodes])
    (local_states, local_seen, local_counts), (ray_states, ray_seen, ray_counts) = outcomes
    for ours, theirs in zip(local_states, ray_states, strict=True):
        assert_equal_states(ours, theirs)
    assert local_seen == ray_seen
    assert local_counts == ray_counts == [4, local_counts[1], 2], "an episode collected again counts once"
    assert episodes[0] == episodes[1]
