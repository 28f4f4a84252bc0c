"""The measure of what a frame tokenizer keeps: small things that move, found where they are."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from moving_dots import CONFIG, SIDE, moving_dot, store_of

from system.families.world_action.frame_tokenizer import FrameTokenizer
from system.families.world_action.tokenizer_quality import tokenizer_quality
from system.types import Episode


class Recording(FrameTokenizer):
    """Numbers the frames it is shown, and shows others in their place."""

    def __init__(self, shown: torch.Tensor) -> None:
        super().__init__(replace(CONFIG, vocabulary=64), (SIDE, SIDE))
        self.shown = shown

    def encode(self, frames: torch.Tensor, games: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(frames)).unsqueeze(1).repeat(1, 9)

    def decode(self, tokens: torch.Tensor, games: torch.Tensor) -> torch.Tensor:
        return self.shown[tokens[:, 0]]


def measured() -> tuple[Episode, torch.Tensor]:
    """An episode of a dot, and its frames from the second on in [0, 1]."""
    episode = moving_dot(50, 4)
    return episode, torch.from_numpy(episode.observations[1:].astype(np.float32) / 255.0)


def test_a_perfect_reconstruction_scores_one() -> None:
    episode, shown = measured()
    quality = tokenizer_quality(Recording(shown), store_of(episode))
    assert (quality.moving_recall, quality.small_recall) == (1.0, 1.0)
    assert (quality.precision, quality.small_precision) == (1.0, 1.0)
    assert quality.mean_error == pytest.approx(0.0, abs=1e-4)
    assert quality.num_frames == 50
    assert quality.vocabulary_used == pytest.approx(50 / 64)
    assert quality.perplexity == pytest.approx(50.0)


def test_a_dot_that_is_a_pixel_off_is_found() -> None:
    episode, shown = measured()
    inner = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inner[3:-3, 3:-3] = True
    background = shown.median(0).values
    for distance, found in ((1, 1.0), (2, 0.0)):
        frames = episode.observations.copy()
        frames[1:][:, ~inner] = (background[~inner] * 255.0).round().to(torch.uint8).numpy()
        only = torch.from_numpy(frames[1:].astype(np.float32) / 255.0)
        moved = background + torch.roll(only - background, distance, dims=2)
        store = store_of(Episode(**{**episode.__dict__, "observations": frames}))
        quality = tokenizer_quality(Recording(moved), store)
        assert (quality.small_found, quality.small_recall) == (found, 0.0)


def test_a_lost_dot_is_not_recalled_and_a_ghost_is_not_precise() -> None:
    episode, shown = measured()
    background = shown.median(0).values.expand_as(shown)
    lost = tokenizer_quality(Recording(background), store_of(episode))
    assert (lost.small_recall, lost.small_found) == (0.0, 0.0)
    assert math.isnan(lost.small_precision)
    ghosts = shown.clone()
    ghosts[:, 0, :2] = 0.9
    ghost = tokenizer_quality(Recording(ghosts), store_of(episode))
    assert ghost.small_recall == 1.0
    assert ghost.small_precision < 0.5


def test_large_objects_are_not_small_and_standing_ones_do_not_move() -> None:
    episode, _ = measured()
    frames = episode.observations.copy()
    frames[26:, 2:8, 2:8] = 200  # appears once, then stands there; the median is the background
    shown = torch.from_numpy(frames[1:].astype(np.float32) / 255.0)
    shown[25:, 2:8, 2:8] = shown[:24].median(0).values[2:8, 2:8]
    store = store_of(Episode(**{**episode.__dict__, "observations": frames}))
    quality = tokenizer_quality(Recording(shown), store)
    assert quality.small_recall == 1.0
    assert 0.4 < quality.moving_recall < 0.8  # some 34 pixels of the square, in one frame, and 50 dots
