"""Where a Minari dataset lies and what its metadata declare, without running anything they name.

Minari itself accepts ids that leave its root, and builds an environment from the data's own entry point
when the metadata lack a space. So ids, folders and metadata are read here, as text.
"""

import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system.errors import DataError
from system.types import has_pixels

SHIPPED_ROOT = Path(__file__).parents[1] / "shipped"
SHIPPED_PREFIX = "o2o/"
PATH_VARIABLE = "MINARI_DATASETS_PATH"
MAIN_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"
LONGEST_ID = 200
LARGEST_METADATA_BYTES = 16 * 2**20
LARGEST_DIM = 10_000_000
DEEPEST = 8  # Dicts within Dicts

Bound = float | tuple[float, ...] | None
_PART = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_DATASET_ID = re.compile(rf"(?:{_PART}/)*{_PART}-v[0-9]+")


@dataclass(frozen=True)
class BoxBounds:
    """A one-dimensional box of numbers.

    Attributes:
        dim: how many.
        low, high: the bounds that all of them share, or one for each; None where they are not known.
    """

    dim: int
    low: Bound
    high: Bound


@dataclass(frozen=True)
class ImageSpace:
    """A box of uint8 pixels.

    Attributes:
        shape: as declared, which may be the raw environment's and not that of the stored frames.
    """

    shape: tuple[int, ...]


@dataclass(frozen=True)
class DiscreteSpace:
    """Numbered actions.

    Attributes:
        count: how many.
        start: number of the first.
        is_least: there may be more: these are those that occur.
    """

    count: int
    start: int = 0
    is_least: bool = False


@dataclass(frozen=True)
class ObservationPart:
    """Where a part of an observation lies in an episode, and how it becomes numbers of the flat vector.

    Attributes:
        path: names of the groups and of the array below `observations`; empty if that is the array.
        dim: numbers of the flat vector.
        choices: counts of numbered values, which become one-hot, and the number each begins with; empty of others.
    """

    path: tuple[str, ...]
    dim: int
    choices: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class DatasetMetadata:
    """What of a dataset's metadata is used.

    Attributes:
        environment_id: of the environment's specification; None where there is none.
        total_episodes: as declared; None if it is not.
        observation_space, action_space: None where the metadata lack them; of observations in parts the flat
            vector's.
        observation_names: of the flat vector's dimensions; empty where the parts have no names.
        environment_kwargs: what its constructor was given, as it stands there.
        max_episode_steps: the time limit; None where neither specification nor metadata say.
        notes: that the steps were imagined, and by what, where they were.
        reference_min, reference_max: returns scored 0 and 100; both or neither.
        sticky_probability: with which the environment repeated the last action instead (Atari); None where
            the specification does not say.
    """

    environment_id: str | None
    total_episodes: int | None
    observation_space: BoxBounds | ImageSpace | None
    action_space: BoxBounds | DiscreteSpace | None
    reference_min: float | None
    reference_max: float | None
    sticky_probability: float | None
    observation_names: tuple[str, ...] = ()
    environment_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    notes: tuple[str, ...] = ()


def check_dataset_id(dataset_id: str) -> str:
    """Returns the id if it is of the form namespace/…/name-vN, in ASCII and without a way out of the root.

    Raises:
        DataError: it is not; the message shows the id shortened and escaped.
    """
    if len(dataset_id) > LONGEST_ID or not _DATASET_ID.fullmatch(dataset_id):
        shown = ascii(dataset_id[:60]) + ("…" if len(dataset_id) > 60 else "")
        raise DataError(f"dataset id {shown} is not of the form namespace/name-v0 (letters, digits, - and _)")
    return dataset_id


def default_root() -> Path:
    """Minari's own root: MINARI_DATASETS_PATH, else the folder in the home directory."""
    configured = os.environ.get(PATH_VARIABLE)
    return Path(configured) if configured else Path.home() / ".minari" / "datasets"


def search_roots(dataset_id: str, path: str | None) -> list[Path]:
    """Folders that may hold a dataset, first choice first.

    A root that was named explicitly comes before the datasets shipped with the package, so that a dataset
    collected again under a shipped id is the one that is read.
    """
    local = [Path(path)] if path is not None else [default_root()]
    if not dataset_id.startswith(SHIPPED_PREFIX):
        return local
    return [*local, SHIPPED_ROOT] if path is not None else [SHIPPED_ROOT, *local]


def find_dataset(dataset_id: str, roots: list[Path]) -> Path | None:
    """The `data` folder of a dataset in the first root that has it, or None.

    Raises:
        DataError: the id is malformed, or a symbolic link leads out of the root, or a file is no plain file.
    """
    check_dataset_id(dataset_id)
    for root in roots:
        folder = root / dataset_id / "data"
        files = [folder / MAIN_FILE, folder / METADATA_FILE]
        if not folder.is_dir():
            continue
        if not (folder / METADATA_FILE).exists():
            raise DataError(f"dataset {dataset_id}: {folder} holds no {METADATA_FILE}")
        for file in (each for each in files if each.exists()):
            if not file.resolve().is_relative_to(root.resolve()):
                raise DataError(f"dataset {dataset_id}: {file} leads out of {root}")
            if not stat.S_ISREG(file.stat().st_mode):
                raise DataError(f"dataset {dataset_id}: {file} is not a plain file")
        return folder
    return None


def read_metadata(dataset_id: str, folder: Path) -> DatasetMetadata:
    """Reads `metadata.json`.

    Args:
        dataset_id: named in errors.
        folder: the dataset's `data` folder.

    Raises:
        DataError: the file cannot be parsed, is too large, is not HDF5, or declares other spaces than numbers
            that can be flattened, pixels and numbered actions.
    """
    content = _read_content(dataset_id, folder)
    total = content.get("total_episodes")
    reference_min, reference_max = _references(content)
    recorded, played = _specifications(dataset_id, content)
    environment_id, arguments = recorded.get("id"), played.get("kwargs")
    space = _embedded(dataset_id, content, "observation_space")
    parts = None if space is None or _is_image(space) else observation_parts(dataset_id, space)
    limit = content.get("max_episode_steps", played.get("max_episode_steps"))
    return DatasetMetadata(
        environment_id=environment_id if isinstance(environment_id, str) else None,
        environment_kwargs=arguments if isinstance(arguments, dict) else {},
        total_episodes=total if isinstance(total, int) else None,
        observation_space=_observation_space(space, parts),
        action_space=_action_space(dataset_id, content),
        reference_min=reference_min,
        reference_max=reference_max,
        sticky_probability=_sticky(recorded.get("kwargs")),
        observation_names=_names(parts or ()) or _given_names(content, sum(part.dim for part in parts or ())),
        max_episode_steps=limit if isinstance(limit, int) and limit > 0 else None,
        notes=_imagined(content.get("imagined")),
    )


def _imagined(about: Any) -> tuple[str, ...]:
    """A line that says so of a dataset whose steps did not happen."""
    if about is None:
        return ()
    if not isinstance(about, dict):
        return ("its steps were imagined, not recorded",)
    model, dataset = str(about.get("model", "unknown"))[:12], str(about.get("dataset", "unknown"))[:LONGEST_ID]
    levels = [about.get(f"disagreement_{name}") for name in ("median", "max")]
    known = all(isinstance(level, int | float) for level in levels)
    how = f"; disagreement median {levels[0]:.3g}, at most {levels[1]:.3g}" if known else ""
    return (f"its steps were imagined, not recorded: by model {model}, from {dataset}{how}",)


def read_observation_parts(dataset_id: str, folder: Path) -> tuple[ObservationPart, ...]:
    """The parts that observations are stored in, in the order of the flat vector; one plain one if undeclared.

    Args, Raises: as of `read_metadata`.
    """
    space = _embedded(dataset_id, _read_content(dataset_id, folder), "observation_space")
    if space is None or _is_image(space):
        return (ObservationPart((), 0),)
    return observation_parts(dataset_id, space)


def _given_names(content: Mapping[str, Any], dim: int) -> tuple[str, ...]:
    """As this package writes them beside a plain vector; none where they aren't one a dimension."""
    names = content.get("observation_names")
    fits = isinstance(names, list) and len(names) == dim and all(isinstance(name, str) for name in names)
    return tuple(name[:LONGEST_ID] for name in names) if names and fits else ()


def observation_parts(
    dataset_id: str, space: Mapping[str, Any], path: tuple[str, ...] = ()
) -> tuple[ObservationPart, ...]:
    """The parts of a space as Minari declares it, a Dict's in alphabetical order of their names.

    Raises:
        DataError: a part is none of the spaces that can be flattened.
    """
    kind, shape = space.get("type"), _integers(space.get("shape"))
    inside = space.get("subspaces")
    if kind == "Dict" and isinstance(inside, dict) and inside and len(path) < DEEPEST:
        named = sorted(inside.items())
        return tuple(
            part
            for name, inner in named
            if isinstance(inner, dict)
            for part in observation_parts(dataset_id, inner, (*path, str(name)))
        )
    if kind == "Box" and shape and not has_pixels(_box_shape(space), str(space.get("dtype"))):
        return (ObservationPart(path, math.prod(shape)),)
    counts = _integers([space.get("n")] if kind == "Discrete" else space.get("n", space.get("nvec")))
    if kind == "MultiBinary" and _integers([space.get("n")]):
        return (ObservationPart(path, space["n"]),)
    if kind == "Discrete" and counts:
        start = space.get("start", 0)
        return (ObservationPart(path, counts[0], ((counts[0], start if isinstance(start, int) else 0),)),)
    if kind == "MultiDiscrete" and counts:
        return (ObservationPart(path, sum(counts), tuple((count, 0) for count in counts)),)
    place = "observation_space" + (f" {'.'.join(path)}" if path else "")
    raise DataError(
        f"dataset {dataset_id}: {place} is a {_described(space)}; only Box of numbers, Discrete, MultiDiscrete, "
        "MultiBinary, Dict of these and a Box of uint8 pixels are supported"
    )


def _read_content(dataset_id: str, folder: Path) -> dict[str, Any]:
    file = folder / METADATA_FILE
    try:
        if file.stat().st_size > LARGEST_METADATA_BYTES:
            raise DataError(f"dataset {dataset_id}: {METADATA_FILE} is larger than {LARGEST_METADATA_BYTES} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"dataset {dataset_id}: {METADATA_FILE} is unreadable ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise DataError(f"dataset {dataset_id}: {METADATA_FILE} is not a JSON object")
    if content.get("data_format", "hdf5") != "hdf5":
        raise DataError(f"dataset {dataset_id}: data_format {content['data_format']!r:.40}, only hdf5 is read")
    return content


def _specifications(dataset_id: str, content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the environment as it was recorded in, and as it is to be played. Entry points are never looked at."""
    recorded, evaluated = (_embedded(dataset_id, content, key) or {} for key in ("env_spec", "eval_env_spec"))
    return recorded, evaluated if evaluated.get("id") == recorded.get("id") else recorded


def _sticky(arguments: Any) -> float | None:
    """With which probability actions were repeated, if the specification's arguments say so."""
    sticky = arguments.get("repeat_action_probability") if isinstance(arguments, dict) else None
    return float(sticky) if isinstance(sticky, int | float) else None


def _embedded(dataset_id: str, content: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """A JSON object that Minari stores as a string inside the metadata."""
    text = content.get(key)
    if text is None:
        return None
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise DataError(f"dataset {dataset_id}: {key} of its metadata is not JSON") from error
    if not isinstance(value, dict):
        raise DataError(f"dataset {dataset_id}: {key} of its metadata is not a JSON object")
    return value


def _observation_space(
    space: Mapping[str, Any] | None, parts: tuple[ObservationPart, ...] | None
) -> BoxBounds | ImageSpace | None:
    if space is None:
        return None
    if parts is None:
        return ImageSpace(_box_shape(space))
    return BoxBounds(sum(part.dim for part in parts), None, None)


def _is_image(space: Mapping[str, Any]) -> bool:
    shape = _box_shape(space)
    return len(shape) in (2, 3) and has_pixels(shape, str(space.get("dtype")))


def _names(parts: Sequence[ObservationPart]) -> tuple[str, ...]:
    return tuple(f"{'.'.join(part.path)}[{index}]" for part in parts if part.path for index in range(part.dim))


def _integers(values: Any) -> tuple[int, ...]:
    """Sizes or counts, if they are a list of sensible ones; else none."""
    listed = values if isinstance(values, list) else []
    sound = all(isinstance(value, int) and 0 < value < LARGEST_DIM for value in listed)
    return tuple(listed) if sound else ()


def _action_space(dataset_id: str, content: Mapping[str, Any]) -> BoxBounds | DiscreteSpace | None:
    space = _embedded(dataset_id, content, "action_space")
    if space is None:
        return None
    count = space.get("n")
    start = space.get("start", 0)
    if space.get("type") == "Discrete" and isinstance(count, int) and isinstance(start, int):
        return DiscreteSpace(count, start)
    return _vector(dataset_id, "action_space", space, "a Box of one dimension or a Discrete")


def _vector(dataset_id: str, key: str, space: Mapping[str, Any], supported: str) -> BoxBounds:
    shape = _box_shape(space)
    if len(shape) != 1:
        raise DataError(f"dataset {dataset_id}: {key} is a {_described(space)}; only {supported} is supported")
    low, high = (_bound(space.get(name), shape[0]) for name in ("low", "high"))
    if low is None or high is None:
        raise DataError(f"dataset {dataset_id}: {key} has bounds that are no numbers")
    return BoxBounds(dim=shape[0], low=low, high=high)


def _described(space: Mapping[str, Any]) -> str:
    shape = f" of shape {space.get('shape')!s:.40}" if space.get("type") == "Box" else ""
    return f"{space.get('type')!s:.20}{shape}"


def _box_shape(space: Mapping[str, Any]) -> tuple[int, ...]:
    """Of a box; empty where it is none, or its shape is not one of integers."""
    shape = space.get("shape")
    if space.get("type") != "Box" or not isinstance(shape, list):
        return ()
    return tuple(shape) if all(isinstance(size, int) for size in shape) else ()


def _bound(bounds: Any, dim: int) -> Bound:
    """The value that all bounds share, or one for each dimension; None if they are no such numbers."""
    listed = bounds if isinstance(bounds, list) else [bounds] * dim
    if len(listed) != dim or not all(isinstance(bound, int | float) for bound in listed):
        return None
    values = tuple(float(bound) for bound in listed)
    return values[0] if len(set(values)) == 1 else values


def _references(content: Mapping[str, Any]) -> tuple[float, float] | tuple[None, None]:
    low, high = content.get("ref_min_score"), content.get("ref_max_score")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None, None
    return (float(low), float(high)) if -math.inf < low < high < math.inf else (None, None)
