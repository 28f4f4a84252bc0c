"""Imaginers over Ray: what a killed one was at is imagined again, and comes once."""

import os
import signal
from contextlib import closing

import pytest

from system.data.imagined_rollouts import ImaginedRollouts
from system.distributed.imaginer_group import ImaginerGroup
from system.training.imagining import LocalImaginers, Seed
from tests.support.tiny_imagination import TASK, tiny_agent, tiny_config, tiny_store


@pytest.mark.usefixtures("ray_session")
def test_a_killed_imaginer_costs_nothing_but_time() -> None:
    config, store = tiny_config(), tiny_store(8, 9, 10, 12, 8, 9)
    agent = tiny_agent(config, store)
    chunks: list[tuple[Seed, list[int]]] = [(("offline", index), [index]) for index in range(6)]
    alone = dict(LocalImaginers(agent, store, config).imagine(chunks, lambda: None))
    found: list[tuple[int, ImaginedRollouts]] = []
    with closing(ImaginerGroup(agent.state_dict(), TASK, store, config, 2)) as group:
        killed, _ = group.process_ids()
        imagined = group.imagine(chunks, lambda: None)
        found.append(next(imagined))
        os.kill(killed, signal.SIGKILL)
        found += imagined
        assert killed not in group.process_ids()
    assert sorted(index for index, _ in found) == list(range(6))
    for index, rollouts in found:
        assert rollouts.to_bytes() == alone[index].to_bytes()
