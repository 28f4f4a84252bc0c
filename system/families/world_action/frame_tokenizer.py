"""Frames as a few integers each: the vocabulary in which the world-action model sees and imagines.

A frame is cut into K patches. A patch, less what the game's mean frame shows at its place, becomes the number of
the nearest of V patches in a codebook, and is reconstructed as that one. So the codebook is both encoder and
decoder, the former a convolution with as many filters as there are tokens and a stride of one patch. A mean frame
for each game, not one for all, makes background the same token everywhere, and leaves the codes to what moves.

Deviations from the paper, with the reason: there is no convolutional autoencoder around the codebook, and no
perceptual loss. Measured on held-out episodes of Pong and Breakout (K 36, V 2048, one tokenizer for both, trained
on 21,000 and 19,000 of their frames): recall of moving pixels, as `tokenizer_quality` defines
it, and CPU seconds of training on one core.

    codes learnt                                                    Pong    Breakout    after
    this codebook                                                   0.93    0.80         22 s
    autoencoder of every patch, its own codebook by moving average  0.77    0.63        100 s
    autoencoder of every patch, finite scalar quantisation          0.67    0.61        100 s
    convolutional autoencoder, finite scalar quantisation           0.01    0.05         30 s

The autoencoders (Adam at 1e-3, absolute and edge error, tenfold weight on what moves; not tuned further) were
still improving when they were stopped. Those of patches were shown patches that move in half of all cases, the
convolutional one whole frames. Gradients find it hard to tell hundreds of places of a ball apart, which a
codebook of patches does at once. A tokenizer of one game alone reaches 0.97 in Pong and 0.84 in Breakout. What is
lost is mostly faint pixels at the edge of a ball, and the ball among Breakout's bricks, whose broken patterns are
more than there are codes.

Source: JOWA section 3.1; van den Oord et al. 2017, appendix A.1 (codebooks by moving averages).
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int, Int16, Int64, Shaped, UInt8
from torch import nn

from system.envs.atari_games import GAMES
from system.errors import ConfigError
from system.families.world_action.config import TokenizerConfig

# Patches looked up at once. Kernels choose their order of summation by the size of the batch, so a fixed size is
# what makes a frame's tokens the same whatever frames are encoded with it.
CHUNK_PATCHES = 144
# Frames that `perceive` moves to the codebook's device at once.
MOVED_FRAMES = 4096
INITIAL_CODE_SCALE = 0.1


class FrameTokenizer(nn.Module):
    """Frames to K tokens and back. Nothing in it has a gradient; `system.algorithms` says how it is trained.

    Args:
        config: grid and vocabulary.
        frame_shape: height and width of the frames.

    Attributes:
        mean_patches: [games, K, pixels] what is subtracted, the mean of a game's training frames in [0, 1]; 0 of a
            game without any.
        codes: [V, pixels] the codebook.
        usage: [V] share of patches that each code stood for in training, a moving average; 0 before it.

    Raises:
        ConfigError: the grid does not divide the frame.
    """

    mean_patches: torch.Tensor
    codes: torch.Tensor
    usage: torch.Tensor

    def __init__(self, config: TokenizerConfig, frame_shape: tuple[int, int] = (84, 84)) -> None:
        super().__init__()
        side = config.tokens_per_side
        if frame_shape[0] % side or frame_shape[1] % side:
            raise ConfigError(
                f"world_action.tokenizer.tokens_per_side: {side} does not divide frames of {frame_shape}"
            )
        self.frame_shape, self.tokens_per_side = frame_shape, side
        self.patch_shape = (frame_shape[0] // side, frame_shape[1] // side)
        pixels = math.prod(self.patch_shape)
        self.register_buffer("mean_patches", torch.zeros(len(GAMES), self.num_tokens, pixels))
        self.register_buffer("codes", INITIAL_CODE_SCALE * torch.randn(config.vocabulary, pixels))
        self.register_buffer("usage", torch.zeros(config.vocabulary))

    @property
    def num_tokens(self) -> int:
        """K."""
        return self.tokens_per_side**2

    @property
    def vocabulary_size(self) -> int:
        """V, the number of different tokens."""
        return len(self.codes)

    def set_mean_frame(self, game: int, frame: Float[torch.Tensor, "height width"]) -> None:
        """Takes over the mean of a game's training frames, in [0, 1]; it travels with the codebook."""
        self.mean_patches[game] = self.to_patches(frame.unsqueeze(0))[0]

    def to_patches(self, frames: Shaped[torch.Tensor, "N height width"]) -> Shaped[torch.Tensor, "N K pixels"]:
        """Cuts frames into the parts that one token each stands for, row by row."""
        side, (height, width) = self.tokens_per_side, self.patch_shape
        grid = frames.reshape(frames.shape[0], side, height, side, width).transpose(2, 3)
        return grid.reshape(frames.shape[0], self.num_tokens, height * width)

    def to_frames(self, patches: Float[torch.Tensor, "N K pixels"]) -> Float[torch.Tensor, "N height width"]:
        """Puts together what `to_patches` cut."""
        side, (height, width) = self.tokens_per_side, self.patch_shape
        grid = patches.reshape(len(patches), side, side, height, width).transpose(2, 3)
        return grid.reshape(len(patches), *self.frame_shape)

    def residuals(
        self, frames: UInt8[torch.Tensor, "N height width"], games: Int64[torch.Tensor, "N"]
    ) -> Float[torch.Tensor, "N K pixels"]:
        """What patches show beyond the mean frame of their game, in [−1, 1]; codes are of this kind."""
        return self.to_patches(frames.float() / 255.0) - self.mean_patches[games]

    def nearest(
        self, residuals: Float[torch.Tensor, "M pixels"]
    ) -> tuple[Int64[torch.Tensor, "M"], Float[torch.Tensor, "M"]]:
        """The number of the nearest code of each patch, and the squared distance to it."""
        # |r − c|² without |r|², which is the same for all codes.
        distances = torch.addmm(self.codes.square().sum(1), residuals, self.codes.T, alpha=-2.0)
        least, tokens = distances.min(dim=1)
        return tokens, (least + residuals.square().sum(1)).clamp_min(0.0)

    @torch.no_grad()
    def encode(
        self, frames: UInt8[torch.Tensor, "N height width"], games: Int64[torch.Tensor, "N"]
    ) -> Int64[torch.Tensor, "N K"]:
        """Tokens of frames; those of a frame do not depend on the frames encoded beside it.

        Args:
            frames: grey levels; N may be 0. Of frames that follow one another only what changes is looked up.
            games: of each frame.
        """
        patches = self.to_patches(frames)
        first = torch.ones((min(len(frames), 1), self.num_tokens), dtype=torch.bool, device=frames.device)
        other_game = (games[1:] != games[:-1]).unsqueeze(1)
        changed = torch.cat([first, (patches[1:] != patches[:-1]).any(-1) | other_game])
        frame, position = torch.nonzero(changed, as_tuple=True)
        # Of each place, the frame in which it took on the look that it has; then that look's number.
        order = torch.arange(len(frames), device=frames.device).unsqueeze(1)
        origin = (order * changed).cummax(0).values if len(frames) else order
        tokens = torch.zeros((len(frames), self.num_tokens), dtype=torch.int64, device=frames.device)
        tokens[frame, position] = self._numbers(patches[frame, position], games[frame], position)
        return tokens.gather(0, origin.expand_as(tokens))

    def _numbers(
        self,
        patches: UInt8[torch.Tensor, "M pixels"],
        games: Int64[torch.Tensor, "M"],
        position: Int64[torch.Tensor, "M"],
    ) -> Int64[torch.Tensor, "M"]:
        """Tokens of patches from anywhere, looked up `CHUNK_PATCHES` at a time."""
        numbers = torch.empty_like(position)
        for start in range(0, len(patches), CHUNK_PATCHES):
            part = slice(start, min(start + CHUNK_PATCHES, len(patches)))
            chunk = self.codes.new_zeros((CHUNK_PATCHES, patches.shape[1]))
            residuals = patches[part].float() / 255.0 - self.mean_patches[games[part], position[part]]
            chunk[: len(residuals)] = residuals
            numbers[part] = self.nearest(chunk)[0][: len(residuals)]
        return numbers

    def perceive(
        self, frames: UInt8[np.ndarray, "N height width"], games: Int64[np.ndarray, "N"]
    ) -> Int16[np.ndarray, "N K"]:
        """`encode` for arrays: what is stored, drawn and planned with in place of the frames.

        Args:
            frames: grey levels; on the host, whatever device the codebook is on.
            games: of each frame.
        """
        tokens = np.empty((len(frames), self.num_tokens), np.int16)
        for start in range(0, len(frames), MOVED_FRAMES):
            part = slice(start, start + MOVED_FRAMES)
            moved = (torch.tensor(array[part], device=self.codes.device) for array in (frames, games))
            tokens[part] = self.encode(*moved).cpu().numpy()
        return tokens

    @torch.no_grad()
    def decode(
        self, tokens: Int[torch.Tensor, "N K"], games: Int64[torch.Tensor, "N"]
    ) -> Float[torch.Tensor, "N height width"]:
        """What the tokens look like, in [0, 1].

        Args:
            tokens: 0 … V − 1, row by row.
            games: of each frame.
        """
        return self.to_frames(self.codes[tokens.long()] + self.mean_patches[games]).clamp(0.0, 1.0)
