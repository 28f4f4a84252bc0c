"""F33: a run directory in use is refused with exit code 4 and the holder's name; a dead holder holds nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.config import RunConfig
from system.runs.run_directory import RunDirectory
from tests.support.tiny_runs import run_o2o, write_tiny_config

HOLDER = """
import sys
from pathlib import Path
from system.config import RunConfig
from system.runs.run_directory import RunDirectory
with RunDirectory.claim(Path(sys.argv[1]), RunConfig(), restart=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("words", [(), ("--restart",)])
def test_a_second_job_is_refused_and_touches_nothing(
    words: tuple[str, ...], holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    before = sorted(each.name for each in (tmp_path / "run").iterdir())
    result = run_o2o(tmp_path, "run", str(write_tiny_config(tmp_path)), "--run-dir", "run", "--quiet", *words)
    assert result.returncode == 4
    assert len(result.stderr.splitlines()) == 1
    assert f"locked by process {holder.pid} on " in result.stderr
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == before
    assert not (tmp_path / "run.1").exists()


def test_a_killed_holder_holds_nothing(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    with RunDirectory.claim(tmp_path / "run", RunConfig(), restart=False) as run:
        assert run.newest_checkpoint() is None
