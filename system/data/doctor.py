"""Looks a dataset over before training: coverage, returns, endings, and everything that is wrong with it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from system.config import DatasetConfig
from system.data.dataset_task import Environments
from system.data.frame_tally import FrameTally
from system.data.opening import open_dataset
from system.data.sources.protocol import SourceFacts
from system.data.store.returns import EndReadings, label_returns
from system.data.store.statistics import SMALLEST_STD
from system.data.validation import find_faults, is_missing, to_episode
from system.types import Episode, TaskSpec

ABSURD_REWARD = 1e6
MOST_CUT_NAMED = 20
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Coverage:
    """Moments of one quantity over all steps; actions in [−1, 1], the rest in the task's own units.

    Attributes:
        name: `observation 3` or the name of the dimension, `action 0` or `reward`.
        minimum, mean, std, maximum: over the steps.
    """

    name: str
    minimum: float
    mean: float
    std: float
    maximum: float


@dataclass(frozen=True)
class DoctorReport:
    """What was found.

    Attributes:
        id: of the dataset, or the path of a file.
        task: of its environment, with the dataset's reference scores.
        num_episodes, num_steps: fit for training.
        ended_terminated, ended_time_limit, ended_cut: episodes by how they ended.
        hidden_by_limits: share of the steps at which the time limit hides more than a tenth of the return-to-go,
            for which `dataset.limit_ends` is there.
        return_quantiles, length_quantiles: at `QUANTILES`, over episodes.
        facts: of frames and discrete actions, as names and values; empty of continuous control.
        coverage: of the reward, and of every observation and action dimension of continuous control.
        faults: a line for everything that training refuses; named by episode and step.
        warnings: a line for everything that is odd but allowed.
    """

    id: str
    task: TaskSpec
    num_episodes: int
    num_steps: int
    ended_terminated: int
    ended_time_limit: int
    ended_cut: int
    hidden_by_limits: float
    return_quantiles: Float64[np.ndarray, "quantiles"]
    length_quantiles: Float64[np.ndarray, "quantiles"]
    facts: list[tuple[str, str]]
    coverage: list[Coverage]
    faults: list[str]
    warnings: list[str]


def check_dataset(
    config: DatasetConfig,
    *,
    environments: Environments,
    environment_id: str | None = None,
    max_episode_steps: int | None = None,
    discount: float = 0.99,
) -> DoctorReport:
    """Reads a whole dataset and reports every fault instead of stopping at the first.

    Args:
        config: which dataset, and where; `on_bad_episode` plays no part.
        environments, environment_id, max_episode_steps: as for `open_dataset`.
        discount: γ of the returns-to-go.

    Raises:
        DataError: the dataset is missing, unsafe or unreadable, or of an unknown environment.
    """
    opened = open_dataset(config, environments, environment_id, max_episode_steps=max_episode_steps)
    task = opened.task
    tally = FrameTally(task)
    fit: dict[int, Episode] = {}
    digests: dict[int, bytes] = {}
    faults: list[str] = []
    notes = list(opened.facts.notes)
    total = 0
    for raw in opened.episodes():
        total += 1
        notes += [raw.note] if raw.note else []
        found = find_faults(raw, task, incomplete=config.incomplete != "refuse")
        faults += [str(fault) for fault in found]
        if found:
            continue
        episode = to_episode(raw, task)
        digests[raw.number] = _digest(episode)
        if task.frame_shape is not None:
            tally.add(raw.number, episode)
            episode = replace(episode, observations=episode.observations[:0].copy())
        fit[raw.number] = episode
    mismatch = opened.count_problem(total)
    if mismatch:
        faults.append(mismatch)
    if not fit:
        faults.append("no episode is fit for training")
    warnings = [*notes, *_unrecorded(fit), *_sticky(opened.facts), *_duplicates(digests), *tally.warnings]
    return _report(opened.name, task, fit, tally.lines(), faults, warnings, discount)


def _report(
    dataset_id: str,
    task: TaskSpec,
    fit: Mapping[int, Episode],
    facts: list[tuple[str, str]],
    faults: list[str],
    warnings: list[str],
    discount: float,
) -> DoctorReport:
    episodes = list(fit.values())
    terminated = sum(episode.terminated for episode in episodes)
    complete = sum(episode.complete for episode in episodes)
    coverage = _coverage(episodes, task)
    num_steps = sum(episode.num_steps for episode in episodes)
    return DoctorReport(
        id=dataset_id,
        task=task,
        num_episodes=len(episodes),
        num_steps=num_steps,
        ended_terminated=terminated,
        ended_time_limit=complete - terminated,
        ended_cut=len(episodes) - complete,
        hidden_by_limits=sum(_num_hidden(episode, task, discount) for episode in episodes) / max(1, num_steps),
        return_quantiles=_quantiles(
            episode.episode_return for episode in episodes if not is_missing(episode.rewards)
        ),
        length_quantiles=_quantiles(float(episode.num_steps) for episode in episodes),
        facts=facts,
        coverage=coverage,
        faults=faults,
        warnings=[*warnings, *_absurd_rewards(fit), *_cut(fit), *_constants(coverage)],
    )


def _num_hidden(episode: Episode, task: TaskSpec, discount: float) -> int:
    """Steps whose return-to-go the time limit changes by more than a tenth."""
    if is_missing(episode.rewards):
        return 0
    _, known = label_returns(
        episode.rewards if task.frame_shape is None else np.sign(episode.rewards),
        discount,
        terminated=episode.terminated,
        at_limit=True,
        readings=EndReadings(limit_ends="unknown"),
    )
    return int((~known).sum()) if episode.complete else 0


def _quantiles(values: Iterable[float]) -> Float64[np.ndarray, "quantiles"]:
    listed = list(values)
    return np.quantile(listed, QUANTILES) if listed else np.full(len(QUANTILES), np.nan)


def _coverage(episodes: list[Episode], task: TaskSpec) -> list[Coverage]:
    if not episodes:
        return []
    columns: list[tuple[str, np.ndarray]] = []
    if task.frame_shape is None:
        observations = np.concatenate([episode.observations for episode in episodes]).astype(np.float64)
        numbered = [f"observation {index}" for index in range(task.observation_dim)]
        names = task.observation_names if task.observation_slices else numbered
        columns += list(zip(names, observations.T, strict=True))
    if not task.is_discrete:
        actions = np.concatenate([episode.actions for episode in episodes]).astype(np.float64)
        columns += [(f"action {index}", column) for index, column in enumerate(actions.T)]
    columns.append(("reward", np.concatenate([episode.rewards for episode in episodes]).astype(np.float64)))
    recorded = [(name, values[np.isfinite(values)]) for name, values in columns]
    return [
        Coverage(name, float(values.min()), float(values.mean()), float(values.std()), float(values.max()))
        for name, values in recorded
        if values.size
    ]


def _digest(episode: Episode) -> bytes:
    digest = hashlib.sha256()
    for array in (episode.observations, episode.actions, episode.rewards):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _unrecorded(fit: Mapping[int, Episode]) -> list[str]:
    """What episodes lack that are learnt from as far as they go."""
    counts = {
        "actions": sum(is_missing(episode.actions) for episode in fit.values()),
        "rewards": sum(is_missing(episode.rewards) for episode in fit.values()),
    }
    return [f"{count} of {len(fit)} episodes have no {name}" for name, count in counts.items() if count]


def _sticky(facts: SourceFacts) -> list[str]:
    """Atari's own environments repeat the last action with probability 0.25 where nothing else is said."""
    unsaid = 0.25 if (facts.environment_id or "").startswith("ALE/") else 0.0
    probability = unsaid if facts.sticky_probability is None else facts.sticky_probability
    if probability == 0.0:
        return []
    return [f"collected with sticky actions (probability {probability:g}); the environment played here has none"]


def _duplicates(digests: Mapping[int, bytes]) -> list[str]:
    """Episodes whose observations, actions and rewards are the same bytes as an earlier one's."""
    first: dict[bytes, int] = {}
    lines = []
    for number, digest in digests.items():
        original = first.setdefault(digest, number)
        if original != number:
            lines.append(f"episode {number}: the same as episode {original}")
    return lines


def _absurd_rewards(fit: Mapping[int, Episode]) -> list[str]:
    lines = []
    for number, episode in fit.items():
        step = int(np.argmax(np.abs(np.nan_to_num(episode.rewards))))
        if abs(episode.rewards[step]) > ABSURD_REWARD:
            lines.append(f"episode {number}, step {step}: reward is {float(episode.rewards[step]):g}")
    return lines


def _cut(fit: Mapping[int, Episode]) -> list[str]:
    """A line for each of the first ones: of recordings that were stopped, all of them may be."""
    lines = [
        f"episode {number}: cut after {episode.num_steps} steps, before the end or the time limit"
        for number, episode in fit.items()
        if not episode.complete
    ]
    more = len(lines) - MOST_CUT_NAMED
    return lines if more <= 0 else [*lines[:MOST_CUT_NAMED], f"{more} more episodes were cut likewise"]


def _constants(coverage: list[Coverage]) -> list[str]:
    return [f"{each.name} is constant ({each.mean:g})" for each in coverage if each.std < SMALLEST_STD]
