"""Records, comparisons and tables of one run."""

from dataclasses import replace

import numpy as np
import pytest

from system.errors import SystemFailure
from system.evaluation.compared_policies import pair_planners
from system.evaluation.summary import compare, evaluation_record, format_comparisons, format_table
from system.training.evaluation_stage import shown_figures
from system.types import Measurement, TaskSpec

TASK = TaskSpec("Toy-v0", 3, 2, 10, reference_min=10.0, reference_max=60.0)
RETURNS = [10.0, 20.0, 30.0, 100.0]


def measure(policy: str, returns: list[float], seeds: list[int] | None = None) -> Measurement:
    return Measurement(
        policy=policy,
        target_return_ratio=0.8,
        seeds=list(range(10_000, 10_000 + len(returns))) if seeds is None else seeds,
        returns=returns,
        lengths=[4] * (len(returns) - 1) + [8],
        decision_seconds=[0.001, 0.002, 0.003],
    )


def make_record(stage: str, policy: str, returns: list[float], seeds: list[int] | None = None) -> dict:
    return evaluation_record(stage, measure(policy, returns, seeds), TASK)


def test_a_record_holds_every_episode_and_what_is_made_of_them() -> None:
    record = make_record("offline", "q_only", RETURNS)
    assert (record["stage"], record["policy"], record["target_return_ratio"]) == ("offline", "q_only", 0.8)
    assert (record["environment"], record["reference_min"], record["reference_max"]) == ("Toy-v0", 10.0, 60.0)
    assert record["seeds"] == [10_000, 10_001, 10_002, 10_003]
    assert record["returns"] == RETURNS
    assert record["episodes"] == 4
    assert record["return_mean"] == 40.0
    assert record["return_iqm"] == 25.0
    assert record["normalized_mean"] == pytest.approx(60.0)
    assert record["length_mean"] == 5.0
    low, high = record["return_ci95"]
    assert 10.0 < low < 40.0 < high < 100.0
    assert record["decision_ms_p50"] == pytest.approx(2.0)
    assert record["decision_ms_p99"] == pytest.approx(2.98)


def test_what_is_not_known_is_none() -> None:
    measured = replace(measure("random", RETURNS), decision_seconds=[], target_return_ratio=None)
    record = evaluation_record("online", measured, replace(TASK, reference_min=None))
    names = ("target_return_ratio", "normalized_mean", "decision_ms_p50", "decision_ms_p99")
    assert [record[name] for name in names] == [None] * 4


def test_a_policy_without_a_single_finished_episode_fails_by_name() -> None:
    with pytest.raises(SystemFailure, match=r"rcbc_mode \(online\): environment errors"):
        evaluation_record("online", replace(measure("rcbc_mode", [1.0]), returns=[], seeds=[], lengths=[]), TASK)


def test_every_planner_is_compared_with_the_stronger_clone_the_best_first() -> None:
    records = [
        make_record("offline", "random", [99.0, 99.0]),
        make_record("offline", "rcbc_mode", [10.0, 12.0]),
        make_record("offline", "rcbc_mean", [20.0, 24.0]),
        make_record("offline", "q_only", [1.0, 3.0]),
        make_record("offline", "forward_mpc_m", [31.0, 35.0]),
        make_record("offline", "forward_mpc_q", [21.0, 21.0]),
        make_record("offline", "iql", [50.0, 50.0]),
    ]
    found = [(each["a"], each["b"], each["difference"], each["ci95"]) for each in compare(records)]
    assert found == [
        ("forward_mpc_m", "rcbc_mean", 11.0, [11.0, 11.0]),
        ("forward_mpc_q", "rcbc_mean", -1.0, [-3.0, 1.0]),
        ("q_only", "rcbc_mean", -20.0, [-21.0, -19.0]),
    ]


def test_stages_are_compared_by_policy_but_for_the_random_one() -> None:
    records = [
        make_record(stage, policy, [base, base + 1.0])
        for stage, base in (("offline", 0.0), ("online", 5.0))
        for policy in ("random", "iql")
    ]
    assert compare(records) == [
        {
            "a": "iql",
            "b": "iql",
            "stage": "online - offline",
            "environment": "Toy-v0",
            "difference": 5.0,
            "ci95": [5.0, 5.0],
            "pairs": 2,
            "lost_pairs": 0,
        }
    ]


def test_episodes_are_paired_by_seed_and_lost_pairs_are_counted() -> None:
    records = [
        make_record("offline", "rcbc_mean", [0.0, 100.0], seeds=[1, 2]),
        make_record("offline", "forward_mpc_q", [120.0, 40.0], seeds=[2, 3]),
    ]
    (comparison,) = compare(records)
    assert (comparison["difference"], comparison["pairs"], comparison["lost_pairs"]) == (20.0, 1, 2)
    assert "+20.0 –  (1 pairs, 2 lost)" in format_comparisons([comparison])


def test_policies_without_a_common_episode_are_not_compared() -> None:
    records = [
        make_record("offline", "rcbc_mean", [0.0], seeds=[1]),
        make_record("offline", "forward_mpc_q", [1.0], seeds=[2]),
    ]
    assert compare(records) == []


def test_the_choice_of_the_best_planner_is_said() -> None:
    planned = {"a": "q_only", "b": "rcbc_mean", "stage": "offline", "difference": 1.0, "ci95": [0.0, 2.0]}
    other = {**planned, "a": "forward_mpc_m"}
    said = "chosen by these episodes: slightly optimistic for the planner"
    assert said in format_comparisons([planned, other])
    assert said not in format_comparisons([planned])
    online = {**planned, "b": "q_only", "stage": "online - offline"}
    assert format_comparisons([online]) == "online - offline: q_only − q_only: +1.0 [+0.0, +2.0]"
    assert format_comparisons([]) == ""


def test_the_table_puts_stages_side_by_side_and_names_lost_episodes() -> None:
    records = [
        make_record("offline", "random", [20.0, 20.0]),
        make_record("offline", "q_only", [35.0, 35.0]),
        make_record("online", "q_only", [60.0], seeds=[10_001]),
    ]
    header, random, q_only, lost = format_table(records).splitlines()
    assert header.split() == "policy offline: return [95 %] score online: return [95 %] score ms/step".split()
    assert random.split() == ["random", "20", "[20,", "20]", "20.0", "–", "2.0"]
    assert q_only.split() == ["q_only", "35", "[35,", "35]", "50.0", "60", "–", "100.0", "2.0"]
    assert lost == "q_only online: 1 of 2 episodes, the others were lost to environment errors"
    assert len(format_table(records[:2]).splitlines()) == 3


def test_environments_are_compared_and_shown_one_by_one() -> None:
    records = [
        evaluation_record("offline", measure(policy, returns), replace(TASK, environment_id=game))
        for game, returns_by_policy in (
            ("ALE/Pong-v5", {"q_greedy": [10.0, 12.0], "beam": [14.0, 16.0]}),
            ("ALE/Breakout-v5", {"q_greedy": [50.0, 50.0], "beam": [40.0]}),
        )
        for policy, returns in returns_by_policy.items()
    ]
    found = [(each["environment"], each["a"], each["b"], each["difference"]) for each in compare(records)]
    assert found == [("ALE/Pong-v5", "beam", "q_greedy", 4.0), ("ALE/Breakout-v5", "beam", "q_greedy", -10.0)]
    lines = [line.split()[0] for line in format_table(records).splitlines()]
    assert lines == ["policy", "ALE/Pong-v5:", "q_greedy", "beam", "ALE/Breakout-v5:", "q_greedy", "beam", "beam"]
    assert "beam offline in ALE/Breakout-v5: 1 of 2 episodes" in format_table(records)
    assert format_comparisons(compare(records)).splitlines()[1].startswith("ALE/Breakout-v5 offline: ")


def test_figures_of_a_record_are_plain_numbers() -> None:
    record = make_record("offline", "q_only", [float(value) for value in np.arange(3)])
    assert all(not isinstance(value, np.generic) for value in record.values())


def test_beam_search_is_compared_with_the_stronger_of_acting_on_values_and_imitating() -> None:
    assert pair_planners({"clone": 5.0, "q_greedy": -18.0, "beam": -16.0}) == [("beam", "clone")]
    assert pair_planners({"clone_sampled": 1.0, "q_greedy": 2.0, "beam": 3.0}) == [("beam", "q_greedy")]


def test_a_single_episode_has_no_interval() -> None:
    """One number says nothing of how much others differ."""
    records = [make_record("offline", "rcbc_mode", [5.0]), make_record("offline", "forward_mpc_q", [7.0])]
    assert [each["return_ci95"] for each in records] == [None, None]
    comparison = compare(records)[0]
    assert comparison["ci95"] is None and comparison["difference"] == pytest.approx(2.0)
    table = format_table(records).splitlines()
    assert "5 –" in table[1] and "[" not in table[1]
    assert "+2.0 –" in format_comparisons([comparison])
    figures = shown_figures(records[0])
    assert ("evaluation", "return_mean") in figures and ("evaluation", "return_low") not in figures


def test_returns_are_charted_before_times() -> None:
    """By group and name, as the charts are sorted."""
    names = sorted("/".join(pair) for pair in shown_figures(make_record("offline", "rcbc_mode", RETURNS)))
    assert names[0].startswith("evaluation/return") and names[-1] == "time/decision_ms"
