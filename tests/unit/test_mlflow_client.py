"""The MLflow client over HTTP: it prints nothing of its own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from system.tracking.mlflow import connect_client

RUN = {"info": {"run_id": "1", "run_name": "run", "experiment_id": "1", "status": "RUNNING"}, "data": {}}


class StubServer(BaseHTTPRequestHandler):
    """Knows one run, and answers what `set_terminated` asks."""

    ended_with: str | None = None

    def do_GET(self) -> None:
        self._answer({"run": RUN})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/runs/update"):
            type(self).ended_with = body["status"]
        self._answer({"run_info": RUN["info"]} if self.path.endswith("/runs/update") else {"experiments": []})

    def _answer(self, content: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *parts: object) -> None:
        """Requests are not reported."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), StubServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_end_of_a_run_on_a_server_prints_nothing(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    connect_client(address).set_terminated("1", "FINISHED")
    assert StubServer.ended_with == "FINISHED"
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
