"""For tests and benchmarks of this service: it loaded apart from other services, events as API
Gateway makes them, and a MariaDB server of one's own. Not part of the deployed package.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pymysql

SERVICE = Path(__file__).resolve().parents[1]
CLIENT_A = "client-of-a-in-us-east-1"
CLIENT_A_WEST = "client-of-a-in-us-west-2"
CLIENT_B = "client-of-b"
OPERATOR = "operator"
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "USER_POOL_ARNS": "arn:aws:cognito-idp:us-east-1:111122223333:userpool/us-east-1_EXAMPLE11",
    "TENANTS": json.dumps({CLIENT_A: "a", CLIENT_A_WEST: "a", CLIENT_B: "b"}),
    "DB_WRITER_HOST": "writer.invalid",
    "DB_READER_HOST": "reader.invalid",
    "DB_NAME": "todo",
    "SECRET_ARN": "arn:aws:secretsmanager:us-east-1:111122223333:secret:todo/application-EXAMPLE",
}
_OWN = ("app", "chalicelib", "regional")


def load(*names: str) -> Any:
    """The modules of this service by name, such as "app" or "chalicelib.model".

    They are imported once under their own names and then taken out of `sys.modules`, because every
    service has an `app`, a `chalicelib` and a `regional`.
    """
    modules = _load_all()
    found = tuple(modules[name] for name in names)
    return found[0] if len(found) == 1 else found


_loaded: dict[str, ModuleType] = {}


def _load_all() -> dict[str, ModuleType]:
    if _loaded:
        return _loaded
    others = _take_out()
    environment = dict(os.environ)
    paths = [str(SERVICE), str(SERVICE / "vendor")]
    sys.path[:0] = paths
    os.environ.update(ENVIRONMENT)
    try:
        importlib.import_module("app")
        for path in sorted((SERVICE / "chalicelib").glob("[a-z]*.py")):
            importlib.import_module(f"chalicelib.{path.stem}")
        _loaded.update(_take_out())
    finally:
        for path_name in paths:
            sys.path.remove(path_name)
        os.environ.clear()
        os.environ.update(environment)
        sys.modules.update(others)
    return _loaded


def _take_out() -> dict[str, ModuleType]:
    return {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in _OWN
    }


def event(
    method: str,
    resource: str,
    *,
    client: str | None = CLIENT_A,
    path: Mapping[str, str] | None = None,
    query: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    base64: bool = False,
) -> dict[str, Any]:
    """A proxy event of an authorized request (API Gateway: input format for proxy integration)."""
    text = resource
    for name, value in (path or {}).items():
        text = text.replace("{" + name + "}", value)
    context: dict[str, Any] = {
        "httpMethod": method, "resourcePath": resource, "path": text, "requestId": "request-1",
        "identity": {"sourceIp": "192.0.2.1"},
    }
    if client is not None:
        context["authorizer"] = {"claims": {"client_id": client, "token_use": "access"}}
    headers = dict(headers or {})
    return {
        "resource": resource,
        "path": text,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {n: v[-1] for n, v in query.items()} if query else None,
        "multiValueQueryStringParameters": dict(query) if query else None,
        "pathParameters": dict(path) if path else None,
        "stageVariables": None,
        "requestContext": context,
        "body": body,
        "isBase64Encoded": base64,
    }


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls the Chalice app with events, as Lambda does."""

    def __init__(self, app: Any, client: str = CLIENT_A) -> None:
        self._app = app
        self.client = client

    def __call__(self, method: str, resource: str, document: Any = None, **more: Any) -> Answer:
        if document is not None:
            more.setdefault("body", json.dumps(document))
        if "body" in more:
            more["headers"] = {"Content-Type": "application/json", **more.get("headers", {})}
        more.setdefault("client", self.client)
        answer = self._app(event(method, resource, **more), None)
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        return Answer(answer["statusCode"], headers, answer["body"])


class MariaDb:
    """A MariaDB server as an ordinary process with a folder of its own; TLS is required."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.port = _free_port(address)
        self.ca_file = folder / "ca.pem"
        self.socket = folder / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self, *options: str) -> None:
        """Make the data folder and certificates when there are none, and start.

        Raises RuntimeError when MariaDB is not installed or does not start.
        """
        data = self.folder / "data"
        if not data.exists():
            self._certificates()
            _run("mariadb-install-db", *_user(), f"--datadir={data}",
                 "--auth-root-authentication-method=normal", "--skip-test-db")
        command = [
            _program("mariadbd"), "--no-defaults", *_user(), f"--datadir={data}",
            f"--bind-address={self.address}", f"--port={self.port}", f"--socket={self.socket}",
            f"--pid-file={self.folder / 'pid'}", f"--ssl-ca={self.ca_file}",
            f"--ssl-cert={self.folder / 'server.pem'}", f"--ssl-key={self.folder / 'server.key'}",
            "--require-secure-transport=ON", "--skip-name-resolve", "--skip-log-bin",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=3", *options,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mariadbd does not start:\n{self._log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def root(self, database: str | None = None) -> Any:
        """A connection of the administrator over the Unix socket."""
        return pymysql.connect(
            unix_socket=str(self.socket), user="root", password="", database=database,
            autocommit=True, ssl_disabled=True,
        )

    def query(self, sql: str, *values: Any) -> Any:
        connection = self.root()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return cursor.fetchall()
        finally:
            connection.close()

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _certificates(self) -> None:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        server = authority.issue_cert(self.address, "127.0.0.1", "localhost")
        server.private_key_pem.write_to_path(str(self.folder / "server.key"))
        for index, blob in enumerate(server.cert_chain_pems):
            blob.write_to_path(str(self.folder / "server.pem"), append=index > 0)


@contextlib.contextmanager
def maria_db(*options: str) -> Iterator[MariaDb]:
    """A running server, removed at the end. Its folder's name is short: a socket's path is."""
    with tempfile.TemporaryDirectory(prefix="todo") as folder:
        server = MariaDb(Path(folder))
        try:
            server.start(*options)
            yield server
        finally:
            server.stop()


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise RuntimeError(
            f"{name} is not installed; on Debian and Ubuntu: apt-get install mariadb-server-core"
        )
    return found


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [_program(program), "--no-defaults", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


def _user() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
