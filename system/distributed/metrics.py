"""A run's counters among the metrics that Ray's nodes export to Prometheus, under names that begin with `ray_`.

On a cluster without an exporter (`ray[default]` is not installed, or the session is a run's own) they go nowhere.
"""

from collections.abc import Iterable, Mapping

from ray.util.metrics import Gauge, Histogram

from system.training.protocols import Artifact

TAGS = ("run", "environment")
ENV_STEPS, UPDATE_STEPS, DECISIONS = "o2o_env_steps", "o2o_update_steps", "o2o_decision_seconds"
DESCRIPTIONS = {
    ENV_STEPS: "transitions collected online and acknowledged by the replay",
    UPDATE_STEPS: "update steps made, by stage",
    "o2o_replay_transitions": "transitions that the replay holds, offline and online",
    "o2o_policy_lag_updates": "updates made since the weights that played the newest round",
    "o2o_restarts": "workers replaced and drivers resumed since the run began",
    DECISIONS: "wall-clock time of a rollout worker's batched decisions",
}
MEASURED = {
    "rollout/replay_transitions": "o2o_replay_transitions",
    "rollout/policy_lag_updates": "o2o_policy_lag_updates",
    "faults/restarts": "o2o_restarts",
}
TRAINING_STAGES = ("offline", "online")
LATENCY_BOUNDARIES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]


class RayMetrics:
    """`Tracker` that shows where a run is; they are gauges, so that a resumed run goes on from its counts.

    Args:
        run: name of the run.
        environment: that it plays.
    """

    def __init__(self, run: str, environment: str) -> None:
        tags = {"run": run, "environment": environment}
        self._gauges = {
            name: Gauge(name, description=DESCRIPTIONS[name], tag_keys=TAGS).set_default_tags(tags)
            for name in (ENV_STEPS, *MEASURED.values())
        }
        updates = Gauge(UPDATE_STEPS, description=DESCRIPTIONS[UPDATE_STEPS], tag_keys=(*TAGS, "stage"))
        self._updates = updates.set_default_tags(tags)
        self._values: dict[str, float] = {}
        self._stage_steps: dict[str, int] = {}

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """In the metrics, whose steps say it."""

    def note(self, message: str) -> None:
        """Not exported."""

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Not exported."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Sets the gauges of what is among the metrics; the step of a stage's own is its counter."""
        groups = {name.partition("/")[0] for name in metrics}
        if "rollout" in groups:
            self._values[ENV_STEPS] = step
        self._stage_steps |= dict.fromkeys(groups.intersection(TRAINING_STAGES), step)
        self._values |= {MEASURED[name]: metrics[name] for name in MEASURED.keys() & metrics.keys()}
        for name, value in self._values.items():  # Ray forgets a gauge that is not set again
            self._gauges[name].set(value)
        for stage, steps in self._stage_steps.items():
            self._updates.set(steps, tags={"stage": stage})

    def log_dataset(self, name: str, digest: str, profile: Mapping[str, object]) -> None:
        """Not exported."""

    def log_artifact(self, artifact: Artifact) -> None:
        """Not exported."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Not exported."""

    def state(self) -> dict[str, str]:
        """Nothing to remember."""
        return {}

    def close(self, status: str = "FINISHED") -> None:
        """Ray forgets the values of a process that has ended."""


class DecisionLatency:
    """How long a rollout worker's decisions take, measured where they are taken.

    Args:
        run: name of the run.
        environment: that the worker plays.
    """

    def __init__(self, run: str, environment: str) -> None:
        histogram = Histogram(DECISIONS, DESCRIPTIONS[DECISIONS], boundaries=LATENCY_BOUNDARIES, tag_keys=TAGS)
        self._histogram = histogram.set_default_tags({"run": run, "environment": environment})

    def observe(self, seconds: Iterable[float]) -> None:
        """Takes in the decisions of a round."""
        for each in seconds:
            self._histogram.observe(each)
