"""Watches a cluster's head: its loss ends a run in order, before Ray ends the process without a word.

Without its head a cluster goes on for a minute: actors answer, but none can be placed or replaced. Then Ray ends
every process of it. Of that time a run gets what it needs to write a checkpoint; a head that is back sooner, with
its state in a store of its own, is not noticed.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from system.errors import ClusterLost

RAYS_LIMIT = "RAY_gcs_rpc_server_reconnect_timeout_s"
RAYS_DEFAULT_SECONDS = 60.0
STOP_SHARE = 0.6
END_SHARE = 0.9
SECONDS_BETWEEN_LOOKS = 0.5
CONNECT_SECONDS = 2.0
EXIT_SECONDS = 5.0

GOES_ON = "the same command goes on"

HeadLost = Callable[[ClusterLost], None]


@contextmanager
def watched_head(lost: HeadLost | None) -> Iterator[threading.Event]:
    """While entered, asks the head of this process's session whether it is there.

    Args:
        lost: told once, from a thread, when the head has not answered for most of the time that Ray grants it; it
            is to see to it that the process ends. A process that is still there a little later is ended, with
            code 3. None: nobody has anything to save.

    Yields:
        Set before `lost` is told: whoever leaves this session had better not ask Ray to end it, which would wait
        for the head.
    """
    address = ray.get_runtime_context().gcs_address
    limit = float(os.environ.get(RAYS_LIMIT, RAYS_DEFAULT_SECONDS))
    is_lost, is_over = threading.Event(), threading.Event()
    arguments = (address, limit, lost, is_lost, is_over)
    threading.Thread(target=_watch, args=arguments, name="head-watch", daemon=True).start()
    try:
        yield is_lost
    finally:
        is_over.set()


def _watch(
    address: str, limit: float, lost: HeadLost | None, is_lost: threading.Event, is_over: threading.Event
) -> None:
    last_answer = time.monotonic()
    while not is_over.wait(SECONDS_BETWEEN_LOOKS):
        if _answers(address):
            last_answer = time.monotonic()
            continue
        silent = time.monotonic() - last_answer
        loss = ClusterLost(f"the cluster's head at {address} has not answered for {silent:.0f} s; {GOES_ON}")
        if silent > END_SHARE * limit and not is_over.is_set():
            print(f"o2o: error: {loss}", file=sys.stderr, flush=True)
            os._exit(3)
        if silent > STOP_SHARE * limit and lost is not None and not is_lost.is_set():
            is_lost.set()
            lost(loss)
    if is_lost.is_set():
        # What Ray does at the process's exit would wait for the head too.
        time.sleep(EXIT_SECONDS)
        os._exit(3)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
