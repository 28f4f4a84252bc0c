"""How far a world-action model's dreams can be trusted, on held-out episodes, and what they look like."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8

from system.data.store.episodes import EpisodeStore, gather_segments
from system.decisions import TokenContext
from system.documents.animation import write_side_by_side
from system.documents.canvas import new_figure, save_figure
from system.families.world_action.agent import WorldActionAgent
from system.families.world_action.imagination import WorldActionImagination
from system.seeding import numpy_generator


@dataclass(frozen=True)
class ImaginedFrames:
    """What was imagined of recorded actions, and what had really followed, 1 … H steps ahead.

    Attributes:
        tokens: share of a frame's tokens that were predicted right.
        unchanged: the same of the guess that the frame stays what it is, for comparison.
        moving: share of right tokens among those that really change from the present frame; NaN where none did.
        rewards: share of rewards whose sign was predicted right.
        real, imagined: frames of one window, the present one first; the imagined ones decoded from tokens.
    """

    tokens: Float64[np.ndarray, "H"]
    unchanged: Float64[np.ndarray, "H"]
    moving: Float64[np.ndarray, "H"]
    rewards: Float64[np.ndarray, "H"]
    real: UInt8[np.ndarray, "H1 height width"]
    imagined: UInt8[np.ndarray, "H1 height width"]


@dataclass(frozen=True)
class ImaginedClip:
    """A stretch of an episode, and what was imagined of it under the same actions.

    Attributes:
        real, imagined: frames of the same moments.
        ahead: steps between each imagined frame and the last one that the model had seen; 0 is the latter itself.
    """

    real: UInt8[np.ndarray, "N height width"]
    imagined: UInt8[np.ndarray, "N height width"]
    ahead: Int64[np.ndarray, "N"]


@torch.no_grad()
def imagine_frames(
    agent: WorldActionAgent,
    tokens: EpisodeStore,
    frames: EpisodeStore,
    *,
    horizon: int,
    num_starts: int,
    seed: int,
) -> ImaginedFrames | None:
    """Imagines recorded action sequences and compares with what really followed.

    Args:
        agent: in evaluation mode.
        tokens, frames: the same held-out episodes, as the model and as a person sees them.
        horizon: H; the rest of the model's window is history.
        num_starts: windows to draw.
        seed: of the draw.

    Returns:
        None if no episode is longer than the horizon.
    """
    long_enough = np.flatnonzero(tokens.lengths > horizon)
    if len(long_enough) == 0:
        return None
    generator = numpy_generator(seed, "imagined frames")
    episode = generator.choice(long_enough, size=num_starts)
    step = (generator.random(num_starts) * (tokens.lengths[episode] - horizon)).astype(np.int64)
    future = gather_segments(tokens, episode, step + horizon, horizon + 1)
    real = torch.tensor(future.observations, device=agent.device).long()
    context = _context(agent, tokens, episode, step, agent.model.context_length - horizon)
    dream, rewards = _dream(agent, context, torch.tensor(future.actions[:, :horizon], device=agent.device))
    right, stayed = dream[:, 1:] == real[:, 1:], real[:, :1] == real[:, 1:]
    truth = torch.tensor(np.sign(future.rewards[:, :horizon]), device=agent.device)
    shown = frames.episode(int(episode[0])).observations[step[0] : step[0] + horizon + 1]
    return ImaginedFrames(
        tokens=_share(right),
        unchanged=_share(stayed),
        moving=(right & ~stayed).double().sum((0, 2)).div((~stayed).sum((0, 2))).cpu().numpy(),
        rewards=(rewards == truth).double().mean(0).cpu().numpy(),
        real=np.asarray(shown),
        imagined=_decoded(agent, dream[0], int(context.game[0])),
    )


@torch.no_grad()
def imagine_clip(
    agent: WorldActionAgent,
    tokens: EpisodeStore,
    frames: EpisodeStore,
    *,
    game: int,
    horizon: int,
    num_frames: int,
    seed: int,
) -> ImaginedClip | None:
    """Imagines a stretch of a game's longest held-out episode, `horizon` frames at a time.

    Args:
        agent: in evaluation mode.
        tokens, frames: the same held-out episodes, as the model and as a person sees them.
        game: which one.
        horizon: H; every H steps the model is shown the game again, as much of it as its window has room for.
        num_frames: the longest stretch, at least H.
        seed: of where it begins.

    Returns:
        None if no episode of the game is longer than the horizon.
    """
    lengths = np.where(tokens.game == game, tokens.lengths, 0)
    episode = int(lengths.argmax()) if len(lengths) else 0
    num_windows = min(num_frames, int(lengths.max(initial=1)) - 1) // horizon
    if num_windows == 0:
        return None
    steps = num_windows * horizon
    first = int(numpy_generator(seed, "imagined clip", game).integers(lengths[episode] - steps))
    starts, episodes = first + horizon * np.arange(num_windows), np.full(num_windows, episode)
    future = gather_segments(tokens, episodes, starts + horizon, horizon + 1)
    context = _context(agent, tokens, episodes, starts, agent.model.context_length - horizon)
    dream, _ = _dream(agent, context, torch.tensor(future.actions[:, :horizon], device=agent.device))
    shown = frames.episode(episode).observations[first : first + steps + 1]
    return ImaginedClip(
        real=np.asarray(shown),
        imagined=_decoded(agent, torch.cat([dream[:1, 0], dream[:, 1:].flatten(0, 1)]), game),
        ahead=np.concatenate([[0], 1 + np.arange(steps) % horizon]),
    )


def draw_imagined_frames(imagined: ImaginedFrames, title: str, path: Path) -> None:
    """Real frames above imagined ones, from the present to the horizon.

    Args:
        imagined: of one window.
        title: of the figure.
        path: of the PNG.
    """
    count = len(imagined.real)
    figure = new_figure(width=1.4 * count + 0.6, height=3.7)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(2, count, squeeze=False)
    for row, (name, pictures) in enumerate((("real", imagined.real), ("imagined", imagined.imagined))):
        for column, picture in enumerate(pictures):
            place = axes[row, column]
            place.imshow(picture, cmap="gray", vmin=0, vmax=255)
            place.set_xticks([])
            place.set_yticks([])
            if row == 0:
                place.set_title("now" if column == 0 else f"+{column}")
        axes[row, 0].set_ylabel(name)
    save_figure(figure, path)


def animate_imagined_clip(clip: ImaginedClip, path: Path) -> None:
    """The game on the left, and on the right what the model imagined of it.

    Args:
        clip: of one episode.
        path: of the GIF.
    """
    captions = [("the game", f"imagined +{ahead}" if ahead else "as seen") for ahead in clip.ahead.tolist()]
    write_side_by_side(clip.real, clip.imagined, captions, path)


def _context(
    agent: WorldActionAgent, tokens: EpisodeStore, episode: np.ndarray, step: np.ndarray, length: int
) -> TokenContext:
    """Each episode up to a step, as much of it as `length` frames hold."""
    past = gather_segments(tokens, episode, step, length)
    game = torch.tensor(past.game, device=agent.device)
    return TokenContext(
        tokens=torch.tensor(past.observations, device=agent.device).long(),
        actions=torch.tensor(past.actions[:, :-1], device=agent.device),
        valid=torch.tensor(past.valid, device=agent.device),
        game=game,
        valid_actions=agent.valid_actions[game],
    )


def _dream(
    agent: WorldActionAgent, context: TokenContext, actions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B, H+1, K], the present frame first, and reward signs [B, H] along the recorded actions."""
    model = WorldActionImagination(agent.model, discount=1.0)
    carry, _ = model.begin(context)
    rows = torch.arange(len(actions), device=actions.device)
    tokens, rewards = [model.observations(carry)], []
    for column in actions.T:
        carry, reward, _, _ = model.step(carry, rows, column)
        tokens.append(model.observations(carry))
        rewards.append(reward)
    return torch.stack(tokens, dim=1), torch.stack(rewards, dim=1)


def _decoded(agent: WorldActionAgent, tokens: torch.Tensor, game: int) -> UInt8[np.ndarray, "N height width"]:
    games = torch.full((len(tokens),), game, device=tokens.device)
    return (255.0 * agent.tokenizer.decode(tokens, games)).round().byte().cpu().numpy()


def _share(right: torch.Tensor) -> Float64[np.ndarray, "H"]:
    return right.double().mean((0, 2)).cpu().numpy()
