"""A durable log of online episodes: an episode is on disk before it is acknowledged.

The log is a folder of append-only segments. Opening it for writing starts a new *generation*: the opener
first claims its number, which fences every earlier writer, and then seals the earlier segments at the end of
their last complete record. A torn tail lies behind the seal and is never read; so is whatever a writer
that was thought dead may still append. Segments of earlier generations never change.

    owners/000002        claimed by the second opener
    owners/000002.json   {"sealed": {"000001-000000.log": 81234}}
    000002-000000.log    its first segment
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from system import fault_points
from system.data.replay.episode_record import Record, encode_episode, read_records
from system.errors import DataError, SystemFailure
from system.files import make_folder, sync_folder, write_durably
from system.types import Episode, EpisodeKey

SEGMENT_BYTES = 64 * 2**20


@dataclass
class EpisodeLog:
    """The one writer of a log; made by `EpisodeLog.open`.

    Attributes:
        folder: of the log.
        generation: of this writer.
        episodes: everything acknowledged before it opened the log, in order.
        quarantined: a line for each stretch of bytes whose checksum does not match.
        segment_bytes: a segment is closed once it has grown to this.
    """

    folder: Path
    generation: int
    episodes: list[Episode]
    quarantined: list[str]
    segment_bytes: int = SEGMENT_BYTES
    _keys: set[EpisodeKey] = field(default_factory=set)
    _stream: BinaryIO | None = None
    _segments: int = 0

    @classmethod
    def open(cls, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, with_frames: bool = False) -> "EpisodeLog":
        """Claims the log, reads what was acknowledged, and fences earlier writers.

        Args:
            folder: created if it is not there.
            segment_bytes: size at which a new segment is begun.
            with_frames: read the frames too of episodes whose observations are tokens; they take a thousand
                times the memory, and training needs the tokens alone.

        Raises:
            DataError: the log was written in another format.
        """
        generation = _claim(folder)
        sealed = _read_seals(folder)
        episodes: list[Episode] = []
        quarantined: list[str] = []
        seals: dict[str, int] = {}
        for path in sorted(folder.glob("*.log")):
            records = _read_segment(path, sealed.get(path.name), with_frames)
            seals[path.name] = sealed.get(path.name, records[-1].end if records else 0)
            episodes += [record.episode for record in records if record.episode is not None]
            quarantined += [_describe(path, record) for record in records if record.episode is None]
        write_durably(folder / "owners" / f"{generation:06d}.json", json.dumps({"sealed": seals}).encode())
        unique = {episode.key: episode for episode in episodes if episode.key is not None}
        return cls(folder, generation, list(unique.values()), quarantined, segment_bytes, set(unique))

    def append(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Stores episodes durably, with one fsync for all of them.

        Args:
            episodes: with keys; those that are in the log already are skipped.

        Returns:
            The episodes that were new, in order.

        Raises:
            SystemFailure: another writer has opened the log since; nothing is acknowledged.
        """
        new = list(
            {each.key: each for each in episodes if each.key is not None and each.key not in self._keys}.values()
        )
        if not new:
            return []
        self._refuse_if_superseded()
        fault_points.reach("replay.before_append")
        stream = self._segment()
        frames = b"".join(encode_episode(episode) for episode in new)
        half = len(frames) // 2
        stream.write(frames[:half])
        stream.flush()
        fault_points.reach("replay.mid_append")
        stream.write(frames[half:])
        stream.flush()
        os.fsync(stream.fileno())
        self._refuse_if_superseded()
        fault_points.reach("replay.after_append")
        self._keys.update(episode.key for episode in new if episode.key is not None)
        return new

    def close(self) -> None:
        """Ends the current segment; everything acknowledged is on disk already."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _segment(self) -> BinaryIO:
        """The segment to append to, a new one where there is none or it is full."""
        if self._stream is not None and self._stream.tell() >= self.segment_bytes:
            self.close()
        if self._stream is None:
            path = self.folder / f"{self.generation:06d}-{self._segments:06d}.log"
            self._stream = path.open("xb")
            self._segments += 1
            sync_folder(self.folder)
        return self._stream

    def _refuse_if_superseded(self) -> None:
        newest = _newest_generation(self.folder)
        if newest > self.generation:
            raise SystemFailure(
                f"{self.folder}: writer of generation {self.generation} was superseded by generation {newest}"
            )


def _read_segment(path: Path, sealed: int | None, with_frames: bool) -> list[Record]:
    try:
        return list(read_records(path.read_bytes()[:sealed], with_frames=with_frames))
    except DataError as error:
        raise DataError(f"{path}: {error}; start a new run, or go on with the version that wrote it") from error


def _claim(folder: Path) -> int:
    """Takes the next generation; from here on earlier writers get no acknowledgement."""
    owners = folder / "owners"
    make_folder(owners)
    while True:
        generation = _newest_generation(folder) + 1
        try:
            os.close(os.open(owners / f"{generation:06d}", os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            continue
        sync_folder(owners)
        return generation


def _newest_generation(folder: Path) -> int:
    return max((int(name) for name in os.listdir(folder / "owners") if name.isdigit()), default=0)


def _read_seals(folder: Path) -> dict[str, int]:
    """Where each earlier segment ends; the first seal of a segment holds."""
    seals: dict[str, int] = {}
    for path in sorted((folder / "owners").glob("*.json")):
        seals = {**json.loads(path.read_text())["sealed"], **seals}
    return seals


def _describe(path: Path, record: Record) -> str:
    return f"{path.name}: bytes {record.start} to {record.end} do not match their checksum"
