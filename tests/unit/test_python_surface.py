"""`import system` is light, and every name that it promises is there, for programs and for type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import system
from system.shape_annotations import KINDS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "ray", "mlflow", "minari", "gymnasium", "pandas", "matplotlib", "yaml", "h5py")


def loaded_after(code: str) -> list[str]:
    """Which heavy libraries a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def type_checked_names() -> dict[str, str]:
    """name → module, of the imports that only type checkers see."""
    tree = ast.parse((ROOT / "system" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_importing_it_loads_nothing_heavy_and_registers_the_families() -> None:
    code = "import system; from system.config.registry import FAMILIES; assert len(FAMILIES) >= 2"
    assert loaded_after(code) == []


def test_configurations_can_be_built_without_torch() -> None:
    code = "import system; system.RunConfig(); system.register_planner, system.Family, system.ConfigError"
    assert loaded_after(code) == []


def test_loading_an_agent_needs_neither_cluster_nor_tracking_nor_datasets() -> None:
    assert set(loaded_after("import system; system.load_agent")) == {"torch", "numpy"}


def test_every_promised_name_resolves_and_listing_shows_it() -> None:
    for name in system.__all__:
        assert getattr(system, name) is not None
    assert set(system.__all__) <= set(dir(system))
    assert list(system.__all__) == sorted(system.__all__)


def test_type_checkers_see_the_same_names_from_the_same_places() -> None:
    homes = {name: home for home, names in system._HOMES.items() for name in names}
    assert type_checked_names() == homes
    assert set(homes) == set(system.__all__)
    assert (ROOT / "system" / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(system, "load_agnet")


def test_the_stand_in_knows_every_annotation_in_use() -> None:
    used = set()
    for path in (ROOT / "system").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping":
                used |= {alias.name for alias in node.names}
    assert used <= set(KINDS)
