"""What a run's actors take of a cluster, and where they go.

Learners are placed all at once or not at all, in a placement group. Rollout workers and evaluators are placed one
by one, spread over the nodes, so that they may come and go; only one evaluator's place is kept for its successors.
Within a trial of a sweep all live in the trial's own group.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    placement_group,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from system.config import RunConfig
from system.errors import ClusterLost

Bundle = dict[str, float]


def learner_bundle(config: RunConfig, available_gpus: float) -> Bundle:
    """Resources of one learner actor.

    Args:
        config: of the run.
        available_gpus: of the cluster.
    """
    return {"CPU": config.placement.learners.cpus, "GPU": gpus_per_learner(config, available_gpus)}


def rollout_bundle(config: RunConfig) -> Bundle:
    """Resources of one rollout actor."""
    placement = config.placement.rollout_workers
    return {"CPU": placement.cpus, "GPU": placement.gpus}


def evaluator_bundle(config: RunConfig) -> Bundle:
    """Resources of one evaluation actor."""
    placement = config.placement.evaluators
    return {"CPU": placement.cpus, "GPU": placement.gpus}


def gpus_per_learner(config: RunConfig, available: float) -> float:
    """As configured; else one for every learner where there are as many, else an equal part of those there are.

    Args:
        config: number of learners, and whether they may use a GPU.
        available: GPUs of the cluster.
    """
    if config.device == "cpu" or config.learners == 0:
        return 0
    if config.placement.learners.gpus is not None:
        return config.placement.learners.gpus
    share = available / config.learners
    return 1 if share >= 1 else math.floor(share * 1000) / 1000


def least_rollout_workers(config: RunConfig) -> int:
    """Without so many the run does not begin."""
    return min(config.rollout_workers, config.placement.rollout_workers.at_least or config.rollout_workers)


def required(config: RunConfig, available_gpus: float, *, to_begin: bool) -> Bundle:
    """What all actors take together.

    Args:
        config: of the run.
        available_gpus: of the cluster.
        to_begin: only those without which the run does not: all learners, some rollout workers, one evaluator.
    """
    rollout_workers = least_rollout_workers(config) if to_begin else config.rollout_workers
    evaluators = min(1, config.evaluators) if to_begin else config.evaluators
    learner, rollout = learner_bundle(config, available_gpus), rollout_bundle(config)
    evaluator = evaluator_bundle(config)
    return {
        name: config.learners * learner[name] + rollout_workers * rollout[name] + evaluators * evaluator[name]
        for name in ("CPU", "GPU")
    }


def refuse_if_too_small(config: RunConfig) -> None:
    """Says at once what a cluster will never have.

    Raises:
        ClusterLost: its nodes have less than the run needs to begin; names both.
    """
    there = ray.cluster_resources()
    needed = required(config, there.get("GPU", 0.0), to_begin=True)
    evaluators = f", {min(1, config.evaluators)} evaluator" if config.evaluators else ""
    for name in ("CPU", "GPU"):
        if there.get(name, 0.0) < needed[name]:
            raise ClusterLost(
                f"the cluster has {there.get(name, 0.0):g} {name}s, the run needs {needed[name]:g}: "
                f"{config.learners} learners, {least_rollout_workers(config)} rollout workers{evaluators}"
            )


def spread_options(bundle: Bundle) -> dict[str, Any]:
    """Options of an actor that is placed by itself, away from others where there are several nodes.

    Args:
        bundle: its resources.
    """
    options = actor_options(bundle)
    return options if get_current_placement_group() else {**options, "scheduling_strategy": "SPREAD"}


def actor_options(bundle: Bundle) -> dict[str, Any]:
    """Resources of an actor as Ray takes them."""
    return {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0)}


def see_own_gpus(options: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The options of an actor, which sees no GPU where it was given no share of one and `device` is `auto`.

    Ray lets it see every GPU of its node, and torch would take a context, and memory, on one of them.
    """
    if config.device != "auto" or options["num_gpus"] or not ray.cluster_resources().get("GPU", 0):
        return options
    return {**options, "runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}}


class ReservedPlaces:
    """Room for several actors at once, and for those that take their places later.

    Args:
        who: `learners`; for the message.
        bundles: resources of each.
        strategy: pack, spread, strict_pack or strict_spread.
        wait_seconds: for others to make room.

    Raises:
        ClusterLost: there was no room in that time.
    """

    def __init__(self, who: str, bundles: Sequence[Bundle], strategy: str, wait_seconds: float) -> None:
        self.bundles = [{name: amount for name, amount in bundle.items() if amount} for bundle in bundles]
        self._group: PlacementGroup | None = None
        # A trial's group holds the places already, and a bundle of nothing cannot be asked for.
        if get_current_placement_group() is None and all(self.bundles):
            self._group = placement_group(self.bundles, strategy=strategy.upper())
            if not self._group.wait(timeout_seconds=max(1, math.ceil(wait_seconds))):
                self.close()
                raise ClusterLost(
                    f"no room for {len(self.bundles)} {who} of {describe_bundle(self.bundles[0])} ({strategy}) "
                    f"in {wait_seconds:g} s; free: {describe_bundle(ray.available_resources())}"
                )

    def options(self, index: int) -> dict[str, Any]:
        """Options of the actor in one of the places."""
        options = actor_options(self.bundles[index])
        if self._group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self._group, placement_group_bundle_index=index
            )
        return options

    def close(self) -> None:
        """Gives the places back; what runs in them ends."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def refuse_to_wait_longer(config: RunConfig, began: float, who: str, each: Bundle) -> None:
    """Gives up on actors that have had no room for too long.

    Args:
        config: of the run; `placement.wait_seconds` is how long they may wait.
        began: `time.monotonic()` when the waiting began.
        who: how many of which have started.
        each: resources of one of them.

    Raises:
        ClusterLost: the time is over; names what one takes and what is free.
    """
    limit = config.placement.wait_seconds
    if time.monotonic() - began > limit:
        free = ray.available_resources()
        raise ClusterLost(
            f"{who} started in {limit:g} s: each takes {describe_bundle(each)}; free: {describe_bundle(free)}"
        )


def describe_bundle(bundle: Bundle) -> str:
    """`2 CPU, 1 GPU`; nothing of other resources."""
    return ", ".join(f"{bundle.get(name, 0.0):g} {name}" for name in ("CPU", "GPU"))
