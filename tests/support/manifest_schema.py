"""The fields of the manifests that we use, and a check that refuses every other one.

A schema is a type, `[schema]` for a list, or a dictionary of keys; `key!` is required, `*` stands for any key.
"""

from typing import Any

NAMED = {"name!": str}
LABELS = {"*": str}
METADATA = {"name!": str, "namespace": str, "labels": LABELS}
FROM_SECRET = {"secretKeyRef!": {"name!": str, "key!": str}}
PROBE = {
    "httpGet": {"path!": str, "port!": (str, int)},
    "exec": {"command!": [str]},
    "periodSeconds": int,
    "timeoutSeconds": int,
    "failureThreshold": int,
}
QUANTITIES = {"cpu!": str, "memory!": str}
CONTAINER = {
    "name!": str,
    "image!": str,
    "args": [str],
    "env": [{"name!": str, "value": str, "valueFrom": FROM_SECRET}],
    "ports": [{"name!": str, "containerPort!": int}],
    "startupProbe": PROBE,
    "readinessProbe!": PROBE,
    "livenessProbe": PROBE,
    "resources!": {"requests!": QUANTITIES, "limits!": QUANTITIES},
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool}],
}
POD = {
    "metadata": {"labels!": LABELS},
    "spec!": {
        "securityContext!": {"runAsNonRoot": bool, "runAsUser": int, "fsGroup!": int},
        "containers!": [CONTAINER],
        "volumes": [
            {
                "name!": str,
                "persistentVolumeClaim": {"claimName!": str},
                "configMap": NAMED,
                "emptyDir": {"medium!": str, "sizeLimit!": str},
            }
        ],
    },
}
CLAIM = {
    "accessModes!": [str],
    "storageClassName": str,
    "resources!": {"requests!": {"storage!": str}},
}
SELECTOR = {"matchLabels!": LABELS}
RAY_CLUSTER = {
    "rayVersion!": str,
    "authOptions!": {"mode!": str, "secretName!": str},
    "headGroupSpec!": {"rayStartParams!": LABELS, "template!": POD},
    "workerGroupSpecs!": [
        {
            "groupName!": str,
            "replicas!": int,
            "minReplicas!": int,
            "maxReplicas!": int,
            "rayStartParams!": LABELS,
            "template!": POD,
        }
    ],
}
SPECIFICATIONS: dict[tuple[str, str], Any] = {
    ("v1", "PersistentVolumeClaim"): CLAIM,
    ("v1", "Service"): {"selector!": LABELS, "ports!": [{"name!": str, "port!": int}]},
    ("apps/v1", "Deployment"): {
        "replicas!": int,
        "strategy": {"type!": str},
        "selector!": SELECTOR,
        "template!": POD,
    },
    ("apps/v1", "StatefulSet"): {
        "serviceName!": str,
        "replicas!": int,
        "selector!": SELECTOR,
        "template!": POD,
        "volumeClaimTemplates": [{"metadata!": METADATA, "spec!": CLAIM}],
    },
    ("ray.io/v1", "RayCluster"): RAY_CLUSTER,
    ("ray.io/v1", "RayJob"): {
        "entrypoint!": str,
        "submissionMode!": str,
        "backoffLimit!": int,
        "shutdownAfterJobFinishes!": bool,
        "ttlSecondsAfterFinished!": int,
        "runtimeEnvYAML!": str,
        "rayClusterSpec!": RAY_CLUSTER,
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector!": SELECTOR,
        "podMetricsEndpoints!": [{"port!": str, "interval!": str}],
    },
}
RESOURCE = {"apiVersion!": str, "kind!": str, "metadata!": METADATA, "spec!": object}
CONFIG_MAP = {"apiVersion!": str, "kind!": str, "metadata!": METADATA, "data!": LABELS}
KUSTOMIZATION = {"apiVersion!": str, "kind!": str, "namespace!": str, "resources!": [str]}
COMPOSE = {
    "name!": str,
    "services!": {
        "*": {
            "image!": str,
            "build": {"context!": str, "dockerfile!": str, "target!": str},
            "restart!": str,
            "depends_on": {"*": {"condition!": str}},
            "command": [str],
            "environment!": LABELS,
            "volumes!": [str],
            "ports": [str],
            "healthcheck!": {"test!": [str], "interval!": str, "retries!": int},
        }
    },
    "volumes!": {"*": type(None)},
}
RUNTIME_ENVIRONMENT = {"env_vars!": LABELS, "excludes": [str]}


def faults(value: Any, schema: Any, path: str = "") -> list[str]:
    """What does not fit, each with its path."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is no mapping"]
        return _faults_of_keys(value, schema, path)
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [fault for at, each in enumerate(value) for fault in faults(each, schema[0], f"{path}[{at}]")]
    allowed = schema if isinstance(schema, tuple) else (schema,)
    fits = schema is object or type(value) in allowed
    return [] if fits else [f"{path}: {value!r} is no {' or '.join(each.__name__ for each in allowed)}"]


def resource_faults(document: Any) -> list[str]:
    """Of a Kubernetes resource."""
    kind = (document.get("apiVersion"), document.get("kind"))
    if kind == ("kustomize.config.k8s.io/v1beta1", "Kustomization"):
        return faults(document, KUSTOMIZATION)
    if kind == ("v1", "ConfigMap"):
        return faults(document, CONFIG_MAP)
    if kind not in SPECIFICATIONS:
        return [f"{kind} is a kind that nobody checks"]
    return faults(document, RESOURCE) + faults(document.get("spec"), SPECIFICATIONS[kind], "spec")


def _faults_of_keys(value: dict[Any, Any], schema: dict[str, Any], path: str) -> list[str]:
    found = [f"{path}.{key[:-1]}: missing" for key in schema if key.endswith("!") and key[:-1] not in value]
    for key, each in value.items():
        part = schema.get(f"{key}!", schema.get(key, schema.get("*")))
        found += [f"{path}.{key}: unknown"] if part is None else faults(each, part, f"{path}.{key}")
    return found
