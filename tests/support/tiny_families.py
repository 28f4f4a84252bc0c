"""Configurations of runs of the newer families that take seconds; see `tiny_runs`."""

from pathlib import Path
from typing import Any

from tests.support.tiny_runs import write_tiny_config

GRADIENT: dict[str, Any] = {
    "family": "differentiable",
    "differentiable": {
        "model": {"kind": "ensemble", "width": 16, "layers": 1, "members": 2},
        "training": {"warmup_steps": 2},
        "critic": {"hidden_width": 16, "hidden_layers": 2, "batch_size": 16},
    },
    "planner": {
        "guidance": "return",
        "num_candidates": 32,
        "ascent": {"num_noise": 4, "rate": 0.05, "persistent": True, "uncertainty_penalty": 0.01},
    },
    "online": {"explore_with": "configured", "evaluate_every_env_steps": 1000},
    "evaluation": {"policies": ["rebrac", "gradient_mpc"]},
}

IMAGINATION: dict[str, Any] = {
    "model": {"context_length": 5, "width": 16, "num_layers": 1, "num_heads": 2},
    "world": {"hidden_width": 16},
    "critic": {"hidden_width": 16, "batch_size": 16, "updates_per_step": 1},
    "training": {"batch_size": 8, "warmup_steps": 2, "foundation_share": 0.5},
    "augmentation": {"horizon": 2, "ratio": 1.0, "refresh_every_env_steps": 30},
}
MEASURED = ["imagined_mpc", "ipd"]


def write_gradient_config(folder: Path, **changes: Any) -> Path:
    """Gradient MPC in an ensemble; nested dicts are merged."""
    merged = dict(GRADIENT)
    for key, value in changes.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return write_tiny_config(folder, **merged)


def write_imagination_config(folder: Path, **changes: Any) -> Path:
    """Imagined steps offline and on a schedule online; what is given replaces whole sections."""
    return write_tiny_config(
        folder,
        **{
            "family": "imagination",
            "imagination": IMAGINATION,
            "planner": {"horizon": 2, "num_candidates": 3, "td_lambda": 1.0},
            "evaluation": {"policies": MEASURED, "ranked_states": 0, "film_steps": 0},
            **changes,
        },
    )
