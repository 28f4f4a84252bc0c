"""When a family that can imagines from what was recorded, and what becomes of it: a map over the dataset.

Offline the dataset is imagined from once, chunk by chunk, before the update step that the family names; online
what was newly collected and a part of the dataset, on a schedule. What comes of it goes into the learners' state.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

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

FOLDER = "imagined"
CHUNK_STEPS = 2000
Seed = tuple[str | int, ...]


class Imaginers(Protocol):
    """One or more that imagine chunks of a store with an agent's newest weights."""

    def imagine(
        self, chunks: Sequence[tuple[Seed, Sequence[int]]], pause: Callable[[], None]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        """Imagines chunks, in whatever order they are finished.

        Args:
            chunks: (path within the run's seed, episodes) each; an answer depends on these, agent and store alone.
            pause: called again and again meanwhile; may raise to stop.

        Yields:
            Index of a chunk, and what was imagined.
        """
        ...


class LocalImaginers:
    """The in-process `Imaginers`.

    Args:
        agent: in evaluation mode.
        store: what is imagined from.
        config: of a family that imagines.
    """

    def __init__(self, agent: Agent, store: EpisodeStore, config: RunConfig) -> None:
        self.agent = agent
        self.store = store
        self.config = config

    def imagine(
        self, chunks: Sequence[tuple[Seed, Sequence[int]]], pause: Callable[[], None]
    ) -> Iterator[tuple[int, ImaginedRollouts]]:
        """One chunk after the other."""
        imagining = _imagining(self.config)
        for index, (seed, episodes) in enumerate(chunks):
            pause()
            yield index, imagining.imagine(self.agent, self.store, episodes, self.config, seed)


def imagine_dataset(
    imaginers: Imaginers,
    store: EpisodeStore,
    folder: Path,
    about: dict[str, Any],
    *,
    progress: Callable[[int, int], None],
    stop_if_asked: Callable[[], None],
    throw_away: bool,
) -> ImaginedRollouts:
    """Imagines from every episode; what lies in the folder of an earlier attempt is not done again.

    Args:
        imaginers: that imagine from the store.
        store: the dataset.
        folder: of the finished chunks.
        about: what they follow from.
        progress: told (chunks done, chunks in all).
        stop_if_asked: called between chunks; may raise.
        throw_away: what lies in the folder and follows from something else; otherwise it is in the way.

    Raises:
        DataError: it is.
    """
    chunks = chunks_of(store, CHUNK_STEPS)
    kept = ImaginedChunks(folder, about, len(chunks), throw_away=throw_away)
    missing = kept.missing()
    asked: list[tuple[Seed, Sequence[int]]] = [(("offline", index), chunks[index]) for index in missing]
    done = len(chunks) - len(missing)
    progress(done, len(chunks))
    for place, rollouts in imaginers.imagine(asked, stop_if_asked):
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
    agent, store, began = run.agent(), run.data.training, time.monotonic()
    begun = imagining.begin(agent, run.data, run.config)
    rollouts = imagine_dataset(
        LocalImaginers(agent, store, run.config),
        store,
        run.run_dir.path / FOLDER,
        about_imagining(agent, store, run.config),
        progress=lambda done, total: run.tracker.progress("imagine", done, total, "chunks"),
        stop_if_asked=run.stop_if_asked,
        throw_away=True,
    )
    _take_in(run, imagining, begun, store, rollouts, "offline", time.monotonic() - began)
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
    progress.imagined_refreshes = number = progress.env_steps // every
    store = _newly_seen(run, imagining, number)
    progress.imagined_episodes = progress.episodes
    if store is None:
        return
    agent, began = run.agent(), time.monotonic()
    begun = imagining.begin(agent, run.data, run.config)
    chunks = [(("online", number, index), each) for index, each in enumerate(chunks_of(store, CHUNK_STEPS))]
    imagined = dict(LocalImaginers(agent, store, run.config).imagine(chunks, run.stop_if_asked))
    rollouts = join_rollouts([imagined[index] for index in range(len(chunks))])
    _take_in(run, imagining, begun, store, rollouts, "online", time.monotonic() - began)


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


def _take_in(
    run: Experiment,
    imagining: Imagining,
    begun: Any,
    store: EpisodeStore,
    rollouts: ImaginedRollouts,
    stage: str,
    seconds: float,
) -> None:
    """Into the learners' state, the summary, and before whoever watches."""
    learners = run.workers.learners
    state = {**learners.state(), **begun}
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
