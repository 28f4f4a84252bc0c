"""What times a GPU runs on a CPU too, writes what it found at once, and survives a part that fails."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import gpu_speed


def run(path: Path, *words: str) -> list[dict[str, Any]]:
    assert gpu_speed.main([str(path), "--device", "cpu", "--tiny", *words]) == 0
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    lines = run(tmp_path / "found.jsonl")
    assert [line for line in lines if "error" in line] == []
    timed = {line["part"] for line in lines if "milliseconds" in line}
    assert {"product", "masked update, paper size", "critics' update", "forward MPC, paper size"} <= timed
    assert {"beam search", "joint update of the world-action model"} <= timed
    assert all(line["milliseconds"] > 0 and line["ratio"] > 0 for line in lines if "milliseconds" in line)
    (check,) = (line for line in lines if line.get("check") == "thirty updates as on a CPU")
    assert check["found"] == 0.0


def test_a_part_that_fails_says_so_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bench: gpu_speed.Bench) -> None:
        raise RuntimeError("no such kernel\nand a long story")

    monkeypatch.setattr(gpu_speed, "PARTS", {"masked_updates": fail, "card": gpu_speed.card})
    lines = run(tmp_path / "found.jsonl", "--parts", "masked_updates", "card")
    assert lines[1] == {"part": "masked_updates", "error": "RuntimeError: no such kernel"}
    assert [line["part"] for line in lines[2:]] == ["product", "product", "end"]


def test_a_case_that_fails_leaves_the_others_without_a_baseline(tmp_path: Path) -> None:
    def broken() -> Any:
        raise ValueError("broken")

    with (tmp_path / "found.jsonl").open("w") as output:
        bench = gpu_speed.Bench(gpu_speed.torch.device("cpu"), gpu_speed.TINY, output)
        bench.compare("part", {"plain": broken, "fast": lambda: lambda: None})
        written = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert written[0] == {"part": "part", "case": "plain", "error": "ValueError: broken"}
    assert "ratio" not in written[1]


def test_no_part_begins_when_the_time_is_over(tmp_path: Path) -> None:
    lines = run(tmp_path / "found.jsonl", "--minutes", "0", "--parts", "card")
    assert lines[1] == {"part": "card", "error": "not begun: the time is over"}
