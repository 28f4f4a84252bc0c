"""Films of episodes: what the environment draws when actions are played again, in a file that is small enough."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from system.config import EnvironmentConfig
from system.config.modules import import_modules
from system.documents.animation import write_film
from system.envs.filming import film_episode
from system.envs.registry import find_task

MODULE = '''
import gymnasium
import numpy as np


class Drawn(gymnasium.Env):
    """A counter that starts at its seed, moves by what is done, and shows itself as a grey level."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode=None, fails=False):
        self.render_mode, self.fails = render_mode, fails

    def reset(self, *, seed=None, options=None):
        self.place = float(seed)
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place += 10 * float(action[0])
        return np.array([self.place], np.float32), 0.0, False, False, {}

    def render(self):
        if self.fails:
            raise RuntimeError("no display")
        return np.full((500, 300, 3), round(self.place), np.uint8)


gymnasium.register("FilmTest/Drawn-v0", Drawn, max_episode_steps=9)
'''


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "drawn_for_a_film.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    import_modules(["drawn_for_a_film"])
    return ["drawn_for_a_film"]


def test_the_actions_are_played_again_from_the_same_start(modules: list[str]) -> None:
    task = find_task("FilmTest/Drawn-v0")
    film = film_episode(task, 50, np.array([[1.0], [0.5]], np.float32), modules)
    assert film is not None
    assert film.shape == (3, 167, 100, 3), "one for each state, no side longer than it may be"
    assert film[:, 0, 0, 0].tolist() == [50, 60, 65]


def test_what_cannot_draw_itself_is_not_filmed_and_nothing_is_printed(
    modules: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    task = find_task("FilmTest/Drawn-v0", EnvironmentConfig(kwargs={"fails": True}))
    assert film_episode(task, 0, np.zeros((1, 1), np.float32), modules) is None
    assert capfd.readouterr() == ("", "")


def test_a_long_film_leaves_frames_out_and_a_short_one_none(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 40, 40, 3), dtype=np.uint8)
    write_film(noise, tmp_path / "whole.gif")
    size = (tmp_path / "whole.gif").stat().st_size
    write_film(noise, tmp_path / "thin.gif", max_bytes=size // 2)
    shown = [len(list(ImageSequence.Iterator(Image.open(tmp_path / name)))) for name in ("whole.gif", "thin.gif")]
    assert shown[0] == 12
    assert 4 <= shown[1] <= 6
    assert (tmp_path / "thin.gif").stat().st_size <= size // 2
