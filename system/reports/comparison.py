"""`o2o report`: several finished runs as tables, paired by training seed and evaluation seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas

from system.documents.text import (
    ENOUGH_SEEDS,
    FEW_SEEDS,
    Section,
    TextTable,
    format_number,
    format_section,
)
from system.evaluation.compared_policies import CHOSEN_HERE, STAGES, pair_planners
from system.evaluation.statistics import (
    hierarchical_interval,
    interquartile_mean,
    match_episodes,
    paired_difference,
)
from system.reports.capability_report import capability_frames, describe_capabilities
from system.reports.finished_runs import Group
from system.reports.game_report import describe_games, game_frames

Side = tuple[str, str]


def policy_table(group: Group) -> pandas.DataFrame:
    """Every policy and stage: mean over training seeds with its interval, IQM, and each seed's mean.

    Columns are policy, stage, seeds (how many), episodes (how many), planned_episodes, return, value, low,
    high, iqm (these four in the group's unit), each_seed (a list in the order of the runs, NaN where a run
    lacks the policy), ratios (a list of target-return ratios) and milliseconds.
    """
    rows = []
    for policy in group.policies():
        for stage in STAGES:
            if any((stage, policy) in run.records for run in group.runs):
                rows.append(_policy_row(group, stage, policy))
    return pandas.DataFrame(rows)


def difference_table(group: Group) -> pandas.DataFrame:
    """Paired differences: every planner − the stronger rival, best planner first, and online − offline.

    Columns are policy, stage, minus_policy, minus_stage, best_planner (whether it was chosen from several), seeds,
    pairs, planned_pairs, difference, low, high (these three in the group's unit) and each_seed, as in
    `policy_table`. Rows without a single pair are left out.
    """
    sides: list[tuple[Side, Side, bool]] = []
    for stage in STAGES:
        rivals = pair_planners(_means(group, stage))
        for rank, (planner, rival) in enumerate(rivals):
            sides.append(((stage, planner), (stage, rival), rank == 0 and len(rivals) > 1))
    for policy in group.policies():
        if policy != "random":
            sides.append((("online", policy), ("offline", policy), False))
    rows = [_difference_row(group, first, second, best) for first, second, best in sides]
    return pandas.DataFrame([row for row in rows if row is not None])


def describe(group: Group) -> Section:
    """The group's tables and the sentences around them."""
    run, count = group.runs[0], len(group.runs)
    dataset, mean, best = "", run.dataset_mean, run.dataset_best
    # Of several games together the summary has no dataset returns of each.
    if run.alone and mean is not None and best is not None:
        dataset = f"dataset mean {group.score(mean):.1f}, best {group.score(best):.1f}. "
    seeds = ", ".join(str(each.seed) for each in group.runs)
    unit = "Normalised scores" if group.unit == "score" else "Returns"
    differences = difference_table(group)
    return Section(
        title=group.name + (f" ({group.setting})" if group.setting else ""),
        introduction=(
            f"{count} training seed{'s' if count > 1 else ''} ({seeds}) × "
            f"{run.config.evaluation.episodes} episodes; {dataset}{unit}; 95 % intervals resample "
            f"{'seeds, then ' if count > 1 else ''}episodes."
        ),
        scores=_scores(policy_table(group), group.unit),
        differences=_differences(differences) if len(differences) else None,
        remarks=_remarks(differences, count),
    )


def format_report(groups: Sequence[Group]) -> str:
    """Markdown: for each group the policies and the paired differences, then Atari games and capabilities."""
    sections = [describe(group) for group in groups] + describe_games(groups)
    sections += [section for section, _ in describe_capabilities(groups)]
    return "\n\n".join(map(format_section, sections))


def report_frame(groups: Sequence[Group]) -> pandas.DataFrame:
    """All tables, for programs: one row a policy or difference, named by `table`."""
    frames = []
    for group in groups:
        differences = difference_table(group).rename(
            columns={"difference": "value", "pairs": "episodes", "planned_pairs": "planned_episodes"}
        )
        for table, frame in (("scores", policy_table(group)), ("differences", differences)):
            frame.insert(0, "table", table)
            frame.insert(0, "unit", group.unit)
            frame.insert(0, "setting", group.setting)
            frame.insert(0, "environment", group.runs[0].environment)
            frame.insert(0, "dataset", group.runs[0].dataset_id)
            frame.insert(5, "training_seeds", _joined([run.seed for run in group.runs]))
            frames.append(frame)
    frame = pandas.concat([*frames, *game_frames(groups), *capability_frames(groups)], ignore_index=True)
    for column in ("each_seed", "ratios"):
        frame[column] = [_joined(cell) if isinstance(cell, list) else "" for cell in frame[column]]
    for column in ("seeds", "episodes", "planned_episodes"):
        frame[column] = frame[column].astype(int)
    return frame


def _policy_row(group: Group, stage: str, policy: str) -> dict[str, Any]:
    records = [run.records.get((stage, policy)) for run in group.runs]
    runs = [np.array(list(record.returns.values()), float) for record in records if record is not None]
    mean = float(np.mean([run.mean() for run in runs]))
    several = sum(len(run) for run in runs) > 1  # a single episode says nothing of others
    low, high = hierarchical_interval(runs) if several else (float("nan"), float("nan"))
    times = [record.decision_ms for record in records if record is not None and record.decision_ms is not None]
    return {
        "policy": policy,
        "stage": stage,
        "seeds": len(runs),
        "episodes": sum(len(run) for run in runs),
        "planned_episodes": len(runs) * group.runs[0].config.evaluation.episodes,
        "return": mean,
        "value": group.score(mean),
        "low": group.score(low),
        "high": group.score(high),
        "iqm": group.score(float(interquartile_mean(np.concatenate(runs)))),
        "each_seed": [
            float("nan") if record is None else group.score(float(np.mean(list(record.returns.values()))))
            for record in records
        ],
        "ratios": [None if record is None else record.target_return_ratio for record in records],
        "milliseconds": float(np.median(times)) if times else float("nan"),
    }


def _difference_row(group: Group, first: Side, second: Side, best: bool) -> dict[str, Any] | None:
    """Over the runs that have both policies and finished an episode with either; None without any."""
    pairs, each_seed, planned = [], [], 0
    for run in group.runs:
        a, b = run.records.get(first), run.records.get(second)
        each_seed.append(float("nan"))
        if a is None or b is None:
            continue
        planned += run.config.evaluation.episodes
        matched = match_episodes(a.returns, b.returns)
        if len(matched[0]):
            pairs.append(matched)
            each_seed[-1] = group.score(float((matched[0] - matched[1]).mean()), difference=True)
    if not pairs:
        return None
    value, (low, high) = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    if sum(len(a) for a, _ in pairs) == 1:  # says nothing of others
        low = high = float("nan")
    return {
        "policy": first[1],
        "stage": first[0],
        "minus_policy": second[1],
        "minus_stage": second[0],
        "best_planner": best,
        "seeds": len(pairs),
        "pairs": sum(len(a) for a, _ in pairs),
        "planned_pairs": planned,
        "difference": group.score(value, difference=True),
        "low": group.score(low, difference=True),
        "high": group.score(high, difference=True),
        "each_seed": each_seed,
    }


def _means(group: Group, stage: str) -> dict[str, float]:
    """Mean return of each policy of a stage; of those only that the most runs have, so that they compare."""
    found: dict[str, list[float]] = {}
    for run in group.runs:
        for (at, policy), record in run.records.items():
            if at == stage:
                found.setdefault(policy, []).append(float(np.mean(list(record.returns.values()))))
    most = max(map(len, found.values()), default=0)
    return {policy: float(np.mean(means)) for policy, means in found.items() if len(means) == most}


def _scores(table: pandas.DataFrame, unit: str) -> TextTable:
    columns = ["policy", "stage", "return", "score", "low", "high", "iqm", "each seed", "episodes", "ratios", "ms"]
    rows = [
        [
            row["policy"],
            row["stage"],
            f"{row['return']:.0f}",
            *(format_number(row[name], ".1f") for name in ("value", "low", "high", "iqm")),
            ", ".join(format_number(value, ".1f") for value in row["each_seed"]),
            _count(row["episodes"], row["planned_episodes"]),
            ", ".join(format_number(ratio, "g") for ratio in row["ratios"]),
            format_number(row["milliseconds"], ".1f"),
        ]
        for row in table.to_dict("records")
    ]
    if unit == "return":
        columns, rows = _without(3, columns), [_without(3, row) for row in rows]
    return TextTable(columns, rows, frozenset({"return", "score", "low", "high", "iqm", "episodes", "ms"}))


def _differences(table: pandas.DataFrame) -> TextTable:
    rows = [
        [
            ("best planner: " if row["best_planner"] else "")
            + f"{row['policy']} {row['stage']} − {row['minus_policy']} {row['minus_stage']}",
            *(format_number(row[name], "+.1f") for name in ("difference", "low", "high")),
            ", ".join(format_number(value, "+.1f") for value in row["each_seed"]),
            _count(row["pairs"], row["planned_pairs"]),
        ]
        for row in table.to_dict("records")
    ]
    columns = ["difference of", "difference", "low", "high", "each seed", "pairs"]
    return TextTable(columns, rows, frozenset({"difference", "low", "high", "pairs"}))


def _remarks(differences: pandas.DataFrame, num_runs: int) -> list[str]:
    if not len(differences):
        return []
    remarks = ["Pairs share training seed and evaluation seed."]
    if (differences["pairs"] < differences["planned_pairs"]).any():
        remarks.append("Pairs of which environment errors ended an episode are left out.")
    if differences["best_planner"].any():
        remarks.append(f"{CHOSEN_HERE[0].upper()}{CHOSEN_HERE[1:]}.")
    if 1 < num_runs < ENOUGH_SEEDS:
        remarks.append(FEW_SEEDS)
    return remarks


def _count(found: int, planned: int) -> str:
    return str(found) if found >= planned else f"{found} of {planned}"


def _joined(values: Sequence[float | None]) -> str:
    return " ".join("nan" if value is None else format(value, "g") for value in values)


def _without(index: int, cells: list[str]) -> list[str]:
    return cells[:index] + cells[index + 1 :]
