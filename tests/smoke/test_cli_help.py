"""The command line answers help and mistakes at once and in one line, and every failure has its exit code."""

import argparse
import subprocess
import sys
import types

import pytest

from system.cli import main as cli
from system.cli.options import (
    add_config_options,
    add_tracking_options,
    add_work_options,
    resolve_run,
    resolve_tracking_uri,
)
from system.config import CollectConfig, RunConfig
from system.errors import (
    CheckpointError,
    ClusterLost,
    ConfigError,
    Interrupted,
    PlannerError,
    RunDirectoryInUse,
    WorkerLost,
)

HEAVY = ("torch", "numpy", "ray", "mlflow", "gymnasium", "minari", "h5py", "pandas", "matplotlib")
LOADED = f"import sys; print(*(name for name in {HEAVY} if name in sys.modules))"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    result = run_python(f"from system.cli.main import main; code = main(['--help']); {LOADED}; sys.exit(code)")
    assert result.returncode == 0, result.stderr
    *text, loaded = result.stdout.splitlines()
    assert loaded == ""
    verbs = ("run", "pretrain", "finetune", "evaluate", "export", "collect", "data", "sweep", "report", "doctor")
    for verb in verbs:
        assert any(line.split()[:1] == [verb] for line in text), verb


def test_a_verbs_help_imports_nothing_heavy() -> None:
    verbs = list(cli.VERBS)
    calls = f"from system.cli.main import main; codes = [main([verb, '--help']) for verb in {verbs}]"
    result = run_python(f"{calls}; {LOADED}; print(codes)")
    assert result.stdout.splitlines()[-2:] == ["", str([0] * len(verbs))], result.stderr


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "system", "rnu"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("o2o: error: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["rnu"], ["--nonsense"], ["doctor", "--nonsense"]])
def test_a_mistake_is_one_line_and_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("planner.horizn: unknown key"), 2),
        (CheckpointError("weights: truncated"), 2),
        (ClusterLost("gone"), 3),
        (RunDirectoryInUse("locked by 12"), 4),
        (PlannerError("NaN utility"), 1),
        (WorkerLost("learner"), 1),
        (Interrupted(15), 143),
        (Interrupted(2), 130),
    ],
)
def test_a_failure_is_one_line_and_its_own_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_failing_verb(monkeypatch, error)
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == f"o2o: error: {error}\n"


def test_an_unforeseen_failure_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_failing_verb(monkeypatch, ZeroDivisionError("by zero"))
    assert cli.main(["fail"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_control_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    install_failing_verb(monkeypatch, KeyboardInterrupt())
    assert cli.main(["fail"]) == 130


def install_failing_verb(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def execute(arguments: argparse.Namespace) -> int:
        raise error

    module = types.ModuleType("failing_verb")
    module.configure = lambda parser: None  # type: ignore[attr-defined]
    module.execute = execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing_verb", module)
    monkeypatch.setitem(cli.VERBS, "fail", ("failing_verb", "fails"))


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    add_work_options(parser)
    add_tracking_options(parser)
    return parser.parse_args(words)


def test_the_run_directory_is_named_after_configuration_and_seed() -> None:
    config, run_dir = resolve_run(parse("demo"), RunConfig)
    assert (config.seed, str(run_dir)) == (0, "runs/demo-0")
    config, run_dir = resolve_run(parse("demo", "--set", "seed=3", "--seed", "5"), RunConfig)
    assert (config.seed, str(run_dir)) == (5, "runs/demo-5")
    config, run_dir = resolve_run(parse("demo", "--run-dir", "elsewhere"), RunConfig)
    assert str(run_dir) == "elsewhere"
    collect, run_dir = resolve_run(parse("hopper-medium-replay", "--seed", "1"), CollectConfig)
    assert (collect.environment, str(run_dir)) == ("Hopper-v5", "runs/hopper-medium-replay-1")


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed: -1 is out of range"):
        resolve_run(parse("demo", "--seed", "-1"), RunConfig)


def test_the_tracking_uri_has_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_tracking_uri(parse("demo")).endswith("/runs/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert resolve_tracking_uri(parse("demo")) == "http://environment"
    assert resolve_tracking_uri(parse("demo", "--tracking-uri", "http://flag")) == "http://flag"


def test_a_reader_that_stops_reading_is_no_failure() -> None:
    words = ['data', 'check', 'o2o/hopper/medium-replay-v0']
    code = f"import sys; from system.cli.main import main; sys.exit(main({words}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
