"""Trains the behaviour agent of `o2o collect`; one that was interrupted goes on from its files."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from system.config import CollectConfig
from system.data.replay.episode_journal import EpisodeJournal
from system.distributed.behaviour import BehaviourAgent
from system.distributed.cluster import cluster_session
from system.distributed.collection import Report, refuse_if_all_failed
from system.envs.registry import collected_task
from system.models.gaussian_policy import GaussianPolicy
from system.seeding import derive_seed
from system.types import Episode

EPISODES_FOR_TARGET = 20
AGENT_FILE = "agent.safetensors"


def train_behaviour_policy(
    config: CollectConfig,
    folder: Path,
    journal: EpisodeJournal,
    report: Report,
    stop_if_asked: Callable[[], None],
    *,
    address: str | None,
) -> GaussianPolicy:
    """Learns until the target or the budget is reached; every episode goes to the journal.

    Args:
        config: what to collect.
        folder: of the run; the agent is saved there after every round.
        journal: holds the episodes of an earlier attempt, and takes those of this one.
        report: is told (stage, done, total) in env steps.
        stop_if_asked: called between rounds; may raise.
        address: of a Ray cluster; None starts a local session.

    Raises:
        CheckpointError: the agent's file is not one.
        SystemFailure: the environments fail so often that nothing is collected any more.
    """
    file, budget = folder / AGENT_FILE, config.max_training_env_steps
    if config.kind == "medium-replay":
        budget = min(budget, config.env_steps)
    with cluster_session(address, num_cpus=1), closing(_make_agent(config, journal)) as agent:
        if file.exists():
            agent.load(file)
        while not file.exists() or (journal.env_steps < budget and not _reached_target(config, journal.episodes)):
            stop_if_asked()
            _train_once(agent, journal, config)
            agent.save(file)
            report("train behaviour agent", journal.env_steps, budget)
        return agent.policy()


def _make_agent(config: CollectConfig, journal: EpisodeJournal) -> BehaviourAgent:
    # An agent that goes on must not meet the beginnings of its first episodes again.
    resumed_at = [journal.next_number] if journal.next_number else []
    return BehaviourAgent(
        collected_task(config),
        num_environments=config.environments,
        env_runners=0,
        seed=derive_seed(config.seed, "ppo", *resumed_at),
    )


def _train_once(agent: BehaviourAgent, journal: EpisodeJournal, config: CollectConfig) -> None:
    dropped_before = agent.num_dropped
    episodes = agent.train()
    num_dropped = agent.num_dropped - dropped_before
    refuse_if_all_failed(config.environment, len(episodes), num_dropped)
    journal.append(journal.next_number, len(episodes) + num_dropped, dict(enumerate(episodes)))


def _reached_target(config: CollectConfig, episodes: list[Episode]) -> bool:
    newest = episodes[-EPISODES_FOR_TARGET:]
    if config.target_return is None or len(newest) < EPISODES_FOR_TARGET:
        return False
    return float(np.mean([episode.episode_return for episode in newest])) >= config.target_return
