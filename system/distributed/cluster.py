"""A Ray session: one started for this process and ended with it, or one that is running already."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from system.errors import ClusterLost

OBJECT_STORE_BYTES = 256 * 2**20


@contextmanager
def cluster_session(address: str | None, *, num_cpus: float) -> Iterator[None]:
    """Connects to a cluster, or starts a local one that ends with the context.

    A session that the calling process has already is used and left alone.

    Args:
        address: of a running cluster; None starts one on this machine (`system.distributed.environment`
            says who may use it, and must have been asked before Ray was imported).
        num_cpus: that the actors will ask for; a local session has at least as many, as a logical count.

    Raises:
        ClusterLost: no cluster answers at the address, or it has fewer CPUs than asked for.
    """
    if ray.is_initialized():
        yield
        return
    options = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if address is None:
        logical = max(float(os.cpu_count() or 1), num_cpus)
        options |= {"num_cpus": int(-(-logical // 1)), "object_store_memory": OBJECT_STORE_BYTES, "num_gpus": None}
    else:
        options |= {"address": address}
        del options["include_dashboard"]
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterLost(f"no Ray cluster at {address or 'this machine'}: {error}") from None
    try:
        available = ray.cluster_resources().get("CPU", 0.0)
        if available < num_cpus:
            raise ClusterLost(f"the cluster has {available:g} CPUs, the run needs {num_cpus:g}")
        yield
    finally:
        ray.shutdown()
