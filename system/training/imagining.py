"""When a family that can imagines from what was recorded, and what becomes of it: a map over the dataset.

Offline the dataset is imagined from once, chunk by chunk, before the update step that the family names; online
what was newly collected and a part of the dataset, on a schedule. What comes of it goes into the learners' state.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save as save_tensors

from system import fault_points
from system.config import RunConfig
from system.data.imagined_chunks import ImaginedChunks, chunks_of, digest_of
from system.data.imagined_rollouts import ImaginedRollouts, join_rollouts
from system.data.store.episodes import EpisodeStore, concatenate
from system.evaluation.imagined_summary import describe, format_imagined
from system.families.registry import Agent, Imagining, family_of
from system.training.experiment import Experiment
from system.training.protocols import ImaginedChunk

FOLDER = "imagined"
CHUNK_STEPS = 2000
Imagine = Callable[[Sequence[ImaginedChunk]], Iterator[tuple[int, ImaginedRollouts]]]
"""Chunks of a store → (index of a chunk, what was imagined of it), in whatever order they are finished."""


def imagine_dataset(
    imagine: Imagine,
    store: EpisodeStore,
    folder: Path,
    about: dict[str, Any],
    *,
    progress: Callable[[int, int], None],
    throw_away: bool,
) -> ImaginedRollouts:
    """Imagines from every episode; what lies in the folder of an earlier attempt is not done again.

    Args:
        imagine: from chunks of the store.
        store: the dataset.
        folder: of the finished chunks.
        about: what they follow from.
        progress: told (chunks done, chunks in all).
        throw_away: what lies in the folder and follows from something else; otherwise it is in the way.

    Raises:
        DataError: it is.
    """
    chunks = chunks_of(store, CHUNK_STEPS)
    kept = ImaginedChunks(folder, about, len(chunks), throw_away=throw_away)
    missing = kept.missing()
    asked: list[ImaginedChunk] = [(("offline", index), chunks[index]) for index in missing]
    done = len(chunks) - len(missing)
    progress(done, len(chunks))
    for place, rollouts in imagine(asked):
        kept.put(missing[place], rollouts)
        fault_points.reach("imagining.chunk")
        done += 1
        progress(done, len(chunks))
    return kept.all()


def about_imagining(agent: Agent, store: EpisodeStore, config: RunConfig) -> dict[str, Any]:
    """What imagined rollouts follow from: digests of weights and data, and the settings."""
    weights = {name: value.detach().cpu().contiguous() for name, value in agent.state_dict().items()}
    columns = (store.lengths, store.actions, store.rewards)
    return {
        "model": digest_of([save_tensors(weights)]),
        "data": digest_of([np.ascontiguousarray(each).tobytes() for each in columns]),
        "settings": digest_of([repr((config.planner, config.method, config.discount, config.seed)).encode()]),
    }


def updates_until_imagining(config: RunConfig, pretrain_steps: int) -> int | None:
    """Offline update steps that are left before the dataset is imagined from; None if it is not, or was."""
    imagining = family_of(config).imagining
    step = None if imagining is None else imagining.update_step(config)
    return step - pretrain_steps if step is not None and step > pretrain_steps else None


def imagine_offline_if_due(run: Experiment) -> None:
    """Imagines from the dataset, if the run stands before the update step at which that is due and has not yet."""
    imagining = family_of(run.config).imagining
    if imagining is None or run.progress.imagined:
        return
    if imagining.update_step(run.config) != run.progress.pretrain_steps:
        return
    store, began = run.data.training, time.monotonic()
    _begin(run, imagining)
    rollouts = imagine_dataset(
        lambda chunks: run.imagine(store, chunks),
        store,
        run.run_dir.path / FOLDER,
        about_imagining(run.agent(), store, run.config),
        progress=lambda done, total: run.tracker.progress("imagine", done, total, "chunks"),
        throw_away=True,
    )
    _take_in(run, imagining, store, rollouts, "offline", time.monotonic() - began)
    run.save()


def imagine_online_if_due(run: Experiment) -> None:
    """Imagines from new episodes and a part of the dataset, once for every so many env steps.

    Args:
        run: of a family that imagines.
    """
    imagining, progress = _imagining(run.config), run.progress
    every = imagining.every_env_steps(run.config)
    if every is None or progress.env_steps // every <= progress.imagined_refreshes:
        return
    number, began = progress.env_steps // every, time.monotonic()
    store = _newly_seen(run, imagining, number)
    if store is not None:
        _imagine_online(run, imagining, store, number, began)
    progress.imagined_refreshes, progress.imagined_episodes = number, progress.episodes


def _imagine_online(
    run: Experiment, imagining: Imagining, store: EpisodeStore, number: int, began: float
) -> None:
    """The refresh of that number; one that is stopped is done anew."""
    _begin(run, imagining)
    parts = chunks_of(store, CHUNK_STEPS)
    chunks: list[ImaginedChunk] = [(("online", number, index), each) for index, each in enumerate(parts)]
    imagined = dict(run.imagine(store, chunks))
    rollouts = join_rollouts([imagined[index] for index in range(len(chunks))])
    _take_in(run, imagining, store, rollouts, "online", time.monotonic() - began)


def _newly_seen(run: Experiment, imagining: Imagining, number: int) -> EpisodeStore | None:
    """New online episodes, and those of the dataset whose turn it is; None if there are neither."""
    progress, training = run.progress, run.data.training
    new = run.workers.replay.online_episodes(progress.imagined_episodes, progress.episodes)
    share = imagining.refreshed_share(run.config)
    count = round(share * training.num_episodes)
    turn = (number - 1) * count + np.arange(count)
    parts = [training.select(turn % training.num_episodes)] if count else []
    if new:
        parts.append(EpisodeStore.from_episodes(new, discount=training.discount, readings=training.readings))
    return concatenate(parts) if parts else None


def _begin(run: Experiment, imagining: Imagining) -> None:
    """What imagining goes by, into the learners' state."""
    learners = run.workers.learners
    learners.load_state({**learners.state(), **imagining.begin(run.agent(), run.data, run.config)})
    run.progress.weights_version += 1


def _take_in(
    run: Experiment,
    imagining: Imagining,
    store: EpisodeStore,
    rollouts: ImaginedRollouts,
    stage: str,
    seconds: float,
) -> None:
    """Into the learners' state, the summary, and before whoever watches."""
    learners = run.workers.learners
    state = learners.state()
    learners.load_state({**state, **imagining.take_in(state, run.agent(), store, rollouts, run.config)})
    run.progress.weights_version += 1
    record = describe(rollouts, store.num_steps)
    when = {"stage": stage, "env_steps": run.progress.env_steps, "seconds": seconds}
    run.progress.imagined.append(when | record)
    run.tracker.note(format_imagined(run.progress.imagined[-1]))


def _imagining(config: RunConfig) -> Imagining:
    imagining = family_of(config).imagining
    assert imagining is not None, "asked of a family that imagines"
    return imagining
