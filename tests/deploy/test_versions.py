"""Images and versions in `deploy/` are those of constraints.txt and pyproject.toml."""

import re
import tomllib

from tests.support.deploy_files import DEPLOY, IMAGE_ROOT, ROOT, documents, pins, pods, project, ray_clusters

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def test_ray_clusters_run_the_pinned_ray() -> None:
    assert {cluster["rayVersion"] for _, cluster in ray_clusters()} == {pins()["ray"]}


def test_images_carry_the_versions_they_hold() -> None:
    images = {container["image"] for _, pod in pods() for container in pod["spec"]["containers"]}
    compose = documents(DEPLOY / "mlflow" / "compose.yaml")[0]["services"]
    postgres = compose["postgres"]["image"]
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", postgres), "a tag that stays the same"
    assert images == {
        f"{project()['name']}:{project()['version']}-cpu",
        f"{project()['name']}-mlflow:{pins()['mlflow']}",
        postgres,
    }
    assert compose["mlflow"]["image"] in images


def test_the_images_that_are_built_are_those_that_are_used() -> None:
    built = set(re.findall(r"-t (\S+)", DOCKERFILE + (DEPLOY / "README.md").read_text()))
    used = {container["image"] for _, pod in pods() for container in pod["spec"]["containers"]}
    assert {image for image in used if image.startswith(project()["name"])} <= built
    assert built <= used | {f"{project()['name']}:{project()['version']}-gpu"}


def test_the_image_is_built_from_pinned_packages_as_nobody_special() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert [name for _, name in stages] == ["base", "mlflow", "o2o"]
    version = re.search(r"BASE_IMAGE=python:(\d+)\.(\d+)-", DOCKERFILE)
    assert version is not None
    minor = int(version[2])
    low, high = re.findall(r"3\.(\d+)", project()["requires-python"])
    assert int(low) <= minor < int(high)
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 3
    assert all(line.startswith("--constraint constraints.txt") for line in installs)
    for stage in DOCKERFILE.split("FROM ")[2:]:
        assert "USER o2o" in stage, "no process needs root"


def test_the_context_of_the_build_has_what_is_copied() -> None:
    sent = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = {word for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert {word.partition("/")[0] for word in copied} == set(sent)
    assert all((ROOT / word).exists() for word in copied)
    assert f"WORKDIR {IMAGE_ROOT}\n" in DOCKERFILE


def test_what_is_installed_beyond_the_project_is_pinned() -> None:
    extras = project()["optional-dependencies"]
    assert set(extras["server"]) == set(re.findall(r"'(mlflow\[auth\])' (psycopg2-binary)", DOCKERFILE)[0])
    for package in ("flask-wtf", "psycopg2-binary", "prometheus-client", "grpcio", "virtualenv"):
        assert package in pins(), f"{package}: needed by an extra that the images install"


def test_package_data_holds_what_a_job_needs() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert table["project"]["scripts"]["o2o"] == "system.cli.main:main"
