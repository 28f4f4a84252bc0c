"""Training of the frame tokenizer's codebook, once, before anything is learnt from tokens.

An update step draws frames with their predecessors and, of their patches, mostly such as have changed: a ball of
four pixels is in one patch of 36, and the others would teach the same empty background again and again. Every
patch moves its nearest code towards itself, by moving averages of how many patches a code stands for and of what
they show; a code that stands for next to none is put down again on a patch that is reconstructed badly. The
codebook is trained on the CPU: half a minute of one core is enough, and the outcome is the same everywhere.

Source: van den Oord et al. 2017, appendix A.1.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8

from system.data.store.episodes import EpisodeStore
from system.families.world_action.config import TokenizerConfig
from system.families.world_action.frame_tokenizer import FrameTokenizer
from system.seeding import numpy_generator

# A change of at least this many grey levels is motion.
MOTION_LEVELS = 10
PATCHES_PER_FRAME = 16
MEAN_FRAMES = 512
# Of the moving averages: about the last 50 steps count.
DECAY = 0.98
# A code with less than this part of an equal share of the patches is idle; one put down anew begins with more.
IDLE_SHARE, FRESH_SHARE = 0.03, 0.1
RESTART_EVERY_STEPS = 10
# The last codes that were put down still have to settle.
RESTARTS_END = 0.85


def train_tokenizer(
    tokenizer: FrameTokenizer,
    frames: EpisodeStore,
    config: TokenizerConfig,
    *,
    seed: int,
    progress: Callable[[int, int], None],
    stop_if_asked: Callable[[], None],
) -> None:
    """Trains in place; the same seed and frames give the same codebook.

    Each of these games gets the mean of its frames. A tokenizer that was trained before keeps those of others, and
    the meaning of the codes in use: what a patch shows beyond the mean, of which a ball or a bullet in one game is
    much like one in another.

    Args:
        tokenizer: on the CPU.
        frames: uint8 observations; of several games, which then get equal shares.
        config: steps and sizes.
        seed: the run's seed.
        progress: told (update steps done, update steps in all) after each.
        stop_if_asked: called after each step; may raise.
    """
    generator = numpy_generator(seed, "tokenizer")
    rows_of_games = rows_with_predecessor(frames)
    for game, rows_of_game in zip(frames.games.tolist(), rows_of_games, strict=True):
        rows = draw_rows([rows_of_game], MEAN_FRAMES, generator)
        tokenizer.set_mean_frame(game, _frames_at(frames, rows).float().mean(0) / 255.0)
    game_of_row = frames.game_of_observations()
    for step in range(config.update_steps):
        rows = draw_rows(rows_of_games, config.batch_size, generator)
        patches = draw_patches(
            tokenizer,
            _frames_at(frames, rows),
            _frames_at(frames, rows - 1),
            torch.from_numpy(game_of_row[rows]),
            config.moving_share,
            generator,
        )
        errors = update_codes(tokenizer, patches)
        if step % RESTART_EVERY_STEPS == 0 and step < RESTARTS_END * config.update_steps:
            restart_idle_codes(tokenizer, patches, errors, generator)
        progress(step + 1, config.update_steps)
        stop_if_asked()


def draw_patches(
    tokenizer: FrameTokenizer,
    frames: UInt8[torch.Tensor, "N height width"],
    previous: UInt8[torch.Tensor, "N height width"],
    games: Int64[torch.Tensor, "N"],
    moving_share: float,
    generator: np.random.Generator,
) -> Float[torch.Tensor, "M pixels"]:
    """Patches to learn from, `PATCHES_PER_FRAME` for each frame, less the mean frame of the game.

    Args:
        tokenizer: cuts.
        frames: o_t.
        previous: o_{t−1}.
        games: of each frame.
        moving_share: of the patches drawn, those in which a pixel has changed.
        generator: draws.
    """
    change = (frames.short() - previous.short()).abs() >= MOTION_LEVELS
    moved = tokenizer.to_patches(change).any(-1).flatten()
    chosen = choose_patches(moved.numpy(), PATCHES_PER_FRAME * len(frames), moving_share, generator)
    return tokenizer.residuals(frames, games).flatten(0, 1)[torch.from_numpy(chosen)]


def choose_patches(
    moved: Bool[np.ndarray, "all"], count: int, moving_share: float, generator: np.random.Generator
) -> Int64[np.ndarray, "count"]:
    """Indices of patches, with replacement: a share of those that moved, if any did, the rest from anywhere.

    Args:
        moved: of every patch.
        count: how many to draw.
        moving_share: in [0, 1].
        generator: draws.
    """
    moving = np.flatnonzero(moved)
    num_moving = int(moving_share * count) if moving.size else 0
    anywhere = generator.integers(len(moved), size=count - num_moving)
    return np.concatenate([generator.choice(moving, num_moving), anywhere]) if num_moving else anywhere


@torch.no_grad()
def update_codes(tokenizer: FrameTokenizer, patches: Float[torch.Tensor, "M pixels"]) -> Float[torch.Tensor, "M"]:
    """Moves codes towards the patches they are nearest to.

    Args:
        tokenizer: its `codes` and `usage` change.
        patches: less the mean frame.

    Returns:
        The squared distance of each patch to its code before.
    """
    tokens, errors = tokenizer.nearest(patches)
    gain = (1.0 - DECAY) / len(patches)
    sums = DECAY * tokenizer.usage.unsqueeze(1) * tokenizer.codes
    sums.index_add_(0, tokens, patches, alpha=gain)
    tokenizer.usage.mul_(DECAY).add_(torch.bincount(tokens, minlength=len(sums)), alpha=gain)
    # Of a code that was never used there is nothing to average.
    used = tokenizer.usage > torch.finfo(torch.float32).tiny
    tokenizer.codes[used] = sums[used] / tokenizer.usage[used].unsqueeze(1)
    return errors


@torch.no_grad()
def restart_idle_codes(
    tokenizer: FrameTokenizer,
    patches: Float[torch.Tensor, "M pixels"],
    errors: Float[torch.Tensor, "M"],
    generator: np.random.Generator,
) -> None:
    """Puts codes that stand for next to nothing on patches that are reconstructed badly.

    Args:
        tokenizer: its `codes` and `usage` change.
        patches: less the mean frame.
        errors: of each patch; those with a large one are likelier to get a code, and none gets two.
        generator: draws.
    """
    idle = np.flatnonzero(tokenizer.usage.numpy() < IDLE_SHARE / tokenizer.vocabulary_size)
    # All at once would pile up on the few worst patches of one batch.
    count = min(len(idle), max(1, len(patches) // 8))
    if count == 0:
        return
    # The small number lets patches without any error be drawn where there are too few others.
    weights = errors.double().numpy() + 1e-9
    patch = torch.from_numpy(generator.choice(len(patches), count, replace=False, p=weights / weights.sum()))
    code = torch.from_numpy(generator.permutation(idle)[:count])
    tokenizer.codes[code] = patches[patch]
    tokenizer.usage[code] = FRESH_SHARE / tokenizer.vocabulary_size


def rows_with_predecessor(frames: EpisodeStore) -> list[Int64[np.ndarray, "_"]]:
    """Of each game, the observation rows that are not an episode's first."""
    rows = np.arange(frames.num_steps + frames.num_episodes)
    follows = ~np.isin(rows, frames.step_offsets[:-1] + np.arange(frames.num_episodes))
    game = frames.game_of_observations()
    return [rows[follows & (game == each)] for each in frames.games]


def draw_rows(
    rows_of_games: list[Int64[np.ndarray, "_"]], count: int, generator: np.random.Generator
) -> Int64[np.ndarray, "count"]:
    """Rows, with replacement, in equal shares of each game (to one); ascending within a game.

    Args:
        rows_of_games: to draw from.
        count: how many in all.
        generator: draws.
    """
    bounds = np.linspace(0, count, len(rows_of_games) + 1).astype(np.int64)
    shares = zip(rows_of_games, np.diff(bounds), strict=True)
    return np.concatenate([np.sort(generator.choice(rows, share)) for rows, share in shares])


def _frames_at(frames: EpisodeStore, rows: Int64[np.ndarray, "N"]) -> UInt8[torch.Tensor, "N height width"]:
    return torch.tensor(frames.observations[rows])
