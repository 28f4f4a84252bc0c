"""Breaks places of a module one by one and tells which breaks no test notices.

    python tests/mutation/run.py                                   20 places of every module of the table
    python tests/mutation/run.py system/planning/utility.py        of these alone
    python tests/mutation/run.py --sample 1000 --seed 1            all places, or others

Works on a copy of the tree. Needs the extra `mutation`.
"""

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cosmic_ray.mutating import apply_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.util import restore_contents
from cosmic_ray.work_item import MutationSpec

sys.path.insert(0, str(Path(__file__).parent))
from mutants import draw_mutants
from table import MODULES

ROOT = Path(__file__).parents[2]
COPIED = ("system", "tests", "tune_configs", "pyproject.toml", "README.md")
SLOW_IMPORTS = ("torch", "gymnasium", "h5py", "safetensors.torch", "hypothesis", "beartype", "jaxtyping")
"""Done once: every run of the tests is a fork that has them already, and imports `system` afresh."""


def main() -> int:
    """Exit code 1 where a mutant survived that is not explained in survivors.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE")
    parser.add_argument("--sample", type=int, default=20, help="places of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--output", type=Path, default=Path("mutants.jsonl"), help="every mutant and its end")
    arguments = parser.parse_args()
    for module in arguments.modules:
        if module not in MODULES:
            parser.error(f"{module}: table.py names no tests for it")
    output, num_survived = arguments.output.resolve(), 0
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder, output.open("a") as stream:
        copy_tree(Path(folder))
        for module in arguments.modules:
            started = time.monotonic()
            if not passes(MODULES[module], 600.0):
                raise SystemExit(f"{module}: its tests fail before anything is broken")
            limit = 10.0 + 4.0 * (time.monotonic() - started)
            for mutation in draw_mutants(Path(module), arguments.sample, arguments.seed):
                entry = try_mutant(mutation, MODULES[module], limit)
                stream.write(json.dumps(entry) + "\n")
                stream.flush()
                if entry["survived"] and not is_explained(entry):
                    num_survived += 1
                    print(f"{module}:{entry['line']}\n  - {entry['before']}\n  + {entry['after']}", flush=True)
        os.chdir(ROOT)
    print(f"{num_survived} survived without a reason")
    return int(num_survived > 0)


def copy_tree(folder: Path) -> None:
    """What the tests need, and from there on the working directory."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [str(folder), *(each for each in sys.path if Path(each or ".").resolve() != ROOT)]
    sys.dont_write_bytecode = True


def passes(tests: tuple[str, ...], limit: float) -> bool:
    """Whether all tests pass, in a process of their own, within some seconds."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os._exit(int(pytest.main(["-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests])))
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def try_mutant(mutation: MutationSpec, tests: tuple[str, ...], limit: float) -> dict[str, str | int | bool]:
    """Where it is, what it changes, and whether no test noticed."""
    with restore_contents(mutation.module_path):
        operator = get_operator(mutation.operator_name)()
        before, after = apply_mutation(mutation.module_path, operator, mutation.occurrence)
        survived = passes(tests, limit)
    pairs = zip(before.splitlines(), str(after).splitlines(), strict=False)
    old, new = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return {
        "module": str(mutation.module_path),
        "line": mutation.start_pos[0],
        "operator": mutation.operator_name,
        "before": old.strip(),
        "after": new.strip(),
        "survived": survived,
    }


def is_explained(entry: dict[str, str | int | bool]) -> bool:
    """Whether survivors.md has the changed line, or that it is left out, with the reason why nothing changes."""
    line = f"`{entry['before']}` left out" if entry["after"] == "pass" else f"`{entry['after']}`"
    return line in (ROOT / "tests" / "mutation" / "survivors.md").read_text()


if __name__ == "__main__":
    sys.exit(main())
