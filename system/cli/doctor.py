"""`o2o doctor`: is everything here that a run needs, and what to type next."""

import argparse
import importlib.metadata
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from system.cli.options import RUNS, add_tracking_options, resolve_tracking_uri

PACKAGES = ("torch", "ray", "mlflow", "minari", "gymnasium", "mujoco", "ale-py")
SHIPPED_DATASET = "o2o/hopper/medium-replay-v0"
LOW_DISK_BYTES = 2 * 1024**3
CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        status: `fail` is what a run cannot do without.
        subject: what was looked at.
        detail: what was found, and what mends it.
    """

    status: Literal["ok", "warn", "fail"]
    subject: str
    detail: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--address", help="also try to reach this Ray cluster")
    add_tracking_options(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Prints one line for each thing looked at and the one next command.

    Returns:
        0, or 1 if something that a run needs is broken.
    """
    findings = examine(resolve_tracking_uri(arguments), arguments.address)
    for finding in findings:
        print(f"{finding.status:<5} {finding.subject:<12} {finding.detail}")
    print(f"\nnext: {next_command(findings)}")
    return int(any(finding.status == "fail" for finding in findings))


def examine(tracking_uri: str, address: str | None) -> list[Finding]:
    """Looks at everything; a check that raises is a finding that fails, not a traceback.

    Args:
        tracking_uri: MLflow's store or server.
        address: of a Ray cluster; None leaves Ray out.
    """
    checks: list[tuple[str, Callable[[], Finding]]] = [("python", check_python)]
    checks += [(name, lambda name=name: check_package(name)) for name in PACKAGES]  # type: ignore[misc]
    checks += [
        ("devices", check_devices),
        ("datasets", check_datasets),
        ("simulator", check_simulator),
        ("roms", check_roms),
        ("tracking", lambda: check_tracking(tracking_uri)),
        ("disk", check_disk),
    ]
    if address is not None:
        checks.append(("cluster", lambda: check_cluster(address)))
    return [_guarded(subject, check) for subject, check in checks]


def next_command(findings: list[Finding]) -> str:
    """The one thing to type now."""
    failed = {finding.subject for finding in findings if finding.status == "fail"}
    if failed & {"python", "devices", "simulator", *PACKAGES}:
        return "python3 -m pip install -c constraints.txt -e ."
    if "datasets" in failed:
        return "o2o collect hopper-medium-replay --set dataset_id=" + SHIPPED_DATASET
    if failed:
        first = next(finding for finding in findings if finding.status == "fail")
        return f"o2o doctor, once this is mended: {first.subject}: {first.detail}"
    finished = (RUNS / "demo-0" / "summary.json").exists()
    return "o2o run hopper-medium-replay" if finished else "o2o run demo"


def check_python() -> Finding:
    """The interpreter is one of the versions that the pinned packages allow."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("ok", "python", version)
    return Finding("fail", "python", f"{version}; 3.11 to 3.13 is needed")


def check_package(name: str) -> Finding:
    """The package is installed."""
    try:
        return Finding("ok", name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding("fail", name, "not installed")


def check_devices() -> Finding:
    """What torch computes on."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = f"{cores} CPU cores, {torch.get_num_threads()} torch threads"
    if not torch.cuda.is_available():
        return Finding("ok", "devices", f"{detail}, no GPU")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Finding("ok", "devices", f"{detail}, {names}")


def check_datasets() -> Finding:
    """The dataset that the demo needs is there, and which others are."""
    from system.data.sources.minari_layout import PATH_VARIABLE, SHIPPED_ROOT, default_root

    shipped, local = list_datasets(SHIPPED_ROOT), list_datasets(default_root())
    if SHIPPED_DATASET not in {*shipped, *local}:
        return Finding("fail", "datasets", f"{SHIPPED_DATASET} is missing from {SHIPPED_ROOT}")
    places = f"{len(shipped)} shipped, {len(local)} in {default_root()}"
    if not local:
        return Finding("ok", "datasets", f"{places} (set {PATH_VARIABLE} to use your own)")
    names = ", ".join(local[:4]) + (", …" if len(local) > 4 else "")
    return Finding("ok", "datasets", f"{places}: {names}")


def list_datasets(root: Path) -> list[str]:
    """Ids of the Minari datasets under a root, namespaces of up to three parts; empty if it is not there."""
    patterns = ["*/" * depth + "data/metadata.json" for depth in range(1, 5)]
    found = {path for pattern in patterns for path in root.glob(pattern)}
    return sorted(path.parents[1].relative_to(root).as_posix() for path in found)


def check_simulator() -> Finding:
    """A MuJoCo environment can be made and stepped."""
    from system.envs.registry import make_environment

    environment = make_environment("Hopper-v5")
    try:
        environment.reset(seed=0)
        observation, reward, *_ = environment.step(0.0 * environment.action_space.sample())
    finally:
        environment.close()
    return Finding(
        "ok", "simulator", f"Hopper-v5 steps: {len(observation)} observations, reward {float(reward):.2f}"
    )


def check_roms() -> Finding:
    """The Atari emulator has its game files."""
    from system.envs.roms import count_roms

    number = count_roms()
    return Finding("ok" if number else "warn", "roms", f"{number} Atari games")


def check_tracking(uri: str) -> Finding:
    """MLflow's store can be written, or its server answers; a run goes on without either."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        problem = connection_problem(parts.hostname or "", port)
        hint = f"{problem}; runs go on without it" if problem else "answers"
        return Finding("warn" if problem else "ok", "tracking", f"{parts.scheme}://{parts.hostname}:{port} {hint}")
    if parts.scheme != "sqlite":
        return Finding("ok", "tracking", f"{parts.scheme or 'file'} store, not tried")
    path = Path(uri.removeprefix("sqlite:///"))
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    state = "exists" if path.exists() else "will be created"
    if not os.access(existing, os.W_OK):
        return Finding("fail", "tracking", f"{path} cannot be written; give --tracking-uri")
    return Finding("ok", "tracking", f"{path} {state}")


def check_cluster(address: str) -> Finding:
    """Something listens where the Ray cluster should be."""
    if address == "auto":
        return Finding("warn", "cluster", "auto is Ray's to find; give HOST:PORT to try it")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return Finding("fail", "cluster", f"{address!r} is not HOST:PORT or ray://HOST:PORT")
    problem = connection_problem(host, int(port))
    return Finding("fail" if problem else "ok", "cluster", f"{address} {problem or 'answers'}")


def connection_problem(host: str, port: int) -> str | None:
    """Why a TCP connection cannot be made within a few seconds; None if it can."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return None
    except (OSError, OverflowError) as error:
        return f"cannot be reached ({error})"


def check_disk() -> Finding:
    """There is room for checkpoints and replay."""
    free = shutil.disk_usage(RUNS if RUNS.exists() else Path()).free
    status: Literal["ok", "warn"] = "ok" if free >= LOW_DISK_BYTES else "warn"
    return Finding(status, "disk", f"{free / 1024**3:.1f} GiB free here")


def _guarded(subject: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 (whatever a library raises is the finding)
        return Finding("fail", subject, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
