"""Which finished runs are repetitions of each other."""

from pathlib import Path

import pytest

from system.reports.finished_runs import group_runs, load_runs
from tests.support.summary_factory import make_record, make_summary, write_run


def finished(folder: Path, seed: int, origin: str | None) -> Path:
    summary = make_summary({}, seed=seed)
    del summary["config"]["masked_trajectory"]
    summary["evaluations"] = [make_record("offline", "random", {10_000: 1.0})]
    summary["config"]["family"] = "world_action"
    summary["config"]["planner"].update(name="beam_search", select="argmax")
    summary["config"]["evaluation"]["policies"] = ["random"]
    summary["config"]["pretrain"]["from_checkpoint"] = origin
    return write_run(folder, summary)


@pytest.mark.parametrize(
    ("origins", "sizes"),
    [
        (["runs/two-games-0", "runs/two-games-1"], [2]),
        (["/a/two-0/checkpoints/000007-done", "/a/two-1/checkpoints/000007-done"], [2]),
        (["runs/two-games-0", "runs/two-games-0"], [1, 1]),
        (["runs/two-games-0", None], [1, 1]),
        ([None, None], [2]),
    ],
)
def test_runs_that_begin_with_weights_of_their_own_seed_are_one_group(
    tmp_path: Path, origins: list[str | None], sizes: list[int]
) -> None:
    runs = [
        run
        for seed, origin in enumerate(origins)
        for run in load_runs(finished(tmp_path / f"few-{seed}", seed, origin))
    ]
    assert [len(group.runs) for group in group_runs(runs)] == sizes
