"""Updates per second of the masked family's pretraining: critics at the same time as the model, against one after
the other, interleaved. Times are of the clock, for the second core is what is gained: it has to be idle."""

import statistics
import time
from dataclasses import replace

import pytest
from configs import masked_config, with_method

from system.envs.registry import find_task
from system.families.masked_trajectory.agent import TrajectoryAgent
from system.families.masked_trajectory.learner import M3PCLearner
from tests.support.speed_subjects import vector_segments, vector_transitions

TASK = find_task("Hopper-v5")
ROUNDS = 5
UPDATES = 6


@pytest.mark.benchmark
def test_pretraining_updates_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    config = masked_config()
    training, critic = config.method.training, config.method.critic
    segments = vector_segments(TASK, training.batch_size, config.context_length)
    transitions = [vector_transitions(TASK, critic.batch_size) for _ in range(critic.updates_per_step)]
    learners = {
        beside: M3PCLearner(
            TrajectoryAgent(TASK, config), with_method(config, critic=replace(critic, beside=beside))
        )
        for beside in (False, True)
    }
    times: dict[bool, list[float]] = {False: [], True: []}
    for attempt in range(ROUNDS + 1):
        for beside, learner in learners.items():
            started = time.perf_counter()
            for step in range(UPDATES):
                learner.update(segments, transitions, stage="offline", step=attempt * UPDATES + step)
            if attempt:  # the first one warms up
                times[beside].append((time.perf_counter() - started) / UPDATES)
    after, same = (statistics.median(times[beside]) for beside in (False, True))
    with capsys.disabled():
        print(
            f"\npretraining update: in turn {1000 * after:.0f} ms, critics beside {1000 * same:.0f} ms: "
            f"{after / same:.2f} x"
        )
