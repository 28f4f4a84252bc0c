"""What a source of episodes is: one layout of files, described and read without executing anything in them.

A new source is a file with one `Source` record, and one line in `system.data.sources`; or, outside this package,
a call of `register_source`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system.data.raw_episode import RawEpisode
from system.data.sources.minari_layout import BoxBounds, DiscreteSpace, ImageSpace
from system.errors import DataError
from system.types import TaskSpec


@dataclass(frozen=True)
class ReadOptions:
    """What a person may ask for beside the path.

    Attributes:
        name: what the dataset is called, in messages; empty: by its path.
        observation_keys: of layouts whose observations have named parts, those that are read; empty: all.
        max_steps: of layouts that are drawn from (`Source.is_drawn_from`), at most so many; None: all.
        seed: of that draw.
    """

    name: str = ""
    observation_keys: tuple[str, ...] = ()
    max_steps: int | None = None
    seed: int = 0

    def title(self, path: Path) -> str:
        """How messages about a dataset begin."""
        return f"dataset {self.name or path}"


@dataclass(frozen=True)
class SourceFacts:
    """What a file says of the task that its episodes are of; all of it is data, none of it is looked up or run.

    Attributes:
        observation_space, action_space: None where the file doesn't say; bounds are None where it doesn't.
        environment_id: None where the file names no environment of Gymnasium's.
        environment_kwargs: what that environment's constructor was given, as the file says.
        max_episode_steps: the time limit; None where the file doesn't say.
        total_episodes: as declared; None if it is not.
        observation_names: of the dimensions; empty where they have none.
        reference_min, reference_max: returns scored 0 and 100; both or neither.
        sticky_probability: with which the environment repeated the last action instead (Atari); None where
            the file doesn't say.
        has_scores: rewards add up to the task's own returns.
        notes: lines that a person should see.
    """

    observation_space: BoxBounds | ImageSpace | None
    action_space: BoxBounds | DiscreteSpace | None
    environment_id: str | None = None
    environment_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    total_episodes: int | None = None
    observation_names: tuple[str, ...] = ()
    reference_min: float | None = None
    reference_max: float | None = None
    sticky_probability: float | None = None
    has_scores: bool = True
    notes: tuple[str, ...] = ()


def own_files(path: Path) -> list[Path]:
    """The file itself, or those directly in a folder, by name."""
    return [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())


@dataclass(frozen=True)
class Source:
    """One layout of files.

    Attributes:
        name: of the layout, in messages.
        looks_like: what is recognised, in a few words.
        recognises: whether a file or folder that exists is of this layout; may raise DataError where it is
            but is damaged.
        describe: what the file says of its task.
        read: the episodes one by one, bad ones too, given the task that they are of; whatever is wrong with the
            file as a whole raises DataError naming file and key.
        files: all that is read, which a digest of the data is made of.
        is_drawn_from: it can give fewer steps than it has (`ReadOptions.max_steps`).
    """

    name: str
    looks_like: str
    recognises: Callable[[Path], bool]
    describe: Callable[[Path, ReadOptions], SourceFacts]
    read: Callable[[Path, TaskSpec, ReadOptions], Iterator[RawEpisode]]
    files: Callable[[Path], list[Path]] = own_files
    is_drawn_from: bool = False


SOURCES: dict[str, Source] = {}
"""By name, in the order in which they are asked whether they recognise a file."""


def register_source(source: Source) -> None:
    """Makes a layout known to `o2o data` and to `dataset.file`."""
    SOURCES[source.name] = source


def source_of(path: Path) -> Source:
    """The source that recognises a file or folder.

    Raises:
        DataError: there is no such file, it is damaged, or of no known layout.
    """
    if not os.path.exists(path):
        raise DataError(f"{str(path)[:200]}: no such file or folder")
    for source in SOURCES.values():
        if source.recognises(path):
            return source
    known = "; ".join(f"{source.name}: {source.looks_like}" for source in SOURCES.values())
    raise DataError(f"{path} is of no layout that can be read ({known})")
