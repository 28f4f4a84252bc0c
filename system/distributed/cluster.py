"""A Ray session: one started for this process and ended with it, or one that is running already."""

import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from system.distributed.environment import cluster_address
from system.distributed.head_watch import HeadLost, watched_head
from system.errors import ClusterLost

OBJECT_STORE_BYTES = 256 * 2**20
CONNECT_SECONDS = 10.0
LOCAL_ATTEMPTS = 3
SILENT_SECONDS = 600.0


@contextmanager
def cluster_session(
    address: str | None, *, num_cpus: float, least_cpus: float | None = None, head_lost: HeadLost | None = None
) -> Iterator[None]:
    """Connects to a cluster, or starts a local one that ends with the context.

    A session that the calling process has already is used and left alone.

    Args:
        address: of a running cluster; None asks RAY_ADDRESS, and where that is not set starts one on this
            machine (`system.distributed.environment` says who may use it, and must have been asked before
            Ray was imported).
        num_cpus: that the actors will ask for; a local session has at least as many, as a logical count.
        least_cpus: without which nothing can begin; None: all of them.
        head_lost: as for `watched_head`.

    Raises:
        ClusterLost: no cluster answers at the address, or it has fewer CPUs than that.
    """
    if ray.is_initialized():
        yield
        return
    _connect(cluster_address(address), num_cpus)
    with watched_head(head_lost) as is_lost:
        yield from _used(num_cpus, least_cpus, is_lost)


def _used(num_cpus: float, least_cpus: float | None, is_lost: threading.Event) -> Iterator[None]:
    """What is done in a session that was started here; ends it."""
    try:
        available, needed = ray.cluster_resources().get("CPU", 0.0), num_cpus if least_cpus is None else least_cpus
        if available < needed:
            raise ClusterLost(f"the cluster has {available:g} CPUs, the run needs {needed:g}")
        yield
    finally:
        if not is_lost.is_set():
            ray.shutdown()


def _connect(address: str | None, num_cpus: float) -> None:
    """`ray.init`, quiet, and without the SIGTERM handler that it puts in place of the caller's."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "address": address}
    if address is None:
        # "local" always starts a session of its own; without an address Ray would look for a running one.
        options |= {
            "address": "local",
            "include_dashboard": False,
            "num_cpus": math.ceil(max(os.cpu_count() or 1, num_cpus)),
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        _refuse_if_silent(address)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _start(options, 1 if address else LOCAL_ATTEMPTS)
    except Exception as error:
        raise ClusterLost(f"no Ray cluster at {address or 'this machine'}: {_first_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)


def _start(options: dict[str, Any], attempts: int) -> None:
    """Under load Ray's daemons give up on each other, with a bare Exception; starting again helps."""
    for left in reversed(range(attempts)):
        try:
            with _ended_if_silent(SILENT_SECONDS):
                ray.init(**options)
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


@contextmanager
def _ended_if_silent(seconds: float) -> Iterator[None]:
    """Ends the process, resumable, where Ray never comes back: its native code heeds no signal and no timeout."""

    def end() -> None:
        print(f"o2o: error: Ray did not start within {seconds:g} s; the same command goes on", file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _refuse_if_silent(address: str) -> None:
    """Asks the address itself first: Ray would try for minutes, and write of it to the terminal."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterLost(f"no Ray cluster at {address}: {error}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
