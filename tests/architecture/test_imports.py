"""Imports go one way, and each library has one home. Read from the source, nothing is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "system").rglob("*.py"))

# A module may import what has a lower rank, or its own room. Protocols, and what they mention, are nouns.
RANKS = {
    "types": 0,
    "decisions": 0,
    "errors": 0,
    "seeding": 0,
    "wording": 0,
    "files": 0,
    "sealed_folder": 0,
    "shape_annotations": 0,
    "safetensors_reader": 1,
    "fault_points": 0,
    "config": 1,
    "documents": 1,
    "models.protocols": 2,
    "training.protocols": 3,
    "data": 2,
    "envs": 2,
    "models": 3,
    "values": 4,
    "planning": 4,
    "families": 5,
    "evaluation": 6,
    "runs": 7,
    "training": 8,
    "sweeps": 9,
    "reports": 9,
    "tracking": 10,
    "distributed": 10,
    "cli": 11,
    "api": 12,
    "__init__": 13,
    "__main__": 13,
}

DRAWING = ("system/documents/", "system/evaluation/", "system/reports/", "system/sweeps/", "system/families/")

HOMES = {
    "ray": ("system/distributed/",),
    "mlflow": ("system/tracking/mlflow.py",),
    "minari": ("system/data/",),
    "h5py": ("system/data/",),
    "gymnasium": ("system/envs/", "system/types.py"),
    "ale_py": ("system/envs/", "system/types.py"),
    "pandas": ("system/evaluation/", "system/reports/", "system/sweeps/", "system/data/sources/tables.py"),
    "matplotlib": DRAWING,
    "PIL": DRAWING,
}


def imported_modules(source: str, package: str) -> list[str]:
    """Every module that the source imports, wherever the statement stands; `importlib` calls included."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join(filter(None, [*parents[: len(parents) - node.level + 1], base]))
            names += [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            literals = [part.value for part in node.args if isinstance(part, ast.Constant)]
            names += [value for value in literals if isinstance(value, str)]
    return names


def rank(module: str) -> int | None:
    """Rank of `system.<module>`; None if the table does not know its room."""
    parts = module.split(".")
    return RANKS.get(".".join(parts[:2]), RANKS.get(parts[0]))


def upward_imports(source: str, module: str) -> list[str]:
    """What this module of `system` imports although it stands beside or above it."""
    own, package = rank(module), f"system.{module}".rpartition(".")[0]
    imported = imported_modules(source, package)
    targets = [name.removeprefix("system.") for name in imported if name.startswith("system.")]
    wrong = []
    for target in targets:
        same_room = target.split(".")[0] == module.split(".")[0] and rank(target) == own
        level = rank(target)
        if not same_room and (own is None or level is None or level > own or (level == own and own > 0)):
            wrong.append(target)
    return wrong


def strangers(source: str, path: str) -> list[str]:
    """Libraries that this file imports away from their home."""
    roots = {name.split(".")[0] for name in imported_modules(source, "system")}
    return sorted(root for root in roots & HOMES.keys() if not path.startswith(HOMES[root]))


def module_name(path: Path) -> str:
    """`data.episodes` for system/data/episodes.py."""
    return ".".join(path.relative_to(ROOT / "system").with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way_and_libraries_stay_at_home(path: Path) -> None:
    source, name = path.read_text(), module_name(path)
    assert rank(name) is not None, f"{name} has no place in the order of imports"
    assert upward_imports(source, name) == []
    assert strangers(source, str(path.relative_to(ROOT))) == []


def test_the_rules_notice_violations() -> None:
    assert upward_imports("from system.training.offline import run", "models.masks") == ["training.offline.run"]
    assert upward_imports("def f():\n    import system.cli.main", "distributed.learners") == ["cli.main"]
    assert upward_imports("from ..training import offline", "data.replay") == ["training.offline"]
    assert upward_imports("from system.envs.vector import X", "data.replay") == ["envs.vector.X"]
    assert upward_imports("from system import files, data", "config.loading") == ["data"]
    assert upward_imports("from system.training.protocols import Replay", "families.registry") == []
    assert upward_imports("from system.models.blocks import X", "models.protocols") == ["models.blocks.X"]
    assert upward_imports("from system.evaluation.play import X", "families.record") == ["evaluation.play.X"]
    assert upward_imports("from system.values.iql import X", "planning.utility") == ["values.iql.X"]
    assert strangers("import ray.util", "system/training/offline.py") == ["ray"]
    assert strangers("importlib.import_module('mlflow')", "system/tracking/console.py") == ["mlflow"]
    assert strangers("import h5py", "system/data/sources/hdf5_reader.py") == []


def test_training_protocols_hold_only_nouns() -> None:
    tree = ast.parse((ROOT / "system/training/protocols.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            assert "Protocol" in bases or any(name.startswith("dataclass") for name in decorators), node.name
        else:
            assert isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr), ast.unparse(node)


def test_the_replay_starts_without_torch() -> None:
    """It comes back from a kill in the second or two that these imports save, on every node that has one."""
    script = "import sys, system.distributed.replay_service; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
