"""The code on `docs/python.md` runs as it stands, and the page names everything that `system` promises."""

import re
from pathlib import Path
from typing import Any

import pytest

import system
from system.config.registry import FAMILIES, PLANNERS
from system.data.sources.protocol import SOURCES

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_runs_after_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    registries: list[dict[str, Any]] = [FAMILIES, PLANNERS, SOURCES]
    before = [dict(registry) for registry in registries]
    text = PAGE.read_text()
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start(1))
            exec(compile("\n" * line + block.group(1), str(PAGE), "exec"), names)
    finally:
        for registry, entries in zip(registries, before, strict=True):
            registry.clear()
            registry.update(entries)
    said = capsys.readouterr().out
    assert "planner.horizn: unknown key; did you mean planner.horizon?" in said
    assert "tensor(6.8500)" in said
    assert "cautious_mpc_m" in said
    assert "cautious cautious_mpc\n" in said
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "policy", "robot.jsonl"}


def test_the_page_names_the_whole_surface() -> None:
    text = PAGE.read_text()
    errors = {name for name in system.__all__ if name.endswith("Error")}
    missing = [name for name in system.__all__ if not re.search(rf"\b{name}\b", text)]
    assert [name for name in missing if name not in errors] == []
