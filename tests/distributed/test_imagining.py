"""Imagining over Ray: what a killed evaluator was at is imagined again, and comes once."""

import os
import signal
from contextlib import closing
from dataclasses import replace

import pytest

from system.data.imagined_rollouts import ImaginedRollouts
from system.distributed.evaluator_group import EvaluatorGroup
from system.training.evaluator import LocalEvaluators
from system.training.protocols import ImaginedChunk
from tests.support.tiny_imagination import TASK, tiny_agent, tiny_config, tiny_store


@pytest.mark.usefixtures("ray_session")
def test_a_killed_evaluator_costs_nothing_but_time() -> None:
    config, store = tiny_config(), tiny_store(8, 9, 10, 12, 8, 9)
    weights = tiny_agent(config, store).state_dict()
    chunks: list[ImaginedChunk] = [(("offline", index), [index]) for index in range(6)]
    local = LocalEvaluators([TASK], config)
    local.set_weights(weights, 0)
    alone = dict(local.imagine(store, chunks, lambda: None))
    found: list[tuple[int, ImaginedRollouts]] = []
    with closing(EvaluatorGroup([TASK], replace(config, evaluators=2))) as group:
        group.set_weights(weights, 0)
        imagined = group.imagine(store, chunks, lambda: None)
        found.append(next(imagined))
        killed = next(iter(group.process_ids().values()))
        os.kill(killed, signal.SIGKILL)
        found += imagined
        assert group.num_lost == 1 and killed not in group.process_ids().values()
    assert sorted(index for index, _ in found) == list(range(6))
    for index, rollouts in found:
        assert rollouts.to_bytes() == alone[index].to_bytes()
