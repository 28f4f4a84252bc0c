"""Every manifest parses, has the fields that we use and no others, and holds no secret."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from tests.support.deploy_files import (
    DEPLOY,
    ROOT,
    documents,
    kubernetes_documents,
    pods,
    ray_clusters,
    ray_jobs,
    yaml_files,
)
from tests.support.manifest_schema import COMPOSE, RUNTIME_ENVIRONMENT, faults, resource_faults

SECRET = re.compile(r"password|token|secret|api_key|access_key", re.IGNORECASE)


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: path.name)
def test_yaml_parses_and_repeats_no_key(path: Path) -> None:
    class Strict(yaml.SafeLoader):
        """Refuses a key that is given twice."""

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[object, object]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{path.name}: {keys} has one twice"
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    assert list(yaml.load_all(path.read_text(), Loader=Strict))


@pytest.mark.parametrize(("name", "document"), kubernetes_documents(), ids=lambda value: str(value)[:40])
def test_kubernetes_resources_have_the_fields_we_know(name: str, document: dict) -> None:
    assert resource_faults(document) == []


def test_other_files_have_the_fields_we_know() -> None:
    assert faults(documents(DEPLOY / "mlflow" / "compose.yaml")[0], COMPOSE) == []
    assert faults(documents(DEPLOY / "runtime-env.yaml")[0], RUNTIME_ENVIRONMENT) == []
    for name, job in ray_jobs():
        assert faults(yaml.safe_load(job["runtimeEnvYAML"]), RUNTIME_ENVIRONMENT) == [], name


def test_the_schema_notices_mistakes() -> None:
    ((_, job),) = [each for each in kubernetes_documents() if each[0].startswith("ray-job-run")]
    wrong = copy.deepcopy(job)
    cluster = wrong["spec"]["rayClusterSpec"]
    cluster["workerGroupSpecs"][0]["replica"] = cluster["workerGroupSpecs"][0].pop("replicas")
    cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"] = 8080
    assert sorted(resource_faults(wrong)) == [
        "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus: 0 is no str",
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].ports: 8080 is no list",
        "spec.rayClusterSpec.workerGroupSpecs[0].replica: unknown",
        "spec.rayClusterSpec.workerGroupSpecs[0].replicas: missing",
    ]
    assert resource_faults({"apiVersion": "v1", "kind": "Secret"}) == [
        "('v1', 'Secret') is a kind that nobody checks"
    ]


def test_everything_that_is_named_is_there() -> None:
    resources = [each for _, each in kubernetes_documents() if "metadata" in each]
    present = {(each["kind"], each["metadata"]["name"]) for each in resources}
    for name, pod in pods():
        claims = {"database"} if "StatefulSet" in name else set()
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in present, name
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in present, name
        for container in pod["spec"]["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {*volumes, *claims}, f"{name}: volumes and mounts differ"
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                assert port is None or isinstance(port, int) or port in ports, f"{name}: {probe}"
    (kustomization,) = [each for _, each in kubernetes_documents() if each["kind"] == "Kustomization"]
    assert all((DEPLOY / "kubernetes" / each).exists() for each in kustomization["resources"])


def test_selectors_select() -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods()]
    for name, each in kubernetes_documents():
        selector = each.get("spec", {}).get("selector")
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= found.items() for found in labels), name


def test_clusters_ask_for_the_token_and_for_shared_storage() -> None:
    assert len(ray_clusters()) == 3
    for name, cluster in ray_clusters():
        assert cluster["authOptions"] == {"mode": "token", "secretName": "o2o-ray"}, name
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", f"{name}: actors beside the driver"
    for name, pod in pods():
        (container,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "ray-" not in container["name"] or {"/shared", "/dev/shm"} <= mounts, name
    shared = next(each for name, each in kubernetes_documents() if name == "storage.yaml:PersistentVolumeClaim")
    assert shared["spec"]["accessModes"] == ["ReadWriteMany"]


def secrets_in_plain_text(value: object, path: str = "") -> list[str]:
    """Paths of scalars that a key calls secret and that are neither references nor empty."""
    if isinstance(value, dict):
        if isinstance(value.get("name"), str) and "value" in value:  # an environment variable of a pod
            return secrets_in_plain_text({value["name"]: value["value"]}, path)
        return [
            found
            for key, each in value.items()
            for found in (
                [f"{path}.{key}"]
                if isinstance(each, str) and SECRET.search(str(key)) and not _is_reference(str(key), each)
                else secrets_in_plain_text(each, f"{path}.{key}")
            )
        ]
    if isinstance(value, list):
        return [found for each in value for found in secrets_in_plain_text(each, f"{path}[]")]
    return [path] if isinstance(value, str) and re.search(r"://[^/\s:]+:(?!\$)[^@/\s]+@", value) else []


def _is_reference(key: str, value: str) -> bool:
    """`${NAME…}`, `$(NAME)`, a secret's name, or a file."""
    return value.startswith("$") or key == "secretName" or value.startswith("~/")


def test_no_secret_is_written_down() -> None:
    for path in yaml_files():
        for each in documents(path):
            assert secrets_in_plain_text(each) == [], path.name
    example = (DEPLOY / "mlflow" / ".env.example").read_text()
    given = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    assert {name for name, value in given.items() if SECRET.search(name) and value} == set()
    compose = (DEPLOY / "mlflow" / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", compose)) == set(given), "compose and .env.example ask for the same"
    assert ".env" in (ROOT / ".gitignore").read_text().split(), "neither committed nor sent with a job"


def test_the_search_for_secrets_finds_them() -> None:
    assert secrets_in_plain_text({"env": [{"name": "DB_PASSWORD", "value": "x"}]}) == [".env[].DB_PASSWORD"]
    assert secrets_in_plain_text({"env": [{"name": "URI", "value": "postgresql://u:p@h/d"}]}) == [".env[].URI"]
    assert secrets_in_plain_text({"a": "postgresql://u:${P}@h/d", "token": "$(T)"}) == []


def test_the_two_mlflow_servers_are_set_up_alike() -> None:
    (auth,) = [each for _, each in kubernetes_documents() if each["kind"] == "ConfigMap"]
    text = (DEPLOY / "mlflow" / "basic_auth.ini").read_text()
    assert auth["data"]["basic_auth.ini"] == text.partition("\n")[2]
