"""The key `modules`: imported for who names them, in every process, and not for a checkpoint's sake."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.config import RunConfig
from system.config.loading import config_from_dict, load_config, to_dict
from system.config.modules import import_modules, imported_modules
from system.errors import ConfigError

ROOT = Path(__file__).parents[2]
ARRIVAL = "import pickle, sys; pickle.load(sys.stdin.buffer); print([n for n in sys.modules if n[:5] == 'own_m'])"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A module in the current folder, of a name that no other test uses."""
    name = f"own_module_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield name
    sys.modules.pop(name, None)


def arrived(config: RunConfig, folder: Path) -> str:
    """Which such modules a process has imported once it has received the configuration."""
    done = subprocess.run(
        [sys.executable, "-c", ARRIVAL],
        input=pickle.dumps(config),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def test_a_module_of_the_current_folder_is_imported_and_follows_the_configuration(
    module: str, tmp_path: Path
) -> None:
    config = load_config(RunConfig, None, [f"modules=[{module}]"], presets=tmp_path)
    assert module in sys.modules
    assert imported_modules([module, "another"]) == (module,)
    assert config.modules == (module,)
    assert arrived(config, tmp_path) == f"['{module}']"


def test_what_a_checkpoint_names_is_imported_neither_here_nor_elsewhere(module: str, tmp_path: Path) -> None:
    tree = {**to_dict(RunConfig()), "modules": [module]}
    config = config_from_dict(RunConfig, tree)
    assert config.modules == (module,)
    assert module not in sys.modules
    assert arrived(config, tmp_path) == "[]"
    with pytest.raises(ConfigError, match=r"'mine' is not one of .*; it was made with modules = \[own_module"):
        config_from_dict(RunConfig, {**tree, "family": "mine"})
    assert config_from_dict(RunConfig, tree, [f"modules=[{module}]"]) == config
    assert module in sys.modules


def test_a_module_that_fails_is_refused_with_its_reason(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=rf"^--modules: {module} can't be imported \(ZeroDivisionError: "):
        import_modules([module], "--modules")
    with pytest.raises(ConfigError, match=r"^modules: 'a b' is not the name"):
        import_modules(["a b"])
    with pytest.raises(ConfigError, match="modules: 'own' is not a list"):
        load_config(RunConfig, None, ["modules=own"], presets=tmp_path)
