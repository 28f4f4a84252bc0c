"""Prometheus and Grafana ask for the metrics that the code exports, by the names Ray gives them."""

import json
import re

from system.distributed.metrics import DECISIONS, DESCRIPTIONS, TAGS
from tests.support.deploy_files import DEPLOY, documents, pods

METRIC = re.compile(r"ray_o2o_\w+")
EXPORTED = {f"ray_{name}" for name in DESCRIPTIONS}
SERIES = EXPORTED - {f"ray_{DECISIONS}"} | {f"ray_{DECISIONS}_bucket"}
DASHBOARD = json.loads((DEPLOY / "monitoring" / "grafana-dashboard.json").read_text())


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert {name for query in queries for name in METRIC.findall(query)} == SERIES
    for query in queries:
        assert '{run=~"$run", environment=~"$environment"}' in query


def test_the_dashboard_asks_by_the_tags_that_there_are() -> None:
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", *TAGS}
    queried = [each["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    assert all(METRIC.findall(query)[0] in SERIES for query in queried)
    targets = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
    legends = {tag for target in targets for tag in re.findall(r"{{(\w+)}}", target["legendFormat"])}
    assert legends <= {*TAGS, "stage"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_alerts_are_about_metrics_that_there_are() -> None:
    (file,) = documents(DEPLOY / "monitoring" / "alerts.yml")
    rules = [rule for group in file["groups"] for rule in group["rules"]]
    assert len(rules) >= 3
    for rule in rules:
        assert set(METRIC.findall(rule["expr"])) <= SERIES
        assert set(METRIC.findall(rule["expr"])), rule["alert"]
    (prometheus,) = documents(DEPLOY / "monitoring" / "prometheus.yml")
    assert all((DEPLOY / "monitoring" / name).exists() for name in prometheus["rule_files"])


def test_the_runbook_lists_the_metrics() -> None:
    listed = re.findall(r"^\| `(ray_o2o_\w+)`", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(EXPORTED)


def test_pods_that_are_scraped_have_the_port() -> None:
    (monitor,) = documents(DEPLOY / "monitoring" / "pod-monitor.yaml")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    scraped = [(name, pod) for name, pod in pods() if wanted.items() <= pod["metadata"]["labels"].items()]
    assert len(scraped) == 6
    for name, pod in scraped:
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert ports[endpoint["port"]] == 8080, name
