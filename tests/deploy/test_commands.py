"""Every command in the runbook and the manifests exists: verbs, flags, presets, paths, targets."""

import re
from pathlib import Path

import pytest

from system.cli.main import VERBS, build_parser
from system.cli.options import PRESETS
from system.config import RunConfig
from system.config.loading import load_config
from tests.support.deploy_files import DEPLOY, IMAGE_ROOT, ROOT, manifest_commands, o2o_commands, readme_commands

RUN_VERBS = ("run", "pretrain", "finetune")
OTHERS = {"export", "cp", "chmod", "openssl", "prometheus", "pip", ".venv/bin/pip", "python3"}
KUBECTL = {"create", "apply", "get", "patch", "port-forward"}


def commands_of(program: str) -> list[list[str]]:
    """The words behind a program, up to what a submitted job runs."""
    found = [words for words in [*readme_commands(), *manifest_commands()] if words[0] == program]
    return [words[1 : words.index("--")] if "--" in words else words[1:] for words in found]


def test_there_are_commands() -> None:
    assert len(o2o_commands()) >= 8
    assert {words[0] for words in o2o_commands()} >= {"run", "sweep", "report"}
    known = {"o2o", "ray", "kubectl", "docker", "mlflow", *OTHERS}
    assert {words[0] for words in readme_commands()} <= known


@pytest.mark.parametrize("words", o2o_commands(), ids=" ".join)
def test_o2o_commands_are_understood(words: list[str]) -> None:
    assert words[0] in VERBS
    arguments = build_parser(words[0]).parse_args(words)
    if words[0] in RUN_VERBS:
        load_config(RunConfig, arguments.config, arguments.overrides, presets=PRESETS)
    if words[0] == "sweep":
        path = arguments.config.removeprefix(f"{IMAGE_ROOT}/")
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "words", [words for words in o2o_commands() if words[0] in ("run", "sweep") and "--address" not in words]
)
def test_jobs_write_where_every_node_sees_it(words: list[str]) -> None:
    assert build_parser(words[0]).parse_args(words).run_dir.is_relative_to("/shared")


def test_what_commands_name_is_there() -> None:
    for words in [*readme_commands(), *manifest_commands()]:
        for word in words:
            path = word.partition("=")[2] or word
            if path.startswith("deploy/") and path != "deploy/mlflow/.env":
                assert (ROOT / path).exists(), path
            if path.startswith(f"{IMAGE_ROOT}/"):
                assert (ROOT / path.removeprefix(f"{IMAGE_ROOT}/")).exists(), path


def test_ray_commands_exist() -> None:
    from ray.scripts.scripts import cli

    for words in commands_of("ray"):
        command, rest = cli, list(words)
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= options, f"ray {words[0]} has no {given - options}"


def test_mlflow_commands_exist() -> None:
    from mlflow.cli import cli

    servers = [words for words in commands_of("mlflow") if words[0] == "server"]
    assert len(servers) == 3
    options = {name for parameter in cli.commands["server"].params for name in parameter.opts}
    for words in servers:
        given = {word.partition("=")[0]: word.partition("=")[2] for word in words[1:]}
        assert set(given) <= options, words
        assert given["--app-name"] == "basic-auth"
        assert given["--workers"] == "2", "a worker takes about 0.4 GiB: the default is more than a small pod has"


def test_docker_and_kubectl_commands_are_of_files_and_targets_that_exist() -> None:
    stages = re.findall(r"AS (\w+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for words in commands_of("docker"):
        assert words[0] in ("build", "compose")
        if words[0] == "build":
            assert words[words.index("--target") + 1] in stages
    for words in commands_of("kubectl"):
        assert next(word for word in words if not word.startswith("-") and word != "o2o") in KUBECTL


def test_every_file_is_in_the_runbook() -> None:
    text = (DEPLOY / "README.md").read_text()
    for path in DEPLOY.iterdir():
        if path.name not in ("README.md", "Dockerfile.dockerignore"):
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in text, path.name


def test_ray_up_accepts_its_cluster_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.setenv("HOME", str(tmp_path))
    config = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    prepared = prepare_config(dict(config))
    validate_config(prepared)
    types = prepared["available_node_types"]
    assert sum(each.get("max_workers", 0) for each in types.values()) == len(config["provider"]["worker_ips"])
