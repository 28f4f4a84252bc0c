"""What a run reports: evaluation records, paired comparisons and the table for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from system.errors import SystemFailure
from system.evaluation.compared_policies import CHOSEN_HERE, STAGES, pair_planners
from system.evaluation.measurement import decision_quantiles
from system.evaluation.statistics import (
    bootstrap_interval,
    interquartile_mean,
    match_episodes,
    paired_difference,
)
from system.families.registry import policy_traits
from system.types import Measurement, TaskSpec

Record = Mapping[str, Any]


def evaluation_record(stage: str, measured: Measurement, task: TaskSpec) -> dict[str, Any]:
    """One policy's evaluation, as it stands in summary.json.

    Args:
        stage: `offline` or `online`.
        measured: its episodes.
        task: for the normalised score.

    Raises:
        SystemFailure: environment errors have ended every one of them.
    """
    if not measured.returns:
        raise SystemFailure(f"evaluation of {measured.policy} ({stage}): environment errors ended every episode")
    returns = np.asarray(measured.returns, dtype=np.float64)
    p50, p99 = decision_quantiles(measured.decision_seconds)
    return {
        "stage": stage,
        "environment": task.environment_id,
        "policy": measured.policy,
        "target_return_ratio": measured.target_return_ratio,
        "seeds": measured.seeds,
        "episodes": len(returns),
        "returns": measured.returns,
        "return_mean": float(returns.mean()),
        "return_ci95": interval_of(returns),
        "return_iqm": float(interquartile_mean(returns)),
        "normalized_mean": task.normalized(float(returns.mean())),
        "reference_min": task.reference_min,
        "reference_max": task.reference_max,
        "length_mean": float(np.mean(measured.lengths)),
        "decision_ms_p50": p50,
        "decision_ms_p99": p99,
        "fallbacks": measured.num_fallbacks,
    }


def interval_of(returns: np.ndarray) -> list[float] | None:
    """95 % interval of the mean; None of a single episode, which says nothing of others."""
    return list(bootstrap_interval(returns)) if len(returns) > 1 else None


def format_interval(interval: Sequence[float] | None, form: str = ".0f") -> str:
    """`[low, high]`, or a dash where there is none."""
    return "–" if interval is None else f"[{interval[0]:{form}}, {interval[1]:{form}}]"


def compare(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The comparisons of one run: every planner − the stronger unplanned policy, best first; online − offline.

    Only episodes that both policies finished are compared, paired by their seeds; what has no pair is left
    out. Intervals are over episodes and describe this run's policies only.
    """
    comparisons = []
    for found in _by_environment(records).values():
        for stage in STAGES:
            means = {name: record["return_mean"] for (at, name), record in found.items() if at == stage}
            for planner, rival in pair_planners(means):
                comparisons.append(_comparison(found[(stage, planner)], found[(stage, rival)], stage))
        for policy in dict.fromkeys(name for _, name in found):
            before, after = found.get(("offline", policy)), found.get(("online", policy))
            if before and after and policy != "random":
                comparisons.append(_comparison(after, before, "online - offline"))
    return [comparison for comparison in comparisons if comparison is not None]


def format_table(records: Sequence[Record]) -> str:
    """Policies side by side, before and after the online stage, for a person; environments one by one."""
    groups = _by_environment(records)
    stages = [stage for stage in STAGES if any(record["stage"] == stage for record in records)]
    header = (
        f"{'policy':<15}"
        + "".join(f"{stage + ': return [95 %]':>31}{'score':>7}" for stage in stages)
        + f"{'ms/step':>9}"
    )
    lines = [header]
    for environment, found in groups.items():
        lines += [f"{environment}:"] if len(groups) > 1 else []
        for name in dict.fromkeys(name for _, name in found):
            cells = [_cells(found.get((stage, name))) for stage in stages]
            newest = next(found[(stage, name)] for stage in reversed(stages) if (stage, name) in found)
            time = newest["decision_ms_p50"]
            lines.append(f"{name:<15}" + "".join(cells) + (f"{time:>9.1f}" if time is not None else ""))
    return "\n".join([*lines, *_incomplete(records), *_fallen_back(records)])


def format_comparisons(comparisons: Sequence[Record]) -> str:
    """One line a comparison; says how many pairs were lost, and that the best planner was chosen here."""
    several = len({each.get("environment") for each in comparisons}) > 1
    lines = [
        f"{each['environment'] + ' ' if several else ''}{each['stage'] + ':':<18}{each['a']} − {each['b']}: "
        f"{each['difference']:+.1f} {format_interval(each['ci95'], '+.1f')}{_lost_pairs(each)}"
        for each in comparisons
    ]
    if len({each["a"] for each in comparisons if policy_traits(each["a"]).plans and each["a"] != each["b"]}) > 1:
        lines.append(f"({CHOSEN_HERE})")
    return "\n".join(lines)


def _cells(record: Record | None) -> str:
    if record is None:
        return f"{'–':>31}{'':>7}"
    interval = f"{record['return_mean']:.0f} {format_interval(record['return_ci95'])}"
    score = record["normalized_mean"]
    return f"{interval:>31}" + (f"{score:>7.1f}" if score is not None else f"{'':>7}")


def _incomplete(records: Sequence[Record]) -> list[str]:
    """A line for every policy that lost episodes which others finished."""
    most = max((len(record["seeds"]) for record in records), default=0)
    return [
        f"{record['policy']} {record['stage']}{_where(record, records)}: {len(record['seeds'])} of {most} "
        "episodes, the others were lost to environment errors"
        for record in records
        if len(record["seeds"]) < most
    ]


def _fallen_back(records: Sequence[Record]) -> list[str]:
    """A line for every policy whose search came to nothing that could be used, at some of its decisions."""
    return [
        f"{record['policy']} {record['stage']}{_where(record, records)}: {record['fallbacks']} decisions fell "
        "back on what the search began with, for nothing finite came of it"
        for record in records
        if record.get("fallbacks")
    ]


def _where(record: Record, records: Sequence[Record]) -> str:
    several = len({each.get("environment") for each in records}) > 1
    return f" in {record['environment']}" if several else ""


def _by_environment(records: Sequence[Record]) -> dict[str, dict[tuple[str, str], Record]]:
    """Records by stage and policy, of each environment; older ones do not name theirs."""
    groups: dict[str, dict[tuple[str, str], Record]] = {}
    for record in records:
        groups.setdefault(record.get("environment", ""), {})[(record["stage"], record["policy"])] = record
    return groups


def _comparison(a: Record, b: Record, stage: str) -> dict[str, Any] | None:
    first, second = match_episodes(_by_seed(a), _by_seed(b))
    if not len(first):
        return None
    difference, interval = paired_difference([first], [second])
    return {
        "a": a["policy"],
        "b": b["policy"],
        "stage": stage,
        "environment": a.get("environment", ""),
        "difference": difference,
        "ci95": list(interval) if len(first) > 1 else None,
        "pairs": len(first),
        "lost_pairs": len(set(a["seeds"]) | set(b["seeds"])) - len(first),
    }


def _lost_pairs(comparison: Record) -> str:
    lost = comparison.get("lost_pairs", 0)
    return f"  ({comparison['pairs']} pairs, {lost} lost)" if lost else ""


def _by_seed(record: Record) -> dict[int, float]:
    return dict(zip(record["seeds"], record["returns"], strict=True))
