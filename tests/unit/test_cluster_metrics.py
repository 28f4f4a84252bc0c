"""The cluster's metrics: which of a run's numbers become which gauge, with which tags. Needs no Ray session."""

from typing import Any

import pytest

from system.distributed import metrics
from system.distributed.metrics import DecisionLatency, RayMetrics
from system.runs.progress import Faults


class FakeMetric:
    """Remembers the newest value by its tags, and every observation."""

    made: dict[str, "FakeMetric"] = {}  # noqa: RUF012 (shared on purpose)

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...], boundaries: object = None) -> None:
        assert description
        self.tag_keys, self.tags = tag_keys, {}
        self.values: dict[tuple[str, ...], float] = {}
        self.observed: list[float] = []
        FakeMetric.made[name] = self

    def set_default_tags(self, tags: dict[str, str]) -> "FakeMetric":
        self.tags = tags
        return self

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        given = {**self.tags, **(tags or {})}
        assert set(given) == set(self.tag_keys), "Ray refuses a value with a tag too few"
        self.values[tuple(given[key] for key in self.tag_keys)] = value

    def observe(self, value: float) -> None:
        self.observed.append(value)


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeMetric]:
    monkeypatch.setattr(FakeMetric, "made", {})
    for name in ("Gauge", "Histogram"):
        monkeypatch.setattr(metrics, name, FakeMetric)
    return FakeMetric.made


def shown(name: str) -> Any:
    return FakeMetric.made[name].values


def test_numbers_of_a_run_become_gauges_with_its_name() -> None:
    tracker = RayMetrics("hopper-0", "Hopper-v5")
    tracker.log_metrics({"rollout/policy_lag_updates": 7.0, "rollout/replay_transitions": 900.0}, step=120)
    tracker.log_metrics({"offline/q_loss": 1.0, "offline/nll_loss": 2.0}, step=2000)
    tracker.log_metrics({"online/q_loss": 1.0}, step=40)
    tracker.log_metrics({"online/q_loss": 1.0}, step=50)
    tracker.log_metrics({"faults/restarts": 2.0}, step=120)
    key = ("hopper-0", "Hopper-v5")
    assert shown("o2o_env_steps") == {key: 120}
    assert shown("o2o_policy_lag_updates") == {key: 7.0}
    assert shown("o2o_replay_transitions") == {key: 900.0}
    assert shown("o2o_restarts") == {key: 2.0}
    assert shown("o2o_update_steps") == {(*key, "offline"): 2000, (*key, "online"): 50}


def test_what_does_not_change_is_set_again() -> None:
    tracker = RayMetrics("hopper-0", "Hopper-v5")
    tracker.log_metrics({"faults/restarts": 2.0}, step=0)
    tracker.log_metrics({"offline/q_loss": 1.0}, step=2000)
    for metric in FakeMetric.made.values():
        metric.values.clear()
    tracker.log_metrics({"online/q_loss": 1.0}, step=40)
    assert set(shown("o2o_restarts").values()) == {2.0}
    assert shown("o2o_update_steps")[("hopper-0", "Hopper-v5", "offline")] == 2000


def test_other_metrics_change_nothing() -> None:
    tracker = RayMetrics("run", "Hopper-v5")
    tracker.log_metrics({"schedule/return_mean": 1.0, "open_loop/offline/states": 2.0, "best/score": 3.0}, step=9)
    assert all(not metric.values for metric in FakeMetric.made.values())


def test_every_metric_is_described_and_made() -> None:
    RayMetrics("run", "Hopper-v5")
    DecisionLatency("run", "Hopper-v5").observe([0.01, 0.02])
    assert set(FakeMetric.made) == set(metrics.DESCRIPTIONS)
    assert FakeMetric.made["o2o_decision_seconds"].observed == [0.01, 0.02]
    assert metrics.LATENCY_BOUNDARIES == sorted(metrics.LATENCY_BOUNDARIES)


def test_restarts_are_of_processes_alone() -> None:
    others = {"checkpoint_corrupt": 100, "episode_dropped": 100, "collapse_rollback": 100, "update_skipped": 100}
    faults = Faults(1, 2, 4, 8, **others)
    assert faults.restarts == 15
