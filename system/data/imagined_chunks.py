"""A dataset imagined from chunk by chunk: a finished chunk is a file of its own, so that nothing is done twice.

    about.json                  what all of it follows from: model, data, settings
    chunk-000012.safetensors    the rollouts of one chunk; a chunk is there as a whole or not at all
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system.data.imagined_rollouts import ImaginedRollouts, join_rollouts
from system.data.store.episodes import EpisodeStore
from system.errors import DataError
from system.files import make_folder, write_durably

ABOUT = "about.json"


def chunks_of(store: EpisodeStore, most_steps: int) -> list[list[int]]:
    """Consecutive episodes of together about so many steps, at least one each; the same for any number of workers.

    Args:
        store: whose episodes.
        most_steps: a chunk is full once it has as many.
    """
    chunks: list[list[int]] = []
    steps = most_steps
    for episode, length in enumerate(store.lengths.tolist()):
        if steps >= most_steps:
            chunks.append([])
            steps = 0
        chunks[-1].append(episode)
        steps += length
    return chunks


class ImaginedChunks:
    """The chunks of one dataset, as far as they are finished.

    Args:
        folder: made if it is not there.
        about: what the chunks follow from, JSON.
        number: of chunks in all.
        throw_away: chunks of something else that lie there; otherwise they are in the way.

    Raises:
        DataError: they are.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], number: int, *, throw_away: bool) -> None:
        self.folder = folder
        self.number = number
        make_folder(folder)
        text = json.dumps({**about, "chunks": number}, sort_keys=True, indent=1)
        known = _read(folder / ABOUT)
        if known not in (None, text) and not throw_away:
            raise DataError(f"{folder}: was imagined by another model, from other data or with other settings")
        if known != text:
            for path in folder.glob("chunk-*.safetensors"):
                path.unlink()
            write_durably(folder / ABOUT, text.encode())

    def missing(self) -> list[int]:
        """The chunks that are still to be made, in order."""
        return [index for index in range(self.number) if not self._path(index).exists()]

    def put(self, index: int, rollouts: ImaginedRollouts) -> None:
        """Keeps a finished chunk; once this returns it is durable."""
        write_durably(self._path(index), rollouts.to_bytes())

    def all(self) -> ImaginedRollouts:
        """The rollouts of every chunk, in order.

        Raises:
            DataError: a file is damaged.
        """
        paths = [self._path(index) for index in range(self.number)]
        return join_rollouts([ImaginedRollouts.from_bytes(path.read_bytes(), str(path)) for path in paths])

    def _path(self, index: int) -> Path:
        return self.folder / f"chunk-{index:06d}.safetensors"


def digest_of(parts: Sequence[bytes]) -> str:
    """A short name of bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
