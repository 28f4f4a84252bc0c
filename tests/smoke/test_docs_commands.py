"""What pages tell a user to type is understood: verbs, options, presets, keys, files; how-tos run, made small."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from system.cli.main import VERBS, build_parser, main
from system.cli.options import COLLECT_PRESETS, PRESETS
from system.config import CollectConfig, RunConfig, SweepConfig
from system.config.loading import config_from_dict, load_config, present_key, preset_names, to_dict
from system.config.registry import CHANGED, FAMILIES, PLANNERS
from system.envs.registry import find_task
from system.errors import ConfigError
from system.evaluation.goal_files import read_courses
from system.sweeps.plan import load_sweep, plan_sweep
from tests.support.absent_extras import stand_in
from tests.support.doc_pages import (
    PAGES,
    ROOT,
    RUNBOOK,
    blocks,
    code_lines,
    commands,
    inline_code,
    name_of,
    o2o_commands,
)

CONFIGURED = {"run": RunConfig, "pretrain": RunConfig, "finetune": RunConfig, "collect": CollectConfig}
OF_A_CHECKPOINT = ("evaluate", "export")
COMMANDS = [(page, words) for page in PAGES for words in o2o_commands(page)]
SWEEPS = ROOT / "tune_configs"

FEW = ("pretrain.update_steps=4", "online.env_steps=0")
SMOKE: dict[str, tuple[str, tuple[str, ...]]] = {
    "own-planner.md": ("", FEW),
    "own-family.md": ("", ("pretrain.update_steps=4",)),
    "own-data.md": ("From files to a policy", FEW),
    "own-environment.md": ("", (*FEW, "evaluation.policies=[rcbc_mode, forward_mpc_q]")),
    "runs.md": ("", (*FEW, "evaluation.policies=[forward_mpc_q]")),
}
"""Pages whose commands are run one after another (of one section, if it is named), and what makes runs smaller."""

UNTRIED = {"sweep", "doctor", "imagine"}
"""Verbs that take longer, look at this machine, or need a model of their own; they have smoke tests elsewhere."""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of the pages are imported and registered for a test alone."""
    stand_in(monkeypatch)
    known = [(registry, dict(registry)) for registry in (FAMILIES, PLANNERS)]
    modules, paths = set(sys.modules), list(sys.path)
    yield
    for registry, before in known:
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]
    for name in set(sys.modules) - modules:
        if name.startswith("my_"):
            del sys.modules[name]
    sys.path[:] = paths


def write_files(page: Path, folder: Path) -> None:
    """Blocks that begin with the name of a file, as that file."""
    text = page.read_text()
    for block in [*blocks(text, "python"), *blocks(text, "yaml")]:
        named = re.match(r"# ([\w-]+\.(py|yaml))\n", block)
        if named:
            (folder / named[1]).write_text(block)
    for words in commands(text):
        if words[0] == "cp" and not words[1].startswith("deploy/"):
            shutil.copy(ROOT / words[1], folder / words[2])


def saved_config(checkpoint: str) -> RunConfig:
    """What a checkpoint in `runs/<config>-<seed>` was made with, as its name says."""
    stem = re.sub(r"-\d+$", "", Path(checkpoint).name)
    names = [name for name in preset_names(PRESETS) if stem == name or stem.startswith(f"{name}-")]
    return load_config(RunConfig, max(names, key=len, default="demo"), presets=PRESETS)


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[" ".join([page.stem, *words]) for page, words in COMMANDS]
)
def test_commands_are_understood(
    page: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    assert words[0] in VERBS, words
    arguments = build_parser(words[0]).parse_args(words)
    if words[0] in CONFIGURED:
        schema = CONFIGURED[words[0]]
        presets = COLLECT_PRESETS if schema is CollectConfig else PRESETS
        load_config(schema, arguments.config, arguments.overrides, presets=presets)
    elif words[0] in OF_A_CHECKPOINT:
        policies = getattr(arguments, "policies", None)
        chosen = [f"evaluation.policies=[{policies}]"] if policies else []
        if not any(each.startswith("modules=") for each in arguments.overrides):
            saved = to_dict(saved_config(str(arguments.checkpoint)))
            config_from_dict(RunConfig, saved, [*arguments.overrides, *chosen])
    elif words[0] == "sweep":
        load_sweep(arguments.config, arguments.overrides, sweeps=SWEEPS, presets=PRESETS)


def test_there_are_many_commands_and_none_is_lost() -> None:
    """Every line of a code block that begins with the command is among those that are tried."""
    assert len(COMMANDS) > 60
    for page in PAGES:
        lines = re.findall(rf"^ +o2o (?:{'|'.join(VERBS)}) ", page.read_text(), re.MULTILINE)
        assert len(o2o_commands(page)) >= len(lines), name_of(page)


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK], ids=name_of)
def test_other_commands_name_what_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    markers = set(re.findall(r'^    "(\w+): ', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    for words in commands(page.read_text()):
        if words[0] == "make":
            assert set(words[1:]) <= targets, words
        if "pytest" in words:
            assert words[words.index("-m", words.index("pytest")) + 1] in markers, words
            for word in words:
                assert not word.startswith("tests/") or (ROOT / word).exists(), word


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK], ids=name_of)
def test_files_and_keys_between_backticks_are_there(page: Path) -> None:
    for code in inline_code(page.read_text()):
        if re.fullmatch(r"(system|tests|docs|deploy|tune_configs)/[\w./-]+", code):
            assert (ROOT / code).exists(), code
        found = re.fullmatch(r"([a-z_]+(?:\.[a-z_0-9]+)+)(?:(?:=|: )(\S+))?", code)
        if found and found[1].split(".")[0] in SECTIONS and not code.endswith(".py"):
            assert key_exists(found[1]) or (page.stem == "configuration" and present_key(found[1])), code


def key_exists(key: str) -> bool:
    """Whether a run has it, of whatever family."""
    for family in FAMILIES:
        node: Any = to_dict(RunConfig(family=family))
        for part in key.split("."):
            node = node.get(part, KeyError) if isinstance(node, dict) else KeyError
        if node is not KeyError:
            return True
    return False


SECTIONS = {
    *(name for name, value in to_dict(RunConfig()).items() if isinstance(value, dict)),
    *FAMILIES,
    *(old.split(".")[0] for family in FAMILIES.values() for old in family.former),
}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_yaml_blocks_are_configurations(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    for block in blocks(page.read_text(), "yaml"):
        tree = yaml.safe_load(block)
        if "goals" in tree:
            Path("goals.yaml").write_text(block)
            assert read_courses(Path("goals.yaml"), find_task("Hopper-v5"))
        elif "space" in tree:
            Path("sweep.yaml").write_text(block)
            sweep = load_sweep("sweep.yaml", [], sweeps=SWEEPS, presets=PRESETS)
            assert isinstance(sweep, SweepConfig)
            if sweep.kind == "run":
                plan_sweep(sweep, presets=PRESETS)
        else:
            schema = CollectConfig if "dataset_id" in tree else RunConfig
            load_config(schema, tree, presets=COLLECT_PRESETS if schema is CollectConfig else PRESETS)


@pytest.mark.parametrize("name", SMOKE)
def test_the_how_to_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its indented commands, in their order, in an empty folder."""
    page, (section, settings) = ROOT / "docs" / name, SMOKE[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    write_files(page, tmp_path)
    text = page.read_text()
    if section:
        text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    smaller = [word for each in (*settings, "tracking.mlflow=false") for word in ("--set", each)]
    typed = commands("\n".join(f"    {line}" for line in code_lines(text)))
    assert len(typed) >= 3
    for program, *words in typed:
        if program == "python":
            subprocess.run([sys.executable, *words], check=True)
        elif program == "o2o" and words[0] not in UNTRIED:
            added = [*smaller, "--quiet"] if words[0] in ("run", "pretrain") else []
            assert main([*words, *added]) == 0, capsys.readouterr().err
    if name == "runs.md":
        check_names_of_results(text, Path("runs/smoke-0"))
    if name == "own-environment.md":
        records = json.loads(Path("runs/tank-0/summary.json").read_text())["evaluations"]
        lengths = [each["length_mean"] for each in records]
        assert lengths == [20.0] * 2, "a cut at 50 does not outlast the limit of 20"


def check_names_of_results(text: str, run_dir: Path) -> None:
    """What the page says is in a run directory and a summary is there, and nothing else is in the directory."""
    named = {}
    for title in ("What is in a run directory", "summary.json"):
        table = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| (`[^|]+`) \| (.*) \|$", table, re.MULTILINE)
        named[title] = {name.rstrip("/"): what for cell, what in rows for name in re.findall(r"`([^`]+)`", cell)}
    assert set(named["What is in a run directory"]) == {each.name for each in run_dir.iterdir()}
    summary = json.loads((run_dir / "summary.json").read_text())
    assert set(named["summary.json"]) <= set(summary)
    fields = named["summary.json"]["evaluations"].partition(": ")[2]
    assert {re.sub(r" \(.*\)", "", field) for field in fields.split(", ")} <= set(summary["evaluations"][0])


def test_old_keys_are_refused_with_the_names_that_the_page_gives() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    table = page.split("\n## Renamed keys\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)`", table, re.MULTILINE)
    of_families = sum(len(each.former) + len(each.changed) for each in FAMILIES.values())
    assert len(rows) == 1 + of_families + len(CHANGED)
    for old, new in rows:
        assert present_key(old) == new
        with pytest.raises(ConfigError, match=re.escape(f"{old}: is called {new} now")):
            load_config(RunConfig, "demo", {old: "x"}, presets=PRESETS)
