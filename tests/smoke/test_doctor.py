"""`o2o doctor` looks at everything, survives what is broken, and says what to type."""

import socket
from pathlib import Path

import pytest

from system.cli import doctor
from system.cli.doctor import Finding, examine, list_datasets, next_command
from system.cli.main import main


def test_the_doctor_reports_one_line_each_and_the_next_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["doctor"])
    *lines, blank, last = capsys.readouterr().out.splitlines()
    statuses = {line.split()[1]: line.split()[0] for line in lines}
    assert code == int("fail" in statuses.values())
    assert {"python", "torch", "ray", "ale-py", "devices", "datasets", "disk"} <= set(statuses)
    assert statuses["simulator"] == statuses["roms"] == statuses["tracking"] == "ok"
    assert "cluster" not in statuses
    assert blank == ""
    assert last.startswith("next: ")


def test_what_is_broken_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> Finding:
        raise OSError("no\nlibrary")

    monkeypatch.setattr(doctor, "check_simulator", broken)
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package-here",))
    findings = examine(f"sqlite:///{tmp_path}/mlflow.db", "127.0.0.1:nowhere")
    found = {finding.subject: finding for finding in findings}
    assert found["simulator"] == Finding("fail", "simulator", "OSError: no library")
    assert found["no-such-package-here"].status == "fail"
    assert found["cluster"].status == "fail"


def test_servers_are_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert doctor.check_cluster(f"ray://127.0.0.1:{port}").status == "ok"
        answers = doctor.check_tracking(f"http://someone:secret@127.0.0.1:{port}")
    assert answers.status == "ok"
    assert "secret" not in answers.detail
    assert doctor.check_cluster(f"127.0.0.1:{port}").status == "fail"
    assert doctor.check_tracking(f"http://127.0.0.1:{port}").status == "warn"


def test_datasets_are_listed_by_id(tmp_path: Path) -> None:
    for name in ("hopper/medium-v0", "o2o/hopper/tiny-v0"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "metadata.json").write_text("{}")
    assert list_datasets(tmp_path) == ["hopper/medium-v0", "o2o/hopper/tiny-v0"]
    assert list_datasets(tmp_path / "missing") == []


def test_the_next_command_fits_the_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert next_command([Finding("ok", "datasets", "")]) == "o2o run demo"
    assert next_command([Finding("fail", "datasets", "")]).startswith("o2o collect ")
    assert "pip install" in next_command([Finding("fail", "datasets", ""), Finding("fail", "torch", "")])
    assert "cannot be written" in next_command([Finding("fail", "tracking", "cannot be written")])
    (tmp_path / "runs" / "demo-0").mkdir(parents=True)
    (tmp_path / "runs" / "demo-0" / "summary.json").write_text("{}")
    assert next_command([]) == "o2o run hopper-medium-replay"
