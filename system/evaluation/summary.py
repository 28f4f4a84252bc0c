"""What a run reports: evaluation records, paired comparisons and the table for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from system.evaluation.measurement import Measurement, decision_quantiles
from system.evaluation.statistics import bootstrap_interval, interquartile_mean, paired_difference
from system.types import TaskSpec

PLANNERS = ("q_only", "forward_mpc_m", "forward_mpc_q")
RETURN_CONDITIONED_CLONES = ("rcbc_mode", "rcbc_mean")

Record = Mapping[str, Any]


def evaluation_record(stage: str, measured: Measurement, task: TaskSpec) -> dict[str, Any]:
    """One policy's evaluation, as it stands in summary.json.

    Args:
        stage: `offline` or `online`.
        measured: its episodes.
        task: for the normalised score.
    """
    returns = np.asarray(measured.returns, dtype=np.float64)
    p50, p99 = decision_quantiles(measured.decision_seconds)
    return {
        "stage": stage,
        "policy": measured.policy,
        "target_return_ratio": measured.target_return_ratio,
        "seeds": measured.seeds,
        "episodes": len(returns),
        "returns": measured.returns,
        "return_mean": float(returns.mean()),
        "return_ci95": list(bootstrap_interval(returns)),
        "return_iqm": float(interquartile_mean(returns)),
        "normalized_mean": task.normalized(float(returns.mean())),
        "length_mean": float(np.mean(measured.lengths)),
        "decision_ms_p50": p50,
        "decision_ms_p99": p99,
    }


def compare(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The comparisons of one run: best planner − stronger RCBC reading, and online − offline.

    Pairs share their episode seeds; intervals are over episodes and describe this run's policies only.
    """
    found = {(record["stage"], record["policy"]): record for record in records}
    comparisons = []
    for stage in ("offline", "online"):
        planner = _best(found, stage, PLANNERS)
        clone = _best(found, stage, RETURN_CONDITIONED_CLONES)
        if planner and clone:
            comparisons.append(_comparison(planner, clone, stage))
    for policy in dict.fromkeys(record["policy"] for record in records):
        before, after = found.get(("offline", policy)), found.get(("online", policy))
        if before and after and policy != "random":
            comparisons.append(_comparison(after, before, "online - offline"))
    return comparisons


def format_table(records: Sequence[Record]) -> str:
    """Policies side by side, before and after the online stage, for a person."""
    found = {(record["stage"], record["policy"]): record for record in records}
    names = list(dict.fromkeys(record["policy"] for record in records))
    stages = [stage for stage in ("offline", "online") if any(record["stage"] == stage for record in records)]
    header = (
        f"{'policy':<15}"
        + "".join(f"{stage + ': return [95 %]':>31}{'score':>7}" for stage in stages)
        + f"{'ms/step':>9}"
    )
    lines = [header]
    for name in names:
        cells = [_cells(found.get((stage, name))) for stage in stages]
        newest = next(found[(stage, name)] for stage in reversed(stages) if (stage, name) in found)
        time = newest["decision_ms_p50"]
        lines.append(f"{name:<15}" + "".join(cells) + (f"{time:>9.1f}" if time is not None else ""))
    return "\n".join(lines)


def format_comparisons(comparisons: Sequence[Record]) -> str:
    """One line a comparison."""
    return "\n".join(
        f"{each['stage'] + ':':<18}{each['a']} − {each['b']}: {each['difference']:+.1f} "
        f"[{each['ci95'][0]:+.1f}, {each['ci95'][1]:+.1f}]"
        for each in comparisons
    )


def _cells(record: Record | None) -> str:
    if record is None:
        return f"{'–':>31}{'':>7}"
    low, high = record["return_ci95"]
    interval = f"{record['return_mean']:.0f} [{low:.0f}, {high:.0f}]"
    score = record["normalized_mean"]
    return f"{interval:>31}" + (f"{score:>7.1f}" if score is not None else f"{'':>7}")


def _best(found: Mapping[tuple[str, str], Record], stage: str, names: Sequence[str]) -> Record | None:
    candidates = [found[(stage, name)] for name in names if (stage, name) in found]
    return max(candidates, key=lambda record: record["return_mean"], default=None)


def _comparison(a: Record, b: Record, stage: str) -> dict[str, Any]:
    common = sorted(set(a["seeds"]) & set(b["seeds"]))
    difference, interval = paired_difference([_returns(a, common)], [_returns(b, common)])
    return {"a": a["policy"], "b": b["policy"], "stage": stage, "difference": difference, "ci95": list(interval)}


def _returns(record: Record, seeds: Sequence[int]) -> np.ndarray:
    by_seed = dict(zip(record["seeds"], record["returns"], strict=True))
    return np.array([by_seed[seed] for seed in seeds], dtype=np.float64)
