"""`o2o collect`: from a behaviour agent to the episodes of a dataset, one that was interrupted going on.

Every finished episode is in an append log before the next round begins, and the agent's weights are saved
after every round, so that a collection that is stopped continues where it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from system.config import CollectConfig
from system.data.episode_log import EpisodeLog
from system.distributed.behaviour import BehaviourAgent
from system.distributed.cluster import cluster_session
from system.envs.registry import find_task
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError
from system.evaluation.behaviour_policies import NoisyPolicy, SampledPolicy
from system.evaluation.policies import Policy, RandomPolicy, make_policy, planner_policy_name
from system.evaluation.rollouts import play_episodes
from system.seeding import derive_seed, torch_generator
from system.training.saved_agent import open_agent
from system.types import Episode, EpisodeKey

EPISODES_FOR_TARGET = 20
EPISODES_PER_ROUND = 8
AGENT_FILE = "agent.safetensors"

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Collection:
    """What was collected.

    Attributes:
        episodes: of the dataset.
        algorithm_name: who acted.
        training_env_steps: that the behaviour agent learnt from.
    """

    episodes: list[Episode]
    algorithm_name: str
    training_env_steps: int


class Collector:
    """Fills a log with the episodes that the configured kind asks for.

    Args:
        config: what to collect.
        folder: of the run; holds the log and the agent.
        report: is told (stage, done, total) in env steps.
        stop_if_asked: called between rounds; may raise.
    """

    def __init__(
        self, config: CollectConfig, folder: Path, report: Report, stop_if_asked: Callable[[], None]
    ) -> None:
        self.config = config
        self.folder = folder
        self.report = report
        self.stop_if_asked = stop_if_asked
        self.log = EpisodeLog.open(folder / "recorded")

    def collect(self, address: str | None) -> Collection:
        """Works until the dataset is complete.

        Args:
            address: of a Ray cluster for the behaviour agent; None starts a local session.
        """
        if self.config.policy == "random":
            uniform = RandomPolicy(find_task(self.config.environment).action_dim)
            return self._record(uniform, 1, "uniform actions", 0)
        if self.config.policy == "checkpoint":
            policy, length = saved_policy(Path(str(self.config.checkpoint)), self.config)
            return self._record(policy, length, f"saved policy, action noise {self.config.action_noise:g}", 0)
        training = EpisodeLog.open(self.folder / "training")
        with cluster_session(address, num_cpus=1):
            agent = self._train(training)
            steps = _num_steps(training.episodes)
            if self.config.kind == "medium-replay":
                return Collection(_up_to(training.episodes, self.config.env_steps), "PPO (RLlib)", steps)
            behaviour = SampledPolicy(agent.policy())
            agent.close()
        return self._record(behaviour, 1, "PPO (RLlib)", steps)

    def _train(self, log: EpisodeLog) -> BehaviourAgent:
        """Learns until the target or the budget is reached; every episode goes to the log."""
        config, file = self.config, self.folder / AGENT_FILE
        agent = BehaviourAgent(
            config.environment,
            num_environments=config.environments,
            env_runners=0,
            seed=derive_seed(config.seed, "ppo"),
        )
        if file.exists():
            agent.load(file)
        budget = config.max_training_env_steps
        if config.kind == "medium-replay":
            budget = min(budget, config.env_steps)
        while _num_steps(log.episodes) < budget and not self._reached_target(log.episodes):
            self.stop_if_asked()
            self._append(log, agent.train())
            agent.save(file)
            self.report("train behaviour agent", _num_steps(log.episodes), budget)
        return agent

    def _record(
        self, policy: Policy, history_length: int, algorithm_name: str, training_env_steps: int
    ) -> Collection:
        """Plays whole episodes until there are enough steps."""
        config, log = self.config, self.log
        environments = EnvironmentBatch(config.environment, config.environments)
        while _num_steps(log.episodes) < config.env_steps:
            self.stop_if_asked()
            first = len(log.episodes)
            play = play_episodes(
                policy,
                environments,
                [derive_seed(config.seed, "record", first + index) for index in range(EPISODES_PER_ROUND)],
                history_length=history_length,
                generator=torch_generator(config.seed, "record", first),
            )
            self._append(log, [played.episode for played in play.episodes])
            self.report("record", _num_steps(log.episodes), config.env_steps)
        environments.close()
        return Collection(_up_to(log.episodes, config.env_steps), algorithm_name, training_env_steps)

    def _append(self, log: EpisodeLog, episodes: list[Episode]) -> None:
        first = len(log.episodes)
        keyed = [
            replace(episode, key=EpisodeKey(0, 0, first + index), policy_version=None)
            for index, episode in enumerate(episodes)
        ]
        log.episodes += log.append(keyed)

    def _reached_target(self, episodes: list[Episode]) -> bool:
        newest = episodes[-EPISODES_FOR_TARGET:]
        if self.config.target_return is None or len(newest) < EPISODES_FOR_TARGET:
            return False
        return float(np.mean([episode.episode_return for episode in newest])) >= self.config.target_return


def saved_policy(path: Path, config: CollectConfig) -> tuple[Policy, int]:
    """A checkpoint's configured planner with action noise, and the history it looks at.

    Args:
        path: a checkpoint or a run directory.
        config: environment and noise.

    Raises:
        CheckpointError: the checkpoint is unfit.
        ConfigError: it is of another environment.
    """
    saved = open_agent(path)
    name = saved.task.environment_id
    if name != config.environment:
        raise ConfigError(f"checkpoint: {saved.path} is of {name}, not of {config.environment}")
    run = saved.config
    policy = make_policy(planner_policy_name(run.planner), saved.agent, run, run.planner)
    return NoisyPolicy(policy, config.action_noise), run.model.context_length


def _num_steps(episodes: list[Episode]) -> int:
    return sum(episode.num_steps for episode in episodes)


def _up_to(episodes: list[Episode], env_steps: int) -> list[Episode]:
    """Whole episodes from the beginning, at least `env_steps` of them if there are as many."""
    total, chosen = 0, []
    for episode in episodes:
        if total >= env_steps:
            break
        chosen.append(episode)
        total += episode.num_steps
    return chosen
