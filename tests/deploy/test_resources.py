"""What a job asks for fits into what its cluster has."""

import shlex
from typing import Any

from system.cli.main import build_parser
from system.cli.options import PRESETS
from system.config import RunConfig
from system.config.loading import load_config
from tests.support.deploy_files import pods, ray_clusters, ray_jobs

UNITS = {"Mi": 2**20, "Gi": 2**30, "m": 1e-3, "": 1.0}
ACTOR_BYTES = 1.5 * 2**30


def amount(quantity: str) -> float:
    """Of a Kubernetes quantity, in CPUs or bytes."""
    digits = quantity.rstrip("MGim")
    return float(digits) * UNITS[quantity[len(digits) :]]


def worker_cpus(cluster: dict[str, Any]) -> float:
    """CPUs that Ray gives to actors: limits of the workers' pods, as many as there are at least."""
    return sum(
        group["minReplicas"] * amount(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        for group in cluster["workerGroupSpecs"]
    )


def test_the_actors_of_a_run_fit_the_workers() -> None:
    ((name, job),) = [each for each in ray_jobs() if each[0].startswith("ray-job-run")]
    words = shlex.split(job["entrypoint"])[1:]
    arguments = build_parser("run").parse_args(words)
    config = load_config(RunConfig, arguments.config, arguments.overrides, presets=PRESETS)
    asked, there = config.learners + config.rollout_workers, worker_cpus(job["rayClusterSpec"])
    assert 0 < asked <= there, f"{name}: {asked} actors of one CPU, {there} CPUs"


def test_a_sweep_has_room_for_trials() -> None:
    (sweep,) = [job for name, job in ray_jobs() if "sweep" in name]
    assert worker_cpus(sweep["rayClusterSpec"]) >= 4


def test_memory_suffices_for_the_actors_and_their_shared_objects() -> None:
    for name, cluster in ray_clusters():
        for group in cluster["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            limits = container["resources"]["limits"]
            (store,) = [each for each in group["template"]["spec"]["volumes"] if "emptyDir" in each]
            needed = amount(limits["cpu"]) * ACTOR_BYTES + amount(store["emptyDir"]["sizeLimit"])
            assert needed <= amount(limits["memory"]), name


def test_pods_ask_for_no_more_than_they_may_have_and_workers_for_all_of_it() -> None:
    for name, pod in pods():
        (container,) = pod["spec"]["containers"]
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert all(amount(requests[key]) <= amount(limits[key]) for key in requests), name
        if container["name"] == "ray-worker":
            assert requests == limits, f"{name}: Ray counts the limits"


def test_groups_of_workers_are_whole_from_the_start() -> None:
    for name, cluster in ray_clusters():
        for group in cluster["workerGroupSpecs"]:
            sizes = (group["minReplicas"], group["replicas"], group["maxReplicas"])
            assert 0 < sizes[0] == sizes[1] <= sizes[2], f"{name}: a run does not wait for nodes"
