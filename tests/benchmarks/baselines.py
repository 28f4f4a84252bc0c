"""What a library's plain algorithms reach on a preset's data: the same training part, the same reported episodes.

    pip install --editable '.[baselines]'
    python tests/benchmarks/baselines.py hopper-medium-replay --algorithms iql td3_bc bc iql_here --minutes 15

d3rlpy's algorithms, with the settings its authors give for such data, and this project's own IQL learn for so many
minutes of a core each and are measured `--times` times on the way, since such policies swing from checkpoint to
checkpoint. Times of learning are of the CPU, without measuring. Every measurement is a line of JSON in `--output`.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import d3rlpy
import numpy as np
import structlog
import torch
from jaxtyping import Float32, Int

from system.api import load_config, load_dataset
from system.config import RunConfig
from system.data.prepared import PreparedData
from system.data.store.episodes import EpisodeStore, gather_transitions
from system.envs.vector import EnvironmentBatch
from system.evaluation.measurement import REPORT_SEEDS
from system.evaluation.rollouts import play_episodes
from system.evaluation.statistics import bootstrap_interval
from system.families.building import build_agent
from system.models.optimizer_state import keep_gradients
from system.planning.acting import Decision
from system.planning.history import History
from system.values.iql import IQL

STEPS_BETWEEN_LOOKS = 250
HERE = "iql_here"
NAMES = ["iql", "td3_bc", "bc", HERE]


def algorithms() -> dict[str, Any]:
    """Configured as for medium and medium-replay data of MuJoCo; standardised observations everywhere."""
    scaled = {"observation_scaler": d3rlpy.preprocessing.StandardObservationScaler()}
    by_return = d3rlpy.preprocessing.ReturnBasedRewardScaler(multiplier=1000.0)
    return {
        "iql": d3rlpy.algos.IQLConfig(expectile=0.7, weight_temp=3.0, reward_scaler=by_return, **scaled),
        "td3_bc": d3rlpy.algos.TD3PlusBCConfig(alpha=2.5, **scaled),
        "bc": d3rlpy.algos.BCConfig(**scaled),
    }


class Library:
    """One of d3rlpy's algorithms."""

    def __init__(self, name: str, data: PreparedData) -> None:
        self.algorithm = algorithms()[name].create(device="cpu:0")
        self.episodes = to_library(data.training)

    def fit(self, num_steps: int) -> None:
        """Goes on learning."""
        self.algorithm.fit(
            self.episodes,
            n_steps=num_steps,
            n_steps_per_epoch=num_steps,
            show_progress=False,
            save_interval=10**9,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        )

    def predict(self, observations: Float32[np.ndarray, "R S"]) -> np.ndarray:
        """What it would do."""
        return np.asarray(self.algorithm.predict(observations))


class Here:
    """This project's IQL alone, with the preset's settings; its actor is the policy `iql`."""

    def __init__(self, data: PreparedData, config: RunConfig) -> None:
        agent = build_agent(data.task, config, data.foundation)
        self.store, self.generator = data.training, np.random.default_rng(config.seed)
        self.batch_size = config.method.critic.batch_size
        self.learner = IQL(agent.values, config.method.critic, config.discount, keep_gradients)

    def fit(self, num_steps: int) -> None:
        """Goes on learning."""
        for _ in range(num_steps):
            row = self.generator.integers(self.store.num_steps, size=self.batch_size)
            episode = np.searchsorted(self.store.step_offsets, row, side="right") - 1
            self.learner.update(gather_transitions(self.store, episode, row - self.store.step_offsets[episode]))

    @torch.no_grad()
    def predict(self, observations: Float32[np.ndarray, "R S"]) -> np.ndarray:
        """The actor's mode."""
        return self.learner.networks.policy(torch.from_numpy(observations)).mode().numpy()


class Greedy:
    """The algorithm's own choice, of the newest observation."""

    def __init__(self, algorithm: Library | Here) -> None:
        self.algorithm = algorithm

    def act(self, history: History, rows: Int[np.ndarray, "R"], generator: torch.Generator) -> Decision:
        newest = history.context(rows, torch.zeros(len(rows)), 1).observations[:, -1]
        return Decision(self.algorithm.predict(newest.numpy()).astype(np.float32).clip(-1.0, 1.0))


def to_library(store: EpisodeStore) -> Any:
    """The same episodes in the library's form, which leaves out what follows an episode's last step."""
    last = np.zeros(store.num_steps, dtype=bool)
    last[store.step_offsets[1:] - 1] = True
    terminated = last.copy()
    terminated[last] = store.terminated
    seen = np.ones(len(store.observations), dtype=bool)
    seen[store.step_offsets[1:] + np.arange(store.num_episodes)] = False
    return d3rlpy.dataset.MDPDataset(
        observations=np.asarray(store.observations)[seen],
        actions=np.asarray(store.actions),
        rewards=np.asarray(store.rewards),
        terminals=terminated.astype(np.float32),
        timeouts=(last & ~terminated).astype(np.float32),
    )


def measured(algorithm: Library | Here, data: PreparedData, config: RunConfig) -> dict[str, Any]:
    """Returns of the reported episodes."""
    evaluation = config.evaluation
    environments = EnvironmentBatch(data.task, min(evaluation.num_environments, evaluation.episodes))
    seeds = range(REPORT_SEEDS, REPORT_SEEDS + evaluation.episodes)
    play = play_episodes(
        Greedy(algorithm), environments, list(seeds), history_length=1, generator=torch.Generator()
    )
    environments.close()
    returns = np.array([each.episode.episode_return for each in play.episodes])
    low, high = bootstrap_interval(returns)
    mean = float(returns.mean())
    scores = [data.task.normalized(value) for value in (mean, low, high)]
    return {"returns": returns.tolist(), "return_mean": mean, "return_ci95": [low, high], "scores": scores}


def learnt(algorithm: Library | Here, minutes: float, times: int) -> Iterator[tuple[int, float]]:
    """(update steps, CPU minutes) so far, at each of the times."""
    spent, steps = 0.0, 0
    for look in range(1, times + 1):
        while spent < 60.0 * minutes * look / times:
            started = time.process_time()
            algorithm.fit(STEPS_BETWEEN_LOOKS)
            spent, steps = spent + time.process_time() - started, steps + STEPS_BETWEEN_LOOKS
        yield steps, spent / 60.0


def main() -> None:
    """Learns and measures, one algorithm after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a preset or a file")
    parser.add_argument("--algorithms", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--minutes", type=float, default=15.0, help="of one core, for each")
    parser.add_argument("--times", type=int, default=4, help="measurements on the way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/baselines.jsonl"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    config = load_config(asked.config, [f"seed={asked.seed}"])
    data = load_dataset(config)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    for name in asked.algorithms:
        d3rlpy.seed(asked.seed)
        algorithm = Here(data, config) if name == HERE else Library(name, data)
        for steps, minutes in learnt(algorithm, asked.minutes, asked.times):
            found = measured(algorithm, data, config)
            row = {"algorithm": name, "config": asked.config, "seed": asked.seed, "update_steps": steps}
            with asked.output.open("a") as file:
                file.write(json.dumps({**row, "cpu_minutes": minutes, **found}) + "\n")
            low, high = found["return_ci95"]
            score = found["scores"][0]
            shown = "" if score is None else f"  score {score:.1f}"
            print(f"{name:<8}{steps:>8} updates {minutes:>6.1f} min  return {found['return_mean']:.0f} "
                  f"[{low:.0f}, {high:.0f}]{shown}", flush=True)


if __name__ == "__main__":
    main()
