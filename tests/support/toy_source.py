"""A layout of its own: a text file with a line a step, read by one registered source."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from system.data.raw_episode import Origin, RawEpisode, episode_of_rows
from system.data.sources.minari_layout import BoxBounds
from system.data.sources.protocol import ReadOptions, Source, SourceFacts
from system.types import Episode, TaskSpec

ENVIRONMENT = "InvertedPendulum-v5"


def write_toy(file: Path, episodes: list[Episode]) -> Path:
    """`o o o o | a | r` a step, in the environment's units; an empty line ends an episode."""
    lines = []
    for episode in episodes:
        for observation, action, reward in zip(
            episode.observations, episode.actions, episode.rewards, strict=False
        ):
            cells = (observation, 3.0 * action, [reward])
            lines.append(" | ".join(" ".join(repr(float(value)) for value in cell) for cell in cells))
        lines.append("")
    file.write_text("\n".join(lines) + "\n")
    return file


def describe(path: Path, options: ReadOptions) -> SourceFacts:
    """A pendulum, always."""
    return SourceFacts(BoxBounds(4, None, None), BoxBounds(1, -3.0, 3.0), environment_id=ENVIRONMENT)


def read(path: Path, task: TaskSpec, options: ReadOptions) -> Iterator[RawEpisode]:
    """Every episode ends by falling over."""
    first = 1
    for number, block in enumerate(path.read_text().split("\n\n")):
        rows = [[np.array(cell.split(), dtype=float) for cell in line.split("|")] for line in block.splitlines()]
        if not rows:
            continue
        observations, actions, rewards = (np.stack([row[column] for row in rows]) for column in range(3))
        episode = episode_of_rows(
            number,
            observations,
            actions,
            rewards[:, 0],
            terminated=True,
            truncated=False,
            last_observation=None,
            origin=Origin(counted="line", first=first),
        )
        first += len(rows) + 1
        if episode is not None:
            yield episode


SOURCE = Source("toy", "a text file that ends in .toy", lambda path: path.suffix == ".toy", describe, read)
