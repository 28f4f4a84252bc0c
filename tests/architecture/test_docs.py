"""The pages match the tree: rooms, ranks, links, keys, presets, records; figures are those beside the commands."""

import dataclasses
import re
from pathlib import Path

import pytest

import system.families  # noqa: F401  registers the methods
from system.config.loading import preset_names
from system.data.sources.protocol import Source
from system.families.registry import Family
from system.planning.registry import Planner
from tests.architecture.test_imports import RANKS
from tests.support.configuration_page import PAGE, keys_text, with_keys
from tests.support.doc_pages import PAGES, ROOT, RUNBOOK, name_of

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_cells(text: str) -> list[str]:
    """Names in the first column of tables."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of the page's headings, as they are linked to."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_room_is_in_the_table_once_and_no_other() -> None:
    folder = ROOT / "system"
    rooms = [path.name for path in folder.iterdir() if (path / "__init__.py").exists()]
    modules = [path.stem for path in folder.glob("*.py")]
    assert sorted(first_cells(section(ARCHITECTURE, "Rooms"))) == sorted(rooms + modules)


def test_the_diagram_has_the_order_of_imports() -> None:
    diagram = ARCHITECTURE.split("```")[1]
    drawn: dict[str, int] = {}
    for line in diagram.strip().split("\n"):
        rank, names = re.split(r"\s{3,}", line.strip(), maxsplit=1)[0], re.sub(r"^\s*\d+\s+", "", line)
        for name in re.split(r"\s{10,}", names)[0].split():
            assert name not in drawn, name
            drawn[name] = int(rank)
    assert drawn == RANKS
    assert list(drawn.values()) == sorted(drawn.values(), reverse=True)


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_can_be_reached_from_the_front_page() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        targets = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        new |= {(page.parent / target).resolve() for target in targets if "://" not in target} - reached
    assert set(PAGES) - reached == set()


def test_the_keys_are_those_of_the_dataclasses() -> None:
    page = PAGE.read_text()
    assert keys_text() in page, "python -m tests.support.configuration_page writes them"
    assert with_keys(page) == page


def test_every_preset_is_named() -> None:
    text = PAGE.read_text().split("Presets are files of", 1)[1].split("Of `o2o collect`")[0]
    assert sorted(re.findall(r"`([\w-]+)`", text)) == preset_names(ROOT / "system" / "config" / "presets")


def test_every_sweep_is_named() -> None:
    text = section((ROOT / "docs" / "runs.md").read_text(), "Sweeps")
    assert {path.stem for path in (ROOT / "tune_configs").glob("*.yaml")} <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize(
    ("page", "record"), [("own-family.md", Family), ("own-planner.md", Planner), ("own-data.md", Source)]
)
def test_the_how_tos_name_every_field_of_their_record(page: str, record: type) -> None:
    text = (ROOT / "docs" / page).read_text()
    missing = [each.name for each in dataclasses.fields(record) if not re.search(rf"`{each.name}`", text)]
    assert missing == []


def test_figures_of_the_front_page_stand_in_the_results() -> None:
    """Every difference with its interval is on a page that has the commands."""
    shown = re.findall(r"[+−][\d.]+ \[[^\]]+\]", section((ROOT / "README.md").read_text(), "What comes out"))
    results = " ".join(path.read_text() for path in (ROOT / "docs" / "results").glob("*.md"))
    assert len(shown) >= 8
    assert [each for each in shown if each not in results] == []


def test_the_families_have_their_deviations_said() -> None:
    for path in (ROOT / "system" / "families").glob("*/family.py"):
        assert "## Deviations from the papers" in (path.parent / "README.md").read_text()
