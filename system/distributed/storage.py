"""Whether every node of a cluster sees the run directory."""

import secrets
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from system.errors import ConfigError

NONCE = ".storage-check"
ANSWER_SECONDS = 60.0


def check_shared_storage(folder: Path) -> None:
    """Writes a random word and has each other node read it; a cluster of one node is not asked.

    A node that leaves meanwhile, or does not answer in a minute, is passed over: whatever is placed there will say
    what is wrong with it.

    Args:
        folder: of the run; exists.

    Raises:
        ConfigError: a node reads something else, or nothing; names the node and the folder.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return
    word, file = secrets.token_hex(16), folder / NONCE
    file.write_text(word)
    try:
        calls = {_ask(node["NodeID"], file): node for node in others}
        for call, node in calls.items():
            try:
                read = ray.get(call, timeout=ANSWER_SECONDS)
            except (GetTimeoutError, RayError):
                continue
            if read != word:
                raise ConfigError(
                    f"--run-dir: {folder} is not the same folder on node {node['NodeManagerHostname']} "
                    f"({node['NodeManagerAddress']}); runs need storage that every node sees"
                )
    finally:
        file.unlink(missing_ok=True)


def _ask(node_id: str, file: Path) -> ray.ObjectRef:
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(_read).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0).remote(file)


def _read(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None
