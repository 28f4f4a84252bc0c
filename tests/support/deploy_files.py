"""What lies in `deploy/`, taken apart: documents, pods, containers, commands, pins."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IMAGE_ROOT = "/opt/o2o"


def yaml_files() -> list[Path]:
    """All of them."""
    return sorted(path for pattern in ("*.yaml", "*.yml") for path in DEPLOY.rglob(pattern))


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def kubernetes_documents() -> list[tuple[str, Any]]:
    """(file and kind, document) of every Kubernetes resource."""
    files = [*(DEPLOY / "kubernetes").glob("*.yaml"), DEPLOY / "monitoring" / "pod-monitor.yaml"]
    return [(f"{path.name}:{each.get('kind')}", each) for path in sorted(files) for each in documents(path)]


def ray_clusters() -> list[tuple[str, Any]]:
    """(file, specification) of every Ray cluster on Kubernetes."""
    found = []
    for name, each in kubernetes_documents():
        if each["kind"] in ("RayCluster", "RayJob"):
            found.append((name, each["spec"].get("rayClusterSpec", each["spec"])))
    return found


def ray_jobs() -> list[tuple[str, Any]]:
    """(file, specification) of every job on Kubernetes."""
    return [(name, each["spec"]) for name, each in kubernetes_documents() if each["kind"] == "RayJob"]


def pods() -> Iterator[tuple[str, Any]]:
    """(where, pod template) of every pod on Kubernetes."""
    for name, each in kubernetes_documents():
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield name, each["spec"]["template"]
    for name, cluster in ray_clusters():
        yield f"{name}:head", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{name}:{group['groupName']}", group["template"]


def pins() -> dict[str, str]:
    """Package in lower case → version, of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().split()
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def readme_commands() -> list[list[str]]:
    """The commands of the runbook's code blocks, as words."""
    lines = re.findall(r"^    (\S.*)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    inline = re.findall(r"`((?:o2o|ray|kubectl|docker) [^`]*)`", (DEPLOY / "README.md").read_text())
    return [shlex.split(line) for line in [*lines, *(" ".join(each.split()) for each in inline)]]


def manifest_commands() -> list[list[str]]:
    """Entrypoints of jobs, start commands of `ray up`, and the MLflow servers' arguments."""
    found = [shlex.split(job["entrypoint"]) for _, job in ray_jobs()]
    cluster = documents(DEPLOY / "ray-cluster.yaml")[0]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        for line in cluster[key]:
            found.append(shlex.split(line.rpartition(";")[2].replace("/shared/venv/bin/", "")))
    compose = documents(DEPLOY / "mlflow" / "compose.yaml")[0]
    found.append(["mlflow", "server", *compose["services"]["mlflow"]["command"]])
    for _, pod in pods():
        for container in pod["spec"]["containers"]:
            if container["name"] == "mlflow":
                found.append(["mlflow", "server", *container["args"]])
    return found


def o2o_commands() -> list[list[str]]:
    """Every use of the project's command: the words behind `o2o`."""
    commands = [*readme_commands(), *manifest_commands()]
    found = [words[words.index("--") + 1 :] if "--" in words else words for words in commands]
    return [words[1:] for words in found if words[0] == "o2o"]
