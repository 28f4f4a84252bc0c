"""Run directories of finished runs, made up: what `o2o report` reads, without running anything."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system.config import RunConfig
from system.config.loading import config_from_dict, to_dict

Returns = Mapping[tuple[str, str], Mapping[int, float]]

DATASET = {"id": "toy/mixed-v0", "digest": "d" * 64, "return_mean": 20.0, "return_max": 60.0}
REFERENCES = {"reference_min": 0.0, "reference_max": 200.0}
NUM_EPISODES = 3


def make_record(stage: str, policy: str, returns: Mapping[int, float], **changes: Any) -> dict[str, Any]:
    """One entry of `evaluations`, with what a report looks at."""
    record = {
        "stage": stage,
        "policy": policy,
        "target_return_ratio": None,
        "seeds": list(returns),
        "returns": list(returns.values()),
        "decision_ms_p50": 1.5,
    }
    return {**record, **changes}


def make_summary(returns: Returns, *, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A summary in which a policy had these returns, by stage and policy and by evaluation seed."""
    config = config_from_dict(RunConfig, {"seed": seed, "evaluation": {"episodes": NUM_EPISODES}})
    summary = {
        "config": to_dict(config),
        "seed": seed,
        "dataset": {**DATASET, **REFERENCES},
        "evaluations": [make_record(*key, episodes) for key, episodes in returns.items()],
        "schedule": [],
    }
    return {**summary, **changes}


def write_run(folder: Path, summary: Any, events: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """A run directory with this summary and, if given, event log."""
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(summary if isinstance(summary, str) else json.dumps(summary))
    if events is not None:
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder
