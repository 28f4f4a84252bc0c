"""An episode played again for the camera.

Drawing libraries print, fail and sometimes end their process, by what a machine has; so another process films, and
whatever becomes of it, the run goes on.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from system.config import EnvironmentConfig
from system.config.modules import import_modules
from system.envs.registry import find_task, make_environment, with_own_settings
from system.types import TaskSpec

FILMING_SECONDS = 120
LONGEST_SIDE = 240

Film = UInt8[np.ndarray, "N height width rgb"]


def film_episode(
    task: TaskSpec, seed: int, actions: Shaped[np.ndarray, "L *action"], modules: Sequence[str]
) -> Film | None:
    """What the environment shows while actions are played again.

    Args:
        task: of vectors, with an environment.
        seed: of the reset.
        actions: of the episode, from its first step.
        modules: that register the environment.

    Returns:
        A frame for each state from the first on; None where the environment cannot draw itself on this machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder) / "request.json"
        settings = {"kwargs": dict(task.environment_kwargs), "max_episode_steps": task.max_episode_steps}
        described = {"id": task.environment_id, "settings": settings, "seed": seed, "modules": list(modules)}
        try:
            request.write_text(json.dumps(described))
        except TypeError:  # keyword arguments that only this process holds
            return None
        np.save(request.with_suffix(".npy"), actions, allow_pickle=False)
        command = [sys.executable, "-m", "system.envs.filming", str(request)]
        try:
            subprocess.run(command, timeout=FILMING_SECONDS, check=True, capture_output=True)
            film: Film = np.load(request.with_name("film.npy"), allow_pickle=False)
        except (subprocess.SubprocessError, OSError):
            return None
    return film


def _film(request: Path) -> None:
    described = json.loads(request.read_text())
    import_modules(described["modules"])
    config = EnvironmentConfig(**described["settings"])
    task = with_own_settings(find_task(described["id"], config), config)
    frames = []
    with closing(make_environment(task, render_mode="rgb_array")) as environment:
        environment.reset(seed=described["seed"])
        frames.append(_shrunk(environment.render()))
        for action in np.load(request.with_suffix(".npy"), allow_pickle=False):
            environment.step(action)
            frames.append(_shrunk(environment.render()))
    np.save(request.with_name("film.npy"), np.stack(frames), allow_pickle=False)


def _shrunk(frame: object) -> np.ndarray:
    """Every n-th pixel, so that the longer side is as small as it may be."""
    picture = np.asarray(frame, dtype=np.uint8)
    step = -(-max(picture.shape[:2]) // LONGEST_SIDE)
    return picture[::step, ::step]


if __name__ == "__main__":
    _film(Path(sys.argv[1]))
