"""Short moving pictures as GIF files that are small enough to pass on."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

MAX_BYTES = 2_000_000
SCALES = (3, 2, 1)
FRAME_MILLISECONDS = 120
FILM_MILLISECONDS = 40
GAP_PIXELS = 6
CAPTION_PIXELS = 16

Frames = UInt8[np.ndarray, "N height width"]


def write_side_by_side(
    left: Frames, right: Frames, captions: Sequence[tuple[str, str]], path: Path, *, max_bytes: int = MAX_BYTES
) -> None:
    """Writes an animation that repeats for ever, enlarged by as much as its size allows.

    Args:
        left, right: grey frames.
        captions: what stands above each pair of them.
        path: of the GIF; its folder is made if need be.
        max_bytes: of the file, unless frames that are not enlarged take more.
    """
    for scale in SCALES:
        panels = [_panel(*each, scale) for each in zip(left, right, captions, strict=True)]
        data = _encoded(panels, FRAME_MILLISECONDS)
        if len(data) <= max_bytes:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_film(
    frames: UInt8[np.ndarray, "N height width *rgb"], path: Path, *, max_bytes: int = MAX_BYTES
) -> None:
    """Writes an animation that repeats for ever; of a long one some frames alone, as its size allows.

    Args:
        frames: grey or coloured, at least one.
        path: of the GIF; its folder is made if need be.
        max_bytes: of the file, unless two frames take more.
    """
    for step in itertools.count(1):
        kept = frames[::step]
        data = _encoded([Image.fromarray(frame) for frame in kept], FILM_MILLISECONDS)
        if len(data) <= max_bytes or len(kept) <= 2:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _panel(left: np.ndarray, right: np.ndarray, captions: tuple[str, str], scale: int) -> Image.Image:
    """One pair with its captions; every pixel of a frame is a square."""
    height, width = left.shape
    panel = Image.new("L", (2 * scale * width + GAP_PIXELS, scale * height + CAPTION_PIXELS), color=255)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default()
    for picture, caption, x in zip((left, right), captions, (0, scale * width + GAP_PIXELS), strict=True):
        draw.text((x + 2, 2), caption, fill=0, font=font)
        panel.paste(Image.fromarray(picture.repeat(scale, axis=0).repeat(scale, axis=1)), (x, CAPTION_PIXELS))
    return panel


def _encoded(panels: Sequence[Image.Image], milliseconds: int) -> bytes:
    buffer = io.BytesIO()
    panels[0].save(buffer, format="GIF", save_all=True, append_images=panels[1:], duration=milliseconds, loop=0)
    return buffer.getvalue()
