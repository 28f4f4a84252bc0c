"""Writes episodes as a Minari dataset: complete metadata, small on disk, whole or not at all."""

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from system.data.raw_episode import RawEpisode
from system.data.sources.minari_layout import MAIN_FILE, METADATA_FILE, check_dataset_id
from system.data.validation import find_faults
from system.errors import DataError
from system.types import Episode, TaskSpec

NAMESPACE_FILE = "namespace_metadata.json"
SMALLEST_COMPRESSED_BYTES = 256
LARGEST_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Provenance:
    """Of episodes that did not happen.

    Attributes:
        model: digest of the weights that imagined them.
        dataset: that they were imagined from.
        disagreements: of the model's members about each step, of every episode.
    """

    model: str
    dataset: str
    disagreements: Sequence[np.ndarray]

    def metadata(self) -> dict[str, Any]:
        """Of the dataset."""
        every = np.concatenate(self.disagreements)
        return {
            "model": self.model,
            "dataset": self.dataset,
            "disagreement_median": float(np.median(every)),
            "disagreement_max": float(every.max()),
        }

    def infos(self, number: int) -> dict[str, np.ndarray]:
        """Of an episode's observations: the first was recorded, and what follows was not."""
        disagreement = np.concatenate([np.zeros(1, np.float32), self.disagreements[number].astype(np.float32)])
        return {"imagined": np.arange(len(disagreement)) > 0, "disagreement": disagreement}


def write_dataset(
    root: Path,
    dataset_id: str,
    episodes: Iterable[Episode | RawEpisode],
    *,
    task: TaskSpec,
    environment_specification: str,
    author: str,
    algorithm_name: str,
    description: str,
    provenance: Provenance | None = None,
) -> Path:
    """Writes a dataset that `minari.load_dataset` reads.

    Args:
        root: Minari's root; made where it is missing.
        dataset_id: namespace/…/name-vN, not there yet.
        episodes: at least one, read one after the other; actions in [−1, 1], stored in the environment's own
            units, or numbers of discrete ones. Where the observations are tokens, the frames are written. Raw
            ones are written so that they load as they would have from their own file.
        task: dimensions, action bounds and reference scores.
        environment_specification: Gymnasium's specification of the environment as JSON; of a task without one it
            plays no part.
        author, algorithm_name, description: who and what made the data, and how.
        provenance: of imagined episodes.

    Returns:
        The dataset's folder.

    Raises:
        DataError: the id is malformed or taken, an episode is unfit, or the specification is of another
            environment.
    """
    check_dataset_id(dataset_id)
    folder = root / dataset_id
    if folder.exists():
        raise DataError(f"dataset {dataset_id} exists already in {root}")
    specification = environment_specification if task.has_environment else None
    if specification is not None:
        _check_specification(dataset_id, specification, task)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        data = aside / "data"
        data.mkdir()
        total_episodes, total_steps = _write_episodes(data / MAIN_FILE, dataset_id, episodes, task, provenance)
        metadata = {
            "total_episodes": total_episodes,
            "total_steps": total_steps,
            "dataset_id": dataset_id,
            "author": [author],
            "algorithm_name": algorithm_name,
            "description": description,
            "dataset_size": round((data / MAIN_FILE).stat().st_size / 1e6, 1),
            **({"env_spec": specification, "eval_env_spec": specification} if specification else {}),
            **({"imagined": provenance.metadata()} if provenance else {}),
            **_layout_metadata(task),
        }
        (data / METADATA_FILE).write_text(json.dumps(metadata))
        aside.chmod(0o755)
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _declare_namespaces(root, dataset_id)
    return folder


def _check_specification(dataset_id: str, specification: str, task: TaskSpec) -> None:
    try:
        environment_id = json.loads(specification)["id"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"dataset {dataset_id}: the environment's specification is not JSON with an id") from error
    if environment_id != task.environment_id:
        raise DataError(f"dataset {dataset_id}: specification of {environment_id}, task {task.environment_id}")


def _layout_metadata(task: TaskSpec) -> dict[str, Any]:
    """What a reader needs to make sense of the file."""
    metadata: dict[str, Any] = {
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "minari_version": importlib.metadata.version("minari"),
        "observation_space": _observation_space(task),
        "action_space": _action_space(task),
    }
    if not task.has_environment:
        metadata["max_episode_steps"] = task.max_episode_steps
        metadata["observation_names"] = list(task.observation_names) if task.observation_slices else []
    if task.reference_min is not None and task.reference_max is not None:
        metadata["ref_min_score"] = task.reference_min
        metadata["ref_max_score"] = task.reference_max
    return metadata


def _observation_space(task: TaskSpec) -> str:
    if task.frame_shape is None:
        unbounded = np.full(task.observation_dim, np.inf)
        return _box("float32", -unbounded, unbounded)
    return _box("uint8", np.zeros(task.frame_shape, dtype=int), np.full(task.frame_shape, 255))


def _action_space(task: TaskSpec) -> str:
    if task.is_discrete:
        return json.dumps({"type": "Discrete", "dtype": "int64", "start": task.action_start, "n": task.action_dim})
    return _box("float32", *task.action_bounds)


def _box(dtype: str, low: np.ndarray, high: np.ndarray) -> str:
    """A box as Minari writes it; infinities as JSON's extension, which its reader expects."""
    bounds = {"low": low.tolist(), "high": high.tolist()}
    return json.dumps({"type": "Box", "dtype": dtype, "shape": list(low.shape), **bounds})


def _write_episodes(
    file: Path,
    dataset_id: str,
    episodes: Iterable[Episode | RawEpisode],
    task: TaskSpec,
    provenance: Provenance | None,
) -> tuple[int, int]:
    """Returns how many episodes and steps were written."""
    total_episodes = total_steps = 0
    with h5py.File(file, "w", libver="latest") as root:
        for number, episode in enumerate(episodes):
            raw = _to_raw(number, episode, task)
            faults = find_faults(raw, task)
            if faults:
                raise DataError(f"dataset {dataset_id}: {faults[0]}")
            group = root.create_group(f"episode_{number}")
            group.attrs["id"] = number
            group.attrs["total_steps"] = len(raw.rewards)
            for name in ("observations", "actions", "rewards", "terminations", "truncations"):
                _write_array(group, name, getattr(raw, name))
            for name, values in (provenance.infos(number) if provenance else {}).items():
                _write_array(group.require_group("infos"), name, values)
            total_episodes, total_steps = number + 1, total_steps + len(raw.rewards)
    if total_episodes == 0:
        raise DataError(f"dataset {dataset_id}: no episodes to write")
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
    return total_episodes, total_steps


def _to_raw(number: int, episode: Episode | RawEpisode, task: TaskSpec) -> RawEpisode:
    """The episode as it will be read back."""
    if isinstance(episode, RawEpisode):
        return _as_stored(number, episode, task)
    flags = np.zeros((2, episode.num_steps), dtype=bool)
    flags[:, -1:] = [[episode.terminated], [episode.truncated]]
    return RawEpisode(
        number=number,
        observations=_raw_observations(episode, task),
        actions=_raw_actions(episode, task),
        rewards=episode.rewards.astype(np.float32),
        terminations=flags[0],
        truncations=flags[1],
    )


def _as_stored(number: int, episode: RawEpisode, task: TaskSpec) -> RawEpisode:
    """The same values in the types that are stored; actions that will be rescaled keep their precision."""
    if episode.problem is not None:
        return replace(episode, number=number)
    exact = task.is_discrete or task.is_rescaled
    return replace(
        episode,
        number=number,
        observations=episode.observations.astype(np.float32 if task.frame_shape is None else np.uint8),
        actions=episode.actions if exact else episode.actions.astype(np.float32),
        rewards=episode.rewards.astype(np.float32),
    )


def _raw_observations(episode: Episode, task: TaskSpec) -> np.ndarray:
    if task.frame_shape is None:
        return episode.observations.astype(np.float32)
    return episode.observations if episode.frames is None else episode.frames


def _raw_actions(episode: Episode, task: TaskSpec) -> np.ndarray:
    if task.is_discrete:
        return episode.actions + task.action_start
    actions = episode.actions.astype(np.float32)
    if not task.is_rescaled:
        return actions
    low, high = task.action_bounds
    return (low + (actions.astype(np.float64) + 1.0) / 2.0 * (high - low)).astype(np.float32)


def _write_array(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """Compresses what is worth it: a tiny array is smaller without a chunk index."""
    if values.nbytes < SMALLEST_COMPRESSED_BYTES:
        group.create_dataset(name, data=values)
        return
    row_bytes = values.nbytes // len(values)
    chunk = (min(len(values), max(LARGEST_CHUNK_BYTES // row_bytes, 1)), *values.shape[1:])
    group.create_dataset(name, data=values, chunks=chunk, compression="gzip", compression_opts=9, shuffle=True)


def _declare_namespaces(root: Path, dataset_id: str) -> None:
    """Minari lists a namespace only where each of its folders holds this file."""
    for parent in list(Path(dataset_id).parents)[:-1]:
        file = root / parent / NAMESPACE_FILE
        if not file.exists():
            file.write_text("{}")
