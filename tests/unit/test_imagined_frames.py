"""Dreams beside the game, with a stand-in for the model whose errors are known, and the pictures of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from system.data.store.episodes import EpisodeStore
from system.decisions import TokenContext
from system.documents.animation import (
    CAPTION_PIXELS,
    FRAME_MILLISECONDS,
    GAP_PIXELS,
    MAX_BYTES,
    write_side_by_side,
)
from system.families.world_action import imagined_frames
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.imagined_frames import (
    ImaginedClip,
    animate_imagined_clip,
    draw_imagined_frames,
    imagine_clip,
    imagine_frames,
)
from system.types import Episode
from tests.support.jowa_windows import BREAKOUT, LENGTH, PONG, make_agent

SIDE, NUM_ACTIONS, STATIC = 12, 18, 5
LENGTHS = (9, 5, 2, 9)
GAMES = (PONG, PONG, PONG, BREAKOUT)


def tokens_at(episode: int | torch.Tensor, step: int | torch.Tensor) -> torch.Tensor:
    """Of a frame: one that moves at every step, one that tells the episode, two that never change."""
    step, episode = torch.as_tensor(step), torch.as_tensor(episode)
    same = torch.full_like(step, STATIC)
    return torch.stack([step, episode.expand_as(step), same, same], dim=-1)


def action_at(episode: int | torch.Tensor, step: int | torch.Tensor) -> int | torch.Tensor:
    return (5 * episode + step) % NUM_ACTIONS


def reward_at(episode: int | torch.Tensor, step: int | torch.Tensor) -> int | torch.Tensor:
    """Alternates: 1, −1, …; larger in the recording, of which only the signs count."""
    return 1 - 2 * ((episode + step) % 2)


def make_stores(lengths: tuple[int, ...] = LENGTHS) -> tuple[EpisodeStore, EpisodeStore]:
    """Episodes as the model and as a person sees them; a frame's grey tells episode and step."""
    seen, shown = [], []
    for index, length in enumerate(lengths):
        common = {
            "actions": np.array([action_at(index, step) for step in range(length)], dtype=np.int64),
            "rewards": np.array([7.0 * reward_at(index, step) for step in range(length)], dtype=np.float32),
            "terminated": True,
            "truncated": False,
            "complete": True,
            "game": GAMES[index],
        }
        tokens = tokens_at(index, torch.arange(length + 1)).numpy().astype(np.int16)
        grey = np.array([grey_at(index, step) for step in range(length + 1)], dtype=np.uint8)
        seen.append(Episode(observations=tokens, **common))
        shown.append(Episode(observations=np.tile(grey[:, None, None], (1, SIDE, SIDE)), **common))
    return EpisodeStore.from_episodes(seen, discount=0.9), EpisodeStore.from_episodes(shown, discount=0.9)


def grey_at(episode: int, step: int) -> int:
    return 20 * episode + step


@dataclass
class Dream:
    depth: int
    tokens: torch.Tensor


class KnownErrors:
    """Imagines what was recorded, but forgets to move at depth 2 and spoils what is static at depth 3.

    Rewards are right but at depth 2. Checks that it is told the game as it was played.
    """

    def __init__(self, model: torch.nn.Module, discount: float) -> None:
        self.model = model

    def begin(self, context: TokenContext) -> tuple[Dream, torch.Tensor]:
        self.now, self.episode = context.tokens[:, -1, 0], context.tokens[:, -1, 1]
        for row, (now, episode) in enumerate(zip(self.now.tolist(), self.episode.tolist(), strict=True)):
            valid = context.valid[row]
            count = int(valid.sum())
            assert count == min(now + 1, len(valid))
            steps = torch.arange(now + 1 - count, now + 1)
            assert torch.equal(context.tokens[row, valid], tokens_at(episode, steps))
            assert torch.equal(context.actions[row][valid[:-1]], action_at(episode, steps[:-1]))
            assert context.game[row] == GAMES[episode]
        return Dream(0, context.tokens[:, -1]), torch.zeros(len(self.now), NUM_ACTIONS)

    def step(
        self, carry: Dream, parents: torch.Tensor, actions: torch.Tensor
    ) -> tuple[Dream, torch.Tensor, torch.Tensor, torch.Tensor]:
        assert torch.equal(parents, torch.arange(len(self.now)))
        assert torch.equal(actions, action_at(self.episode, self.now + carry.depth))
        rewards = reward_at(self.episode, self.now + carry.depth) * (carry.depth != 1)
        dream = Dream(carry.depth + 1, dreamt(self.episode, self.now, carry.depth + 1))
        return dream, rewards.float(), torch.zeros(len(rewards), dtype=torch.bool), torch.zeros(len(rewards), 18)

    def observations(self, carry: Dream) -> torch.Tensor:
        return carry.tokens


class NothingMoves(KnownErrors):
    """Imagines the present for ever."""

    def begin(self, context: TokenContext) -> tuple[Dream, torch.Tensor]:
        return Dream(0, context.tokens[:, -1]), torch.zeros(len(context.tokens), NUM_ACTIONS)

    def step(
        self, carry: Dream, parents: torch.Tensor, actions: torch.Tensor
    ) -> tuple[Dream, torch.Tensor, torch.Tensor, torch.Tensor]:
        nothing = torch.zeros(len(actions))
        return carry, nothing, nothing.bool(), torch.zeros(len(actions), NUM_ACTIONS)


def dreamt(episode: int | torch.Tensor, start: int | torch.Tensor, depth: int) -> torch.Tensor:
    tokens = tokens_at(episode, start + (0 if depth == 2 else depth))
    if depth == 3:
        tokens[..., 3] = STATIC + 1
    return tokens


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> WorldActionAgent:
    monkeypatch.setattr(imagined_frames, "WorldActionImagination", KnownErrors)
    agent = make_agent().eval()
    for game, grey in ((PONG, 0.1), (BREAKOUT, 0.3)):
        agent.tokenizer.set_mean_frame(game, torch.full((SIDE, SIDE), grey))
    return agent


def decoded(agent: WorldActionAgent, tokens: torch.Tensor, game: int = PONG) -> np.ndarray:
    with torch.no_grad():
        return (255.0 * agent.tokenizer.decode(tokens, torch.full((len(tokens),), game))).round().byte().numpy()


def test_shares_count_tokens_that_move_and_rewards_by_depth(agent: WorldActionAgent) -> None:
    found = imagine_frames(agent, *make_stores(), horizon=3, num_starts=20, seed=0)
    assert found is not None
    assert found.tokens.tolist() == [1.0, 0.75, 0.75]
    assert found.unchanged.tolist() == [0.75] * 3
    assert found.moving.tolist() == [1.0, 0.0, 1.0]
    assert found.rewards.tolist() == [1.0, 0.0, 1.0]


def test_where_nothing_moves_there_is_no_share_of_it(
    agent: WorldActionAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, frames = make_stores((4,))
    still = tokens.with_observations(np.tile(tokens.observations[:1], (len(tokens.observations), 1)))
    monkeypatch.setattr(imagined_frames, "WorldActionImagination", NothingMoves)
    found = imagine_frames(agent, still, frames, horizon=2, num_starts=4, seed=0)
    assert found is not None
    assert np.isnan(found.moving).all()
    assert found.tokens.tolist() == [1.0, 1.0]


def test_the_shown_window_is_of_one_episode_and_its_dream(agent: WorldActionAgent) -> None:
    starts = set()
    for seed in range(8):
        found = imagine_frames(agent, *make_stores(), horizon=3, num_starts=3, seed=seed)
        assert found is not None
        episode, start = divmod(int(found.real[0, 0, 0]), 20)
        assert (found.real == np.arange(4)[:, None, None] + grey_at(episode, start)).all()
        dream = torch.stack([dreamt(episode, start, depth) for depth in range(4)])
        assert np.array_equal(found.imagined, decoded(agent, dream, GAMES[episode]))
        starts.add((episode, start))
    assert len(starts) > 3
    assert {episode for episode, _ in starts} <= {0, 1, 3}, "the others are too short"


def test_episodes_that_are_too_short_show_nothing(agent: WorldActionAgent) -> None:
    stores = make_stores((3, 2))
    assert imagine_frames(agent, *stores, horizon=3, num_starts=2, seed=0) is None
    assert imagine_frames(agent, *stores, horizon=2, num_starts=2, seed=0) is not None
    assert clip_of(agent, stores, horizon=3) is None
    assert clip_of(agent, stores, horizon=2) is not None
    assert clip_of(agent, stores, game=BREAKOUT, horizon=1) is None


def clip_of(
    agent: WorldActionAgent,
    stores: tuple[EpisodeStore, EpisodeStore],
    *,
    game: int = PONG,
    horizon: int = 2,
    num_frames: int = 6,
    seed: int = 0,
) -> ImaginedClip | None:
    return imagine_clip(agent, *stores, game=game, horizon=horizon, num_frames=num_frames, seed=seed)


@pytest.mark.parametrize(("game", "episode"), [(PONG, 0), (BREAKOUT, 3)])
def test_a_clip_is_dreamt_anew_every_few_steps_of_the_longest_episode(
    game: int, episode: int, agent: WorldActionAgent
) -> None:
    firsts = set()
    for seed in range(12):
        clip = clip_of(agent, make_stores(), game=game, seed=seed)
        assert clip is not None
        assert clip.ahead.tolist() == [0, 1, 2, 1, 2, 1, 2]
        first = int(clip.real[0, 0, 0]) - grey_at(episode, 0)
        assert (clip.real == np.arange(7)[:, None, None] + grey_at(episode, first)).all()
        starts = [first + 2 * (max(at - 1, 0) // 2) for at in range(7)]
        pairs = zip(starts, clip.ahead.tolist(), strict=True)
        dream = torch.stack([dreamt(episode, start, ahead) for start, ahead in pairs])
        assert np.array_equal(clip.imagined, decoded(agent, dream, game))
        firsts.add(first)
    assert firsts <= set(range(LENGTHS[episode] - 6))
    assert len(firsts) > 1


def test_a_clip_is_as_long_as_the_episode_allows(agent: WorldActionAgent) -> None:
    whole = clip_of(agent, make_stores(), num_frames=100)
    assert whole is not None
    assert len(whole.real) == len(whole.imagined) == len(whole.ahead) == 9
    assert clip_of(agent, make_stores(), num_frames=1) is None


def test_a_real_model_dreams_in_its_own_window() -> None:
    agent = make_agent().eval()
    stores = make_stores((8,))
    found = imagine_frames(agent, *stores, horizon=LENGTH - 1, num_starts=5, seed=0)
    clip = clip_of(agent, stores, horizon=LENGTH // 2)
    assert found is not None and clip is not None
    assert found.imagined.shape == found.real.shape == (LENGTH, SIDE, SIDE)
    assert clip.imagined.shape == clip.real.shape == (7, SIDE, SIDE)
    assert np.array_equal(clip.imagined[0], decoded(agent, tokens_at(0, int(clip.real[0, 0, 0]))[None])[0])


def test_the_picture_has_the_game_above_the_dream(
    agent: WorldActionAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(imagined_frames, "save_figure", lambda figure, path: drawn.append(figure))
    found = imagine_frames(agent, *make_stores(), horizon=3, num_starts=3, seed=0)
    assert found is not None
    draw_imagined_frames(found, "a dream", tmp_path / "dream.png")
    (figure,) = drawn
    shown = np.stack([axes.images[0].get_array() for axes in figure.axes])
    assert np.array_equal(shown, np.concatenate([found.real, found.imagined]))
    assert [axes.get_title() for axes in figure.axes[:4]] == ["now", "+1", "+2", "+3"]
    assert [figure.axes[index].get_ylabel() for index in (0, 4)] == ["real", "imagined"]


def read_gif(path: Path) -> tuple[list[np.ndarray], dict]:
    with Image.open(path) as picture:
        assert picture.format == "GIF"
        panels = []
        for number in range(picture.n_frames):
            picture.seek(number)
            panels.append(np.asarray(picture.convert("L")))
        return panels, dict(picture.info)


def halves(panel: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Both frames of a panel, at their own size."""
    frames = panel[CAPTION_PIXELS:]
    right = scale * SIDE + GAP_PIXELS
    return frames[::scale, : scale * SIDE : scale], frames[::scale, right::scale]


def test_the_animation_has_the_game_beside_the_dream(agent: WorldActionAgent, tmp_path: Path) -> None:
    clip = clip_of(agent, make_stores())
    assert clip is not None
    animate_imagined_clip(clip, tmp_path / "figures" / "dream.gif")
    panels, info = read_gif(tmp_path / "figures" / "dream.gif")
    assert len(panels) == len(clip.real)
    assert (info["loop"], info["duration"]) == (0, FRAME_MILLISECONDS)
    assert panels[0].shape == (3 * SIDE + CAPTION_PIXELS, 6 * SIDE + GAP_PIXELS)
    for panel, real, imagined in zip(panels, clip.real, clip.imagined, strict=True):
        left, right = halves(panel, 3)
        assert np.array_equal(left, real)
        assert np.array_equal(right, imagined)


def test_the_animation_says_how_far_ahead_each_frame_is(
    agent: WorldActionAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(imagined_frames, "write_side_by_side", lambda *given: said.extend(given[2]))
    clip = clip_of(agent, make_stores(), num_frames=4)
    assert clip is not None
    animate_imagined_clip(clip, tmp_path / "dream.gif")
    expected = ("as seen", "imagined +1", "imagined +2", "imagined +1", "imagined +2")
    assert said == [("the game", text) for text in expected]
    frames = np.zeros((2, 84, 84), dtype=np.uint8)
    write_side_by_side(frames, frames, said[:2], tmp_path / "captions.gif")
    first, second = (panel[:CAPTION_PIXELS] for panel in read_gif(tmp_path / "captions.gif")[0])
    middle = 3 * 84 + GAP_PIXELS
    assert np.array_equal(first[:, :middle], second[:, :middle]) and first[:, :middle].min() < 100
    assert not np.array_equal(first[:, middle:], second[:, middle:])


def test_an_animation_is_enlarged_no_more_than_its_size_allows(tmp_path: Path) -> None:
    """Noise cannot be compressed: nothing that a model imagines takes more room."""
    left, right = np.random.default_rng(0).integers(256, size=(2, 49, 84, 84), dtype=np.uint8)
    write_side_by_side(left, right, [("game", "dream")] * 49, tmp_path / "noise.gif")
    assert (tmp_path / "noise.gif").stat().st_size <= MAX_BYTES
    write_side_by_side(left[:4], right[:4], [("game", "dream")] * 4, tmp_path / "short.gif")
    sizes = [read_gif(tmp_path / name)[0][0].shape[0] - CAPTION_PIXELS for name in ("noise.gif", "short.gif")]
    assert sizes[0] in (84, 168)
    assert sizes[1] == 3 * 84
