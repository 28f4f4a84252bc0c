"""Environment variables that Ray reads when it is imported; set before anything else of this package."""

import os
import secrets

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}

TUNING = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


def cluster_address(address: str | None) -> str | None:
    """Where the cluster is: as asked for, else RAY_ADDRESS (which a submitted job finds set), else None."""
    return address or os.environ.get("RAY_ADDRESS") or None


def prepare_environment(address: str | None) -> None:
    """Quiet, and closed: a session started here takes calls only from who knows its token.

    The token lives in this process and its children alone, so that none is left behind on disk to get in
    the way of a cluster started by hand. What the user has set stays; a running cluster's mode is inherited.

    Args:
        address: of a running cluster, or None if one will be started.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if cluster_address(address) is None and not os.environ.get("RAY_AUTH_MODE"):
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def prepare_tuning() -> None:
    """Trials stay in the caller's folder, and signals and results are the caller's alone."""
    for name, value in TUNING.items():
        os.environ.setdefault(name, value)
