"""One episode as bytes: a checksummed frame around a JSON header and little-endian arrays.

    frame    magic (4) · payload length (8) · CRC-32 of the payload (4) · CRC-32 of these 16 bytes (4) · payload
    payload  header length (4) · JSON header · one array after the other

The header lists each array's name, type, shape and stored bytes; uint8 pixels are compressed, all else is not.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from system.errors import DataError
from system.types import Episode, EpisodeKey

MAGIC = b"o2oE"
RECORD_FORMAT = 2
ARRAYS = ("observations", "actions", "rewards", "policy_version", "frames")
COMPRESSION_LEVEL = 6
_FRAME = struct.Struct("<4sQI")
_CHECK = struct.Struct("<I")
FRAME_BYTES = _FRAME.size + _CHECK.size


@dataclass(frozen=True)
class Record:
    """A frame found in a segment.

    Attributes:
        start, end: byte range of the frame, or of the bytes that could not be read.
        episode: None if its checksum does not match.
    """

    start: int
    end: int
    episode: Episode | None


def encode_episode(episode: Episode) -> bytes:
    """The frame of an online episode; its key must be set."""
    key = episode.key
    if key is None:
        raise ValueError("an episode without a key can't be logged")
    listed, stored = [], []
    for name in ARRAYS:
        values = getattr(episode, name)
        if values is not None:
            dtype = values.dtype.newbyteorder("<")
            stored.append(_to_bytes(np.ascontiguousarray(values, dtype=dtype)))
            listed.append([name, dtype.str, values.shape, len(stored[-1])])
    header = {
        "format": RECORD_FORMAT,
        "key": [key.worker, key.epoch, key.sequence],
        "flags": [episode.terminated, episode.truncated, episode.complete],
        "game": episode.game,
        "arrays": listed,
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    payload = b"".join([_CHECK.pack(len(text)), text, *stored])
    frame = _FRAME.pack(MAGIC, len(payload), zlib.crc32(payload))
    return frame + _CHECK.pack(zlib.crc32(frame)) + payload


def read_records(data: bytes, *, with_frames: bool = True) -> Iterator[Record]:
    """Every complete record of a segment, in order; unreadable stretches come as records without episode.

    A last frame that is cut short is left out: it was never acknowledged.

    Args:
        data: the segment.
        with_frames: False leaves out the frames of episodes whose observations are tokens.

    Raises:
        DataError: a record was written in another format.
    """
    position = 0
    while position + FRAME_BYTES <= len(data):
        length = _payload_length(data, position)
        if length is None:
            start, position = position, _next_frame(data, position + 1)
            yield Record(start, position, None)
            continue
        end = position + FRAME_BYTES + length
        if end > len(data):
            return
        yield Record(position, end, _decode(data[position:end], with_frames))
        position = end


def _payload_length(data: bytes, position: int) -> int | None:
    """Length of the payload if a sound frame starts here."""
    if data[position : position + 4] != MAGIC:
        return None
    frame = data[position : position + _FRAME.size]
    (check,) = _CHECK.unpack_from(data, position + _FRAME.size)
    return int(_FRAME.unpack(frame)[1]) if zlib.crc32(frame) == check else None


def _next_frame(data: bytes, position: int) -> int:
    """Where the next sound frame starts; the end of the data if there is none."""
    while (position := data.find(MAGIC, position)) >= 0:
        if position + FRAME_BYTES <= len(data) and _payload_length(data, position) is not None:
            return position
        position += 1
    return len(data)


def _decode(frame: bytes, with_frames: bool) -> Episode | None:
    (_, _, checksum), payload = _FRAME.unpack_from(frame), frame[FRAME_BYTES:]
    if zlib.crc32(payload) != checksum:
        return None
    (header_length,) = _CHECK.unpack_from(payload)
    header = json.loads(payload[_CHECK.size : _CHECK.size + header_length])
    if header.get("format") != RECORD_FORMAT:
        raise DataError(f"a record of format {header.get('format', 1)}, this version reads {RECORD_FORMAT}")
    offset, arrays = _CHECK.size + header_length, {}
    for name, dtype, shape, stored_bytes in header["arrays"]:
        if with_frames or name != "frames":
            arrays[name] = _from_bytes(payload[offset : offset + stored_bytes], np.dtype(dtype), shape)
        offset += stored_bytes
    terminated, truncated, complete = header["flags"]
    return Episode(
        **arrays,
        terminated=terminated,
        truncated=truncated,
        complete=complete,
        key=EpisodeKey(*header["key"]),
        game=header["game"],
    )


def _to_bytes(values: np.ndarray) -> bytes:
    data = values.tobytes()
    return zlib.compress(data, COMPRESSION_LEVEL) if values.dtype == np.uint8 else data


def _from_bytes(data: bytes, dtype: np.dtype, shape: list[int]) -> np.ndarray:
    """A writable array in native byte order."""
    raw = zlib.decompress(data) if dtype == np.uint8 else data
    return np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))
