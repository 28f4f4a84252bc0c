"""Asks Minari's hub for a dataset, quietly and in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from system.data.sources.minari_layout import PATH_VARIABLE, check_dataset_id

TIMEOUT_SECONDS = 1800.0
_PROGRAM = "import sys, minari; minari.download_dataset(sys.argv[1])"


def download_dataset(dataset_id: str, root: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Downloads once into a root folder.

    The hub's client prints, retries and raises one of several kinds of connection error; in a child process
    all of that becomes one line.

    Args:
        dataset_id: as on the hub.
        root: Minari's root to download into.
        timeout_seconds: after which the download is given up.

    Returns:
        Why it failed, in one line; empty where it did not.
    """
    environment = {**os.environ, PATH_VARIABLE: str(root), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", _PROGRAM, check_dataset_id(dataset_id)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_seconds:g} s"
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if "Connect" in last or "OfflineMode" in last:
        return "Minari's hub cannot be reached"
    if "huggingface_hub" in last:
        return "the hub's client is not installed"
    return last.split(": ", maxsplit=1)[-1][:200]
