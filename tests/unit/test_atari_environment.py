"""Atari games: the table, the frames made of their screens, and episodes that depend on nothing but themselves."""

import json
import os
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms
from PIL import Image

from system.envs.atari import FRAME_SHAPE, AtariEnvironment
from system.envs.atari_games import GAMES, AtariGame
from system.envs.registry import ATARI, environment_specification, find_task, make_environment
from system.envs.vector import EnvironmentBatch
from system.errors import ConfigError, PlannerError, ShapeError

BY_NAME = {game.name: game for game in GAMES}
KNOWN_INDICES = {"AirRaid": 0, "Assault": 3, "Breakout": 13, "Pong": 39, "Seaquest": 46, "Zaxxon": 59}
SMALL_SETS = ("Pong", "Breakout", "Phoenix")


def emulator(game: AtariGame) -> ALEInterface:
    ALEInterface.setLoggerMode(LoggerMode.Error)
    interface = ALEInterface()
    interface.setFloat("repeat_action_probability", 0.0)
    interface.setInt("random_seed", 7)
    interface.loadROM(roms.get_rom_path(game.rom))
    interface.reset_game()
    return interface


def test_games_are_numbered_alphabetically_and_keep_their_numbers() -> None:
    assert [game.index for game in GAMES] == list(range(60))
    assert [game.name for game in GAMES] == sorted(BY_NAME)
    assert {name: BY_NAME[name].index for name in KNOWN_INDICES} == KNOWN_INDICES


@pytest.mark.parametrize(
    "game",
    [pytest.param(each, marks=[] if each.name in SMALL_SETS else pytest.mark.slow) for each in GAMES],
    ids=lambda game: game.name,
)
def test_the_actions_of_a_game_are_those_of_the_emulators_minimal_set(game: AtariGame) -> None:
    assert game.minimal_actions == tuple(action.value for action in emulator(game).getMinimalActionSet())


def test_a_game_is_one_task_under_every_id_that_datasets_use() -> None:
    task = find_task("ALE/SpaceInvaders-v5")
    assert find_task("SpaceInvadersNoFrameskip-v4") is task
    assert (task.frame_shape, task.observation_dim, task.action_dim) == ((84, 84), 7056, 18)
    assert (task.game, task.valid_actions) == (49, (0, 1, 3, 4, 11, 12))
    assert (task.reference_min, task.reference_max, task.max_episode_steps) == (148.0, 1668.7, 27_000)
    assert len(ATARI) == 120
    with pytest.raises(ConfigError, match="ALE/SpaceInvaders-v5"):
        find_task("ALE/SpaceInvader-v5")


def test_the_specification_describes_the_emulator_as_datasets_do() -> None:
    specification = json.loads(environment_specification("PongNoFrameskip-v4"))
    assert specification["id"] == "ALE/Pong-v5"
    assert specification["kwargs"]["repeat_action_probability"] == 0.0
    assert specification["kwargs"]["full_action_space"] is True
    assert gymnasium.envs.registration.EnvSpec.from_json(json.dumps(specification)).kwargs["game"] == "pong"


@pytest.mark.parametrize("name", ["Pong", "SpaceInvaders"])
def test_a_frame_is_the_brighter_of_the_last_two_screens_shrunk(name: str) -> None:
    game = BY_NAME[name]
    environment, raw = AtariEnvironment(game), emulator(game)
    frame, _ = environment.reset(seed=0)
    assert np.array_equal(frame, shrunk(raw.getScreenGrayscale()))
    actions = np.random.default_rng(0).choice(game.minimal_actions, size=160)
    total = 0.0
    for action in actions:
        screens, expected = [], 0
        for _ in range(4):
            expected += raw.act(int(action))
            screens.append(raw.getScreenGrayscale())
        frame, reward, terminated, truncated, _ = environment.step(int(action))
        assert np.array_equal(frame, shrunk(np.maximum(screens[2], screens[3])))
        assert (reward, terminated, truncated) == (expected, False, False)
        total += abs(reward)
    assert total > 0, "the actions gain or lose something"


def shrunk(screen: np.ndarray) -> np.ndarray:
    """By another library."""
    return np.asarray(Image.fromarray(screen).resize((84, 84), Image.Resampling.BOX))


def test_shrinking_averages_whole_pixels() -> None:
    screen = np.random.default_rng(3).integers(0, 256, size=(210, 160), dtype=np.uint8)
    assert np.array_equal(AtariEnvironment(BY_NAME["Pong"])._shrink(screen), shrunk(screen))
    flat = np.full((210, 160), 200, dtype=np.uint8)
    assert (AtariEnvironment(BY_NAME["Pong"])._shrink(flat) == 200).all()


def test_only_the_end_of_the_game_ends_an_episode() -> None:
    environment = make_environment("ALE/Breakout-v5")
    environment.reset(seed=0)
    lives, terminated, steps = [5], False, 0
    while not terminated:
        _, _, terminated, truncated, information = environment.step(1)
        lives.append(information["lives"])
        steps += 1
        assert not truncated
    assert sorted(set(lives)) == [0, 1, 2, 3, 4, 5]
    assert steps < 1000


@pytest.mark.parametrize(("name", "steps_before"), [("Berzerk", 1), ("Seaquest", 10)])
def test_an_episode_does_not_depend_on_the_one_before(name: str, steps_before: int) -> None:
    """Both games keep some of their memory over the emulator's own reset."""
    environment = AtariEnvironment(BY_NAME[name])
    actions = np.random.default_rng(1).integers(0, 18, size=40).tolist()

    def episode(length: int) -> np.ndarray:
        first, _ = environment.reset(seed=0)
        return np.stack([first, *(environment.step(action)[0] for action in actions[:length])])

    alone = episode(40)
    episode(steps_before)
    assert np.array_equal(episode(40), alone)


def test_no_ops_come_from_the_seed_and_make_episodes_differ() -> None:
    environment, plain = (AtariEnvironment(BY_NAME["Pong"], noop_max=limit) for limit in (30, 0))
    episodes = [played(environment, seed) for seed in (1, 2, 3, 4, 1)]
    assert episodes[0] == episodes[-1]
    assert len(set(episodes)) > 2
    assert len({played(plain, seed) for seed in (1, 2, 3)}) == 1


def played(environment: AtariEnvironment, seed: int) -> bytes:
    """The first frames of an episode, all of one action."""
    frames = [environment.reset(seed=seed)[0], *(environment.step(3)[0] for _ in range(20))]
    return np.stack(frames).tobytes()


def test_no_ops_are_refused_where_there_are_none() -> None:
    with pytest.raises(ConfigError, match="noop_max"):
        make_environment("Hopper-v5", noop_max=1)


def test_a_batch_shows_frames_and_takes_only_actions_of_the_game() -> None:
    batch = EnvironmentBatch("ALE/Pong-v5", 2, max_episode_steps=2)
    first = batch.reset([0, 1], [1, 2])
    assert (first.shape, first.dtype) == ((2, *FRAME_SHAPE), np.uint8)
    both = np.ones(2, dtype=bool)
    observations, rewards, _, truncated = batch.step(np.array([3, 4]), np.array([True, False]))
    assert observations[0].any()
    assert not observations[1].any()
    assert (rewards.dtype, truncated.tolist()) == (np.float32, [False, False])
    assert batch.step(np.array([3, 4]), both)[3].tolist() == [True, False]
    with pytest.raises(PlannerError, match="environment 1"):
        batch.step(np.array([0, 2]), both)
    with pytest.raises(ShapeError):
        batch.step(np.zeros((2, 1), dtype=np.int64), both)
    batch.close()


def stored_datasets() -> list[Path]:
    """Atari datasets without repeated actions, where O2O_TEST_DATASETS names a folder that holds some."""
    root = os.environ.get("O2O_TEST_DATASETS")
    return sorted(Path(root).glob("atari/*/*-v0/data/main_data.hdf5")) if root else []


@pytest.mark.slow
@pytest.mark.parametrize("file", stored_datasets(), ids=lambda file: "-".join(file.parts[-4:-2]))
def test_stored_episodes_are_played_again_exactly(file: Path) -> None:
    metadata = json.loads((file.parent / "metadata.json").read_text())
    specification = json.loads(metadata["env_spec"])
    assert specification["kwargs"]["repeat_action_probability"] == 0.0
    environment = make_environment(specification["id"])
    with h5py.File(file) as root:
        for number in range(2):
            episode = {name: values[:] for name, values in root[f"episode_{number}"].items() if name != "infos"}
            assert np.array_equal(environment.reset(seed=number)[0], episode["observations"][0])
            for step, action in enumerate(episode["actions"]):
                frame, reward, terminated, _, _ = environment.step(int(action))
                assert np.array_equal(frame, episode["observations"][step + 1]), (number, step)
                assert (reward, terminated) == (episode["rewards"][step], episode["terminations"][step])
