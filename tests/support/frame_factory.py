"""Small episodes of frames or tokens, and Minari datasets of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from dataset_factory import KnownTasks
from gymnasium.envs.registration import EnvSpec

from system.data.writer import write_dataset
from system.types import Episode, TaskSpec

HEIGHT, WIDTH, TOKENS = 7, 5, 4
PONG = TaskSpec(
    "ALE/Pong-v5",
    observation_dim=HEIGHT * WIDTH,
    action_dim=18,
    max_episode_steps=6,
    reference_min=-21.0,
    reference_max=15.0,
    frame_shape=(HEIGHT, WIDTH),
    valid_actions=(0, 1, 3, 4, 11, 12),
    game=39,
)
BREAKOUT = replace(PONG, environment_id="ALE/Breakout-v5", valid_actions=(0, 1, 3, 4), game=13)
GAMES = KnownTasks({task.environment_id: task for task in (PONG, BREAKOUT)})


def frame_episode(length: int, ending: str, seed: int = 0, task: TaskSpec = PONG) -> Episode:
    """A random episode of frames that ends as `dataset_factory.ENDINGS` says."""
    generator = np.random.default_rng([seed, length, task.game])
    frames = generator.integers(1, 256, size=(length + 1, *(task.frame_shape or ())), dtype=np.uint8)
    return Episode(
        observations=frames,
        actions=generator.choice(np.array(task.valid_actions), size=length).astype(np.int64),
        rewards=generator.integers(-1, 2, size=length).astype(np.float32),
        terminated=ending == "terminated",
        truncated=ending == "time_limit",
        complete=ending != "cut",
        game=task.game,
    )


def token_episode(length: int, ending: str, seed: int = 0, task: TaskSpec = PONG) -> Episode:
    """The same episode as an agent sees it: tokens, with the frames beside them."""
    episode = frame_episode(length, ending, seed, task)
    tokens = np.random.default_rng([seed, 1]).integers(0, 2048, size=(length + 1, TOKENS)).astype(np.int16)
    return replace(episode, observations=tokens, frames=episode.observations)


def frame_episodes(task: TaskSpec = PONG) -> list[Episode]:
    """One episode of every length and ending that matters."""
    kinds = [(4, "terminated"), (6, "time_limit"), (3, "cut"), (1, "terminated"), (5, "terminated")]
    return [frame_episode(length, ending, seed, task) for seed, (length, ending) in enumerate(kinds)]


def frame_dataset(
    root: Path, dataset_id: str = "toy/frames-v0", episodes: Sequence[Episode] | None = None, task: TaskSpec = PONG
) -> Path:
    """Writes a dataset and returns its `data` folder."""
    folder = write_dataset(
        root,
        dataset_id,
        iter(frame_episodes(task) if episodes is None else episodes),
        task=task,
        environment_specification=specification(task),
        author="tests",
        algorithm_name="random numbers",
        description="toy",
    )
    return folder / "data"


def specification(task: TaskSpec, **arguments: object) -> str:
    """What a dataset's metadata say of the environment."""
    kwargs = {"repeat_action_probability": 0.0, **arguments}
    return str(EnvSpec(task.environment_id, entry_point="toy:Toy", kwargs=kwargs).to_json())
