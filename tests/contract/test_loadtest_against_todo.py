"""The writer and the check against the todo service's own code, over HTTP, without a database.

The answers that the writer relies on (replayed creates, 412 and 404 after a lost answer, 503 of the
fence) are the service's, not those of a stand-in.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from loadtest_world import wait_until

sys.path.append(str(Path(__file__).resolve().parents[2] / "services/todo/testing"))
from todo_gateway import TOKEN, Gateway
from todo_testing import in_memory, load

ROOT = Path(__file__).resolve().parents[2]
EVERY = 7
"""Every seventh change is made, but answered with 502."""


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class Api:
    """The external API's part: the path prefix, a token endpoint, and lost answers."""

    def __init__(self) -> None:
        in_memory()
        self._gateway = Gateway(load("app").app)
        self.changes = 0
        self.refused = 0
        self._server = make_server("127.0.0.1", 0, self, handler_class=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Api:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def __call__(self, environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/oauth2/token":
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode()]
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/todo")
        said: list[Any] = []
        body = b"".join(self._gateway(environ, lambda *answer: said.append(answer)))
        status, headers = said[0]
        if environ["REQUEST_METHOD"] != "GET" and "_ops" not in environ["PATH_INFO"]:
            self.refused += status.startswith("503")
            self.changes += status.startswith("2")
            if status.startswith("2") and self.changes % EVERY == 0:
                start("502 Bad Gateway", [("Content-Type", "application/json")])
                return [b"{}"]
        start(status + "X", headers)
        return [body]

    def fence(self, epoch: int, state: str) -> None:
        document = {"epoch": epoch, "active_region": "us-east-1", "state": state}
        request = urllib.request.Request(
            f"{self.url}/todo/_ops/fence",
            json.dumps(document).encode(),
            {"Authorization": TOKEN, "Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as running:
        yield running


def test_the_service_and_its_client_understand_each_other(api: Api, tmp_path: Path) -> None:
    client = {"token_url": f"{api.url}/oauth2/token", "client_id": "x", "client_secret": "y"}
    (tmp_path / "tokens.json").write_text(json.dumps({"us-east-1": client}))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "API_URL": api.url,
        "TOKENS_FILE": str(tmp_path / "tokens.json"),
        "CA_FILE": "",
        "NAMESERVER": "",
    }
    ledger = ["--ledger", str(tmp_path / "ledger.jsonl")]
    writer = subprocess.Popen(
        [sys.executable, "-m", "loadtest.writer", "--rate", "80", "--workers", "8", *ledger],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: api.changes >= 120, "changes")
        api.fence(1, "draining")
        wait_until(lambda: api.refused >= 20, "refused attempts")
        api.fence(2, "open")
        before = api.changes
        wait_until(lambda: api.changes >= before + 60, "changes after the drain")
        writer.send_signal(signal.SIGINT)
        out, _ = writer.communicate(timeout=30)
    finally:
        writer.kill()
        writer.wait(10)
    result = json.loads(out)
    assert set(result["operations"]) == {"acknowledged"}
    assert result["attempts"]["refused"] == api.refused
    assert result["reasons"]["repeated: HTTP 502"] >= 180 // EVERY
    check = [sys.executable, "-m", "loadtest.ledger", *ledger, "--json", str(tmp_path / "r.json")]
    done = subprocess.run(check, env=environment, capture_output=True, timeout=30, check=False)
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["findings"] == []
    assert done.returncode == 0
    assert found["acknowledged"] == result["operations"]["acknowledged"]
    assert found["others"] == 0
