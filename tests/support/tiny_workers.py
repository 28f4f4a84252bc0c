"""Workers of a tiny run without the command: the data and configuration of `tiny_runs`, or of `tiny_games`."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from system.config import RunConfig
from system.config.loading import load_config
from system.data.prepared import PreparedData
from system.data.replay.episode_log import EpisodeLog
from system.data.replay.episode_record import read_records
from system.distributed.workers import RayWorkers
from system.families.registry import family_of
from system.training.local_workers import LocalWorkers
from system.training.preparation import prepare_data
from system.training.protocols import Exploration, RolloutResult, Rollouts, Weights
from system.types import Episode, EpisodeKey
from tests.support.tiny_games import write_tiny_game_config
from tests.support.tiny_runs import write_tiny_config

MOST_POLLS = 120
MOST_SECONDS = 120.0
EXPLORATIONS = {
    "masked_trajectory": Exploration("forward_mpc_q", 1.0),
    "world_action": Exploration("beam", 1.0),
}


def tiny_config(folder: Path, **changes: Any) -> RunConfig:
    """The tiny run's configuration, its dataset included."""
    return load_config(RunConfig, str(write_tiny_config(folder, **changes)), (), presets=folder)


def tiny_game_config(folder: Path, **changes: Any) -> RunConfig:
    """The same of the world-action family, with few tokens a frame."""
    changes = {**changes, "tokenizer": {"tokens_per_side": 2, **changes.get("tokenizer", {})}}
    return load_config(RunConfig, str(write_tiny_game_config(folder, **changes)), (), presets=folder)


def tiny_data(config: RunConfig, folder: Path) -> PreparedData:
    """What it trains on."""
    data, cache = prepare_data(config, folder / "cache"), folder / "cache"
    prepare = family_of(config).prepare
    if prepare is None:
        return data
    told = {"progress": lambda done, total: None, "stop_if_asked": lambda: None}
    prepared: PreparedData = prepare(data, config, cache, resumed=None, begun_with=None, **told)
    return prepared


def ray_workers(config: RunConfig, folder: Path, run_dir: Path) -> RayWorkers:
    """Over the test session's Ray."""
    return RayWorkers(tiny_data(config, folder), config, run_dir, 0)


def local_workers(config: RunConfig, folder: Path, run_dir: Path) -> LocalWorkers:
    """In this process."""
    return LocalWorkers(tiny_data(config, folder), config, run_dir, 0)


def collect_rounds(
    rollouts: Rollouts,
    count: int,
    exploration: Exploration = EXPLORATIONS["masked_trajectory"],
    num_episodes: int = 2,
) -> list[RolloutResult]:
    """Waits for finished rounds; gives up after two minutes of waiting."""
    results: list[RolloutResult] = []
    for _ in range(MOST_POLLS):
        results += rollouts.collect(wait=True)
        if len(results) >= count:
            return results
        rollouts.submit(exploration, num_episodes)
    raise AssertionError(f"{len(results)} of {count} rounds")


def relative_difference(ours: Weights, theirs: Weights) -> float:
    """The largest difference between two states, of large tensors in proportion to their largest entry."""
    assert ours.keys() == theirs.keys()
    return max(
        float((value.double() - theirs[name].double()).abs().max()) / max(1.0, float(value.double().abs().max()))
        for name, value in ours.items()
    )


def kill_process(process_id: int) -> None:
    """SIGKILL."""
    os.kill(process_id, signal.SIGKILL)


def wait_for_end(process_id: int) -> None:
    """Until the process is gone: Ray ends an actor some time after it was told to."""
    deadline = time.monotonic() + MOST_SECONDS
    while psutil.pid_exists(process_id):
        assert time.monotonic() < deadline, f"process {process_id} goes on"
        time.sleep(0.05)


def logged_episodes(run_dir: Path) -> dict[EpisodeKey, bytes]:
    """Key → contents of everything in the log, in order, once its owner is closed; checks that none is twice."""
    log = EpisodeLog.open(run_dir / "replay")
    log.close()
    assert log.quarantined == []
    keys = [episode.key for path in sorted(log.folder.glob("*.log")) for episode in read_log_file(path)]
    assert len(keys) == len(set(keys)) == len(log.episodes)
    return {
        episode.key: episode.observations.tobytes() + episode.actions.tobytes() + episode.rewards.tobytes()
        for episode in log.episodes
        if episode.key is not None
    }


def read_log_file(path: Path) -> list[Episode]:
    """Every sound record of a segment of the log."""
    return [record.episode for record in read_records(path.read_bytes()) if record.episode is not None]
