"""How much of what matters in a frame survives being tokens: the small things that move.

A frame's error as a whole says little: a reconstruction without the ball differs from a perfect one by a
thousandth of a grey level a pixel. So pixels are judged where something is going on:

- object: differs from the episode's background, the per-pixel median of its frames;
- moving: belongs to an object and has changed since the previous frame;
- small: moving, and part of at most `SMALL_PIXELS` object pixels in the square around it: balls and bullets.

A pixel is recalled where the reconstruction lies nearer to the frame than to the background, and found where the
reconstruction shows anything at most one pixel away: a ball that is blurred or a pixel off is found.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch.nn import functional

from system.data.store.episodes import EpisodeStore
from system.families.world_action.frame_tokenizer import FrameTokenizer

# Grey levels, of 255.
OBJECT_LEVELS = 20
SMALL_SQUARE = 9
SMALL_PIXELS = 9
BACKGROUND_FRAMES = 256
CHUNK_FRAMES = 128


@dataclass(frozen=True)
class TokenizerQuality:
    """What a tokenizer does to a store's frames.

    Attributes:
        moving_recall: share of moving pixels that are reconstructed; NaN where nothing moves.
        small_recall: of small ones; NaN likewise.
        small_found: share of small pixels that are found; NaN likewise.
        precision: share of the reconstructions' object pixels where the frame has an object too.
        small_precision: of those that look small: the share of balls that are really there.
        mean_error: mean |x̂ − x| over all pixels, in grey levels of 255.
        vocabulary_used: share of the vocabulary that occurs.
        perplexity: exp of the entropy of the tokens, the number of tokens in effective use.
        num_frames: frames judged.
    """

    moving_recall: float
    small_recall: float
    small_found: float
    precision: float
    small_precision: float
    mean_error: float
    vocabulary_used: float
    perplexity: float
    num_frames: int


def tokenizer_quality(
    tokenizer: FrameTokenizer, frames: EpisodeStore, *, max_frames: int = 2000
) -> TokenizerQuality:
    """Encodes and decodes frames of every episode, evenly spaced, and compares.

    Args:
        tokenizer: judged, on whatever device it is.
        frames: with uint8 observations; held-out episodes, usually.
        max_frames: about how many frames to judge, over all episodes.
    """
    stride = max(1, -(-frames.num_steps // max_frames))
    tally = _Tally(np.zeros(tokenizer.vocabulary_size, np.int64))
    for index in range(frames.num_episodes):
        observations = frames.episode(index).observations
        spread = np.linspace(0, len(observations) - 1, min(len(observations), BACKGROUND_FRAMES)).astype(np.int64)
        background = torch.from_numpy(np.median(observations[spread], axis=0).astype(np.float32))
        chosen = np.arange(1, len(observations), stride)
        for first in range(0, len(chosen), CHUNK_FRAMES):
            rows = chosen[first : first + CHUNK_FRAMES]
            tally.add(tokenizer, observations[rows], observations[rows - 1], background, int(frames.game[index]))
    return tally.quality()


class _Tally:
    """Sums over chunks of frames."""

    def __init__(self, histogram: Int64[np.ndarray, "vocabulary"]) -> None:
        self.histogram = histogram
        self.counts: dict[str, tuple[int, int]] = {}
        self.error, self.num_frames = 0.0, 0

    def add(
        self,
        tokenizer: FrameTokenizer,
        observations: UInt8[np.ndarray, "N height width"],
        previous_observations: UInt8[np.ndarray, "N height width"],
        background: Float[torch.Tensor, "height width"],
        game: int,
    ) -> None:
        """Judges a chunk of one episode's frames."""
        tokens, reconstructed = _reconstruct(tokenizer, observations, game)
        frame = torch.from_numpy(observations.astype(np.float32))
        previous = torch.from_numpy(previous_observations.astype(np.float32))
        for name, (hits, cases) in _judge(frame, previous, background, reconstructed).items():
            before = self.counts.get(name, (0, 0))
            self.counts[name] = (before[0] + hits, before[1] + cases)
        self.error += float((reconstructed - frame).abs().mean((1, 2)).sum())
        self.num_frames += len(frame)
        self.histogram += np.bincount(tokens, minlength=len(self.histogram))

    def quality(self) -> TokenizerQuality:
        """What the sums come to."""
        shares = {name: hits / cases if cases else float("nan") for name, (hits, cases) in self.counts.items()}
        return TokenizerQuality(
            **shares,
            mean_error=self.error / self.num_frames,
            vocabulary_used=float((self.histogram > 0).mean()),
            perplexity=_perplexity(self.histogram),
            num_frames=self.num_frames,
        )


def _reconstruct(
    tokenizer: FrameTokenizer, frames: UInt8[np.ndarray, "N height width"], game: int
) -> tuple[Int64[np.ndarray, "tokens"], Float[torch.Tensor, "N height width"]]:
    """All tokens of the frames, and the grey levels that they stand for."""
    device = tokenizer.mean_patches.device
    games = torch.full((len(frames),), game, device=device)
    tokens = tokenizer.encode(torch.from_numpy(np.ascontiguousarray(frames)).to(device), games)
    return tokens.flatten().cpu().numpy(), tokenizer.decode(tokens, games).cpu() * 255.0


def _judge(
    frame: Float[torch.Tensor, "N height width"],
    previous: Float[torch.Tensor, "N height width"],
    background: Float[torch.Tensor, "height width"],
    reconstructed: Float[torch.Tensor, "N height width"],
) -> dict[str, tuple[int, int]]:
    """Hits and cases of each share in `TokenizerQuality`."""
    contrast = (frame - background).abs()
    objects = contrast > OBJECT_LEVELS
    moving = objects & ((frame - previous).abs() > OBJECT_LEVELS)
    small = moving & _is_sparse(objects)
    recalled = (reconstructed - frame).abs() < 0.5 * contrast
    claimed = (reconstructed - background).abs() > OBJECT_LEVELS
    # Half the level, so that an object which is barely too faint to count does not make its image a ghost.
    present = contrast > 0.5 * OBJECT_LEVELS
    claimed_small = claimed & _is_sparse(claimed)
    near = functional.max_pool2d(claimed.float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1) > 0.0
    cases = {
        "moving_recall": (moving, recalled),
        "small_recall": (small, recalled),
        "small_found": (small, near),
        "precision": (claimed, present),
        "small_precision": (claimed_small, present),
    }
    return {name: (int((case & hit).sum()), int(case.sum())) for name, (case, hit) in cases.items()}


def _is_sparse(objects: Bool[torch.Tensor, "N height width"]) -> Bool[torch.Tensor, "N height width"]:
    """Where the square around a pixel holds few object pixels."""
    square = SMALL_SQUARE
    share = functional.avg_pool2d(objects.float().unsqueeze(1), square, stride=1, padding=square // 2)
    return share.squeeze(1) * square**2 < SMALL_PIXELS + 0.5


def _perplexity(histogram: Int64[np.ndarray, "vocabulary"]) -> float:
    probabilities = histogram[histogram > 0] / histogram.sum()
    return float(np.exp(-(probabilities * np.log(probabilities)).sum()))
