"""A tiny run of the world-action family: a few short games of Pong by chance, and a model to match."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from configs import OWN_SECTIONS, nest

from system.data.writer import write_dataset
from system.envs.registry import environment_specification, find_task
from system.envs.vector import EnvironmentBatch
from system.types import Episode

GAME = "ALE/Pong-v5"
GAME_DATASET = "toy/pong-v0"
OTHER_GAME = "ALE/Breakout-v5"
OTHER_DATASET = "toy/breakout-v0"
GAME_STEPS = 12

TINY_GAME: dict[str, Any] = {
    "family": "world_action",
    "deterministic": True,
    "dataset": {"id": GAME_DATASET},
    "planner": {"name": "beam_search", "horizon": 1, "beam_width": 2, "select": "argmax"},
    "tokenizer": {"update_steps": 3, "batch_size": 4, "vocabulary": 16},
    "model": {"context_length": 3, "width": 16, "num_layers": 1, "num_heads": 2, "q_width": 16},
    "training": {"batch_size": 2, "warmup_steps": 2},
    "pretrain": {"update_steps": 6},
    "online": {
        "env_steps": 24,
        "environments_per_worker": 2,
        "env_steps_per_round": 12,
        "updates_per_env_step": 0.2,
        "limiter_tolerance_steps": 100,
        "evaluate_every_env_steps": 16,
        "max_episode_steps": 6,
    },
    "evaluation": {
        "policies": ["random", "q_greedy", "beam"],
        "episodes": 2,
        "schedule_episodes": 2,
        "num_environments": 2,
        "max_episode_steps": 4,
        "ranked_states": 1,
        "ranked_candidates": 2,
        "ranked_follow_steps": 1,
        "film_steps": 0,
    },
    "checkpoint": {"every_seconds": 0, "every_update_steps": 2, "keep": 3},
    "tracking": {"mlflow": False, "every_update_steps": 3},
}


def random_game(game: str, seed: int) -> Episode:
    """The first steps of a game that is played by chance, cut there."""
    task = find_task(game)
    generator = np.random.default_rng(seed)
    environments = EnvironmentBatch(game, 1, noop_max=30)
    frames = [environments.reset([0], [seed])[0]]
    actions = generator.choice(np.array(task.valid_actions), size=GAME_STEPS).astype(np.int64)
    rewards = np.zeros(GAME_STEPS, dtype=np.float32)
    for step, action in enumerate(actions):
        shown, gained, _, _ = environments.step(np.array([action]), np.array([True]))
        frames.append(shown[0])
        rewards[step] = gained[0]
    environments.close()
    rewards[-1] = 1.0 if seed % 2 else -1.0
    return Episode(
        observations=np.stack(frames),
        actions=actions,
        rewards=rewards,
        terminated=seed % 2 == 0,
        truncated=seed % 2 == 1,
        complete=seed % 2 == 0,
        game=task.game,
    )


def write_tiny_game_config(folder: Path, **changes: Any) -> Path:
    """game.yaml in a folder that gets the datasets too; nested dicts are merged."""
    for game, dataset_id in ((GAME, GAME_DATASET), (OTHER_GAME, OTHER_DATASET)):
        if not (folder / "datasets" / dataset_id).exists():
            write_dataset(
                folder / "datasets",
                dataset_id,
                [random_game(game, seed) for seed in range(6)],
                task=find_task(game),
                environment_specification=environment_specification(game),
                author="tests",
                algorithm_name="random actions",
                description="toy",
            )
    merged: dict[str, Any] = {}
    for layer in (TINY_GAME, {"dataset": {"path": str(folder / "datasets")}}, changes):
        for key, value in layer.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    if merged["family"] != TINY_GAME["family"]:
        merged = {key: value for key, value in merged.items() if key not in OWN_SECTIONS}
    path = folder / "game.yaml"
    path.write_text(yaml.safe_dump(nest(merged)))
    return path
