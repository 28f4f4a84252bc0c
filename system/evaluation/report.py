"""`o2o report`: several finished runs as one table, paired by training seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from system.config import RunConfig
from system.config_io import config_from_dict, to_dict
from system.errors import DataError
from system.evaluation.statistics import hierarchical_interval, paired_difference
from system.evaluation.summary import PLANNERS, RETURN_CONDITIONED_CLONES

STAGES = ("offline", "online")


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        name: dataset id.
        summaries: by seed, in order.
    """

    name: str
    summaries: list[dict[str, Any]]

    def returns(self, stage: str, policy: str) -> list[np.ndarray] | None:
        """Per run, the returns of a policy by episode seed; None unless every run has it."""
        found = [_record(summary, stage, policy) for summary in self.summaries]
        if any(record is None for record in found):
            return None
        return [_by_seed(record) for record in found if record is not None]

    def policies(self) -> list[str]:
        """Names of all evaluated policies, in the order of the first run."""
        return list(dict.fromkeys(record["policy"] for record in self.summaries[0]["evaluations"]))

    def score(self, value: float, *, difference: bool = False) -> float:
        """A return in normalised units, by the first run's references; NaN where there are none."""
        dataset = self.summaries[0]["dataset"]
        low, high = dataset.get("reference_min"), dataset.get("reference_max")
        if low is None or high is None:
            return float("nan")
        return 100.0 * (value - (0.0 if difference else low)) / (high - low)


def load_summary(run: Path) -> dict[str, Any]:
    """A run's summary.json.

    Raises:
        DataError: it is missing or unreadable; names the file.
    """
    file = run / "summary.json" if run.is_dir() else run
    try:
        summary: dict[str, Any] = json.loads(file.read_text())
        missing = {"config", "seed", "evaluations", "dataset"} - summary.keys()
        if missing:
            raise DataError(f"{file}: {sorted(missing)[0]} is missing")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{file}: not the summary of a finished run ({type(error).__name__}: {error})") from None
    return summary


def group_runs(summaries: Sequence[dict[str, Any]]) -> list[Group]:
    """Runs with the same configuration but for the seed, together.

    Raises:
        DataError: two runs of a group have the same seed.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for summary in summaries:
        # A key that is younger than a run has its default there.
        config = to_dict(config_from_dict(RunConfig, summary["config"]))
        key = json.dumps({**config, "seed": None}, sort_keys=True)
        groups.setdefault(key, []).append(summary)
    for members in groups.values():
        seeds = [summary["seed"] for summary in members]
        if len(set(seeds)) < len(seeds):
            raise DataError(f"{members[0]['dataset']['id']}: two runs have the seed {max(seeds, key=seeds.count)}")
    return [
        Group(members[0]["dataset"]["id"], sorted(members, key=lambda summary: int(summary["seed"])))
        for members in groups.values()
    ]


def policy_table(group: Group) -> pandas.DataFrame:
    """Normalised score of every policy and stage: mean over seeds, interval, and each seed's mean."""
    rows = []
    for policy in group.policies():
        for stage in STAGES:
            runs = group.returns(stage, policy)
            if runs is None:
                continue
            low, high = hierarchical_interval(runs)
            rows.append(
                {
                    "policy": policy,
                    "stage": stage,
                    "return": float(np.mean([run.mean() for run in runs])),
                    "score": group.score(float(np.mean([run.mean() for run in runs]))),
                    "low": group.score(low),
                    "high": group.score(high),
                    "each seed": ", ".join(f"{group.score(float(run.mean())):.1f}" for run in runs),
                    "ratios": ", ".join(_ratio(summary, stage, policy) for summary in group.summaries),
                    "ms": np.median([_milliseconds(summary, stage, policy) for summary in group.summaries]),
                }
            )
    return pandas.DataFrame(rows)


def difference_table(group: Group) -> pandas.DataFrame:
    """Paired differences in normalised score: best planner − stronger clone, and online − offline."""
    rows = []
    for stage in STAGES:
        planner, clone = _best(group, stage, PLANNERS), _best(group, stage, RETURN_CONDITIONED_CLONES)
        if planner and clone:
            rows.append(_difference(group, (stage, planner), (stage, clone)))
    for policy in group.policies():
        if policy != "random" and group.returns("online", policy) and group.returns("offline", policy):
            rows.append(_difference(group, ("online", policy), ("offline", policy)))
    return pandas.DataFrame(rows)


def format_report(groups: Sequence[Group]) -> str:
    """Markdown: for each group the policies and the paired differences."""
    parts = []
    for group in groups:
        dataset, seeds = group.summaries[0]["dataset"], [summary["seed"] for summary in group.summaries]
        episodes = group.summaries[0]["config"]["evaluation"]["episodes"]
        names = ", ".join(map(str, seeds))
        parts.append(
            f"### {group.name}\n\n{len(seeds)} training seeds ({names}) × {episodes} episodes; "
            f"dataset mean {group.score(dataset['return_mean']):.1f}, "
            f"best {group.score(dataset['return_max']):.1f}. Normalised scores; 95 % intervals resample "
            f"{'seeds, then ' if len(seeds) > 1 else ''}episodes."
        )
        parts.append(
            _markdown(
                policy_table(group), {"return": ".0f", "score": ".1f", "low": ".1f", "high": ".1f", "ms": ".1f"}
            )
        )
        differences = difference_table(group)
        if len(differences):
            parts.append(_markdown(differences, {"difference": "+.1f", "low": "+.1f", "high": "+.1f"}))
    return "\n\n".join(parts)


def _difference(group: Group, first: tuple[str, str], second: tuple[str, str]) -> dict[str, Any]:
    a, b = group.returns(*first), group.returns(*second)
    if a is None or b is None:
        raise DataError(f"{group.name}: {first} or {second} was not evaluated in every run")
    value, (low, high) = paired_difference(a, b)
    return {
        "difference of": f"{first[1]} {first[0]} − {second[1]} {second[0]}",
        "difference": group.score(value, difference=True),
        "low": group.score(low, difference=True),
        "high": group.score(high, difference=True),
        "each seed": ", ".join(
            f"{group.score(float(x.mean() - y.mean()), difference=True):+.1f}" for x, y in zip(a, b, strict=True)
        ),
    }


def _best(group: Group, stage: str, names: Sequence[str]) -> str | None:
    means = {}
    for name in names:
        runs = group.returns(stage, name)
        if runs is not None:
            means[name] = float(np.mean([run.mean() for run in runs]))
    return max(means, key=lambda name: means[name], default=None)


def _record(summary: Mapping[str, Any], stage: str, policy: str) -> dict[str, Any] | None:
    found = (each for each in summary["evaluations"] if (each["stage"], each["policy"]) == (stage, policy))
    return next(found, None)


def _by_seed(record: Mapping[str, Any]) -> np.ndarray:
    pairs = sorted(zip(record["seeds"], record["returns"], strict=True))
    return np.array([value for _, value in pairs], dtype=np.float64)


def _ratio(summary: Mapping[str, Any], stage: str, policy: str) -> str:
    record = _record(summary, stage, policy)
    ratio = None if record is None else record["target_return_ratio"]
    return "–" if ratio is None else f"{ratio:g}"


def _milliseconds(summary: Mapping[str, Any], stage: str, policy: str) -> float:
    record = _record(summary, stage, policy)
    return float("nan") if record is None or record["decision_ms_p50"] is None else record["decision_ms_p50"]


def _markdown(table: pandas.DataFrame, formats: Mapping[str, str]) -> str:
    """A pipe table; numbers as `formats` says."""
    names = [str(name) for name in table.columns]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table.to_dict("records"):
        cells = [format(row[name], formats[name]) if name in formats else str(row[name]) for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
