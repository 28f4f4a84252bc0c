"""Datasets of episodes played by chance, in whatever environment."""

from pathlib import Path

from system.data.writer import write_dataset
from system.envs.registry import environment_specification
from system.envs.vector import EnvironmentBatch
from system.evaluation.rollouts import play_episodes
from system.planning.random_policies import random_policy
from system.seeding import torch_generator
from system.types import Episode, TaskSpec


def play_by_chance(task: TaskSpec, count: int, max_episode_steps: int | None = None) -> list[Episode]:
    """Whole episodes, or their beginnings."""
    environments = EnvironmentBatch(task, 2, max_episode_steps=max_episode_steps)
    play = play_episodes(
        random_policy(task),
        environments,
        list(range(count)),
        history_length=1,
        generator=torch_generator(0, "played by chance"),
    )
    environments.close()
    return [each.episode for each in play.episodes]


def write_played(
    root: Path, dataset_id: str, task: TaskSpec, count: int = 8, max_episode_steps: int | None = None
) -> None:
    """A Minari dataset of them."""
    write_dataset(
        root,
        dataset_id,
        play_by_chance(task, count, max_episode_steps),
        task=task,
        environment_specification=environment_specification(task),
        author="tests",
        algorithm_name="uniform actions",
        description="toy",
    )
