"""One episode as bytes: a checksummed frame around a JSON header and raw little-endian arrays.

    frame    magic (4) · payload length (8) · CRC-32 of the payload (4) · CRC-32 of these 16 bytes (4) · payload
    payload  header length (4) · JSON header · observations · actions · rewards · policy versions
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from system.types import Episode, EpisodeKey

MAGIC = b"o2oE"
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
    versions = episode.policy_version
    header = {
        "key": [key.worker, key.epoch, key.sequence],
        "flags": [episode.terminated, episode.truncated, episode.complete],
        "shape": [episode.num_steps, episode.observations.shape[1], episode.actions.shape[1]],
        "versions": versions is not None,
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = [_CHECK.pack(len(text)), text]
    parts += [np.ascontiguousarray(each, dtype="<f4").tobytes() for each in _float_arrays(episode)]
    if versions is not None:
        parts.append(np.ascontiguousarray(versions, dtype="<i8").tobytes())
    payload = b"".join(parts)
    frame = _FRAME.pack(MAGIC, len(payload), zlib.crc32(payload))
    return frame + _CHECK.pack(zlib.crc32(frame)) + payload


def read_records(data: bytes) -> Iterator[Record]:
    """Every complete record of a segment, in order; unreadable stretches come as records without episode.

    A last frame that is cut short is left out: it was never acknowledged.
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
        yield Record(position, end, _decode(data[position:end]))
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


def _decode(frame: bytes) -> Episode | None:
    (_, _, checksum), payload = _FRAME.unpack_from(frame), frame[FRAME_BYTES:]
    if zlib.crc32(payload) != checksum:
        return None
    (header_length,) = _CHECK.unpack_from(payload)
    header = json.loads(payload[_CHECK.size : _CHECK.size + header_length])
    (length, observation_dim, action_dim), offset = header["shape"], _CHECK.size + header_length
    counts = ((length + 1) * observation_dim, length * action_dim, length)
    arrays = []
    for count in counts:
        arrays.append(np.frombuffer(payload, "<f4", count, offset).astype(np.float32))
        offset += 4 * count
    terminated, truncated, complete = header["flags"]
    versions = np.frombuffer(payload, "<i8", length, offset).astype(np.int64) if header["versions"] else None
    return Episode(
        observations=arrays[0].reshape(length + 1, observation_dim),
        actions=arrays[1].reshape(length, action_dim),
        rewards=arrays[2],
        terminated=terminated,
        truncated=truncated,
        complete=complete,
        key=EpisodeKey(*header["key"]),
        policy_version=versions,
    )


def _float_arrays(episode: Episode) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return episode.observations, episode.actions, episode.rewards
