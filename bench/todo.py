"""The todo service beside the same work done the naive or the raw way, in the same run.

    python -m bench.todo [--rounds 12] [--rows 200000] [--calls 400]

Cold: AWS's runtime client is started on each package in turn; timed is spawn -> the first list read
from the database is answered, with a sampled trace. The naive app is what one writes first: a
boto3 client, `patch_all`, PyMySQL's default connect. Both fetch the secret over HTTPS and run a
MariaDB that wants TLS; only this service verifies whom it talks to.

Warm, in one process: a create with an Idempotency-Key beside the same five statements by PyMySQL
alone, a read by id beside its SELECT; calls interleaved, medians.

List: 50 out of --rows rows (1000000 for the whole claim) beside 50 out of 1000, from the middle,
with and without a filter.

Downside: warm page cache, everything on one machine: use the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trustme

from bench.cold_start import NEXT, ROOT, RuntimeApi, package
from bench.table import Result, at_most, ratio_at_most, report
from lab.lambda_runtime.runtime_dir import make_runtime_dir

sys.path.append(str(ROOT / "services/todo/testing"))
from todo_mariadb import APPLICATION, TodoServer, todo_server
from todo_testing import ENVIRONMENT, Client, event, load

SIZE_LIMIT = 2.0
"""MB of the deployment package."""
COLD_LIMIT = 0.6
WARM_LIMIT = 2.0
LIST_LIMIT = 1.5
FEW = 1000

NAIVE = """\
import json, os
import boto3, pymysql
from aws_xray_sdk.core import patch_all, xray_recorder
from chalice import Chalice

patch_all()
app = Chalice(app_name="naive")
secrets = boto3.client("secretsmanager")

@app.route("/todos")
def list_todos():
    secret = json.loads(secrets.get_secret_value(SecretId=os.environ["SECRET_ARN"])["SecretString"])
    connection = pymysql.connect(
        host=os.environ["DB_WRITER_HOST"], port=int(os.environ["DB_PORT"]),
        user=secret["username"], password=secret["password"], database=os.environ["DB_NAME"],
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, task, status FROM todo WHERE tenant = 'a' LIMIT 51")
            return [list(row) for row in cursor.fetchall()]
    finally:
        connection.close()
"""


class _Secrets(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        username, password = APPLICATION
        secret = json.dumps({"username": username, "password": password})
        body = json.dumps({"ARN": "a", "Name": "n", "SecretString": secret}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@contextlib.contextmanager
def secrets_manager(folder: Path) -> Iterator[dict[str, str]]:
    """An HTTPS endpoint that knows one secret; the environment that leads a client there."""
    authority = trustme.CA()
    ca_file = folder / "secrets-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Secrets)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"https://127.0.0.1:{server.server_port}",
            "AWS_CA_BUNDLE": str(ca_file),
            "SSL_CERT_FILE": str(ca_file),
        }
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def cold_start(folder: Path, runtime_dir: Path, environment: dict[str, str]) -> float:
    """Seconds from the spawn of the runtime client to the answer of the first list."""
    api = RuntimeApi()
    api._event = json.dumps(event("GET", "/todos")).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(2)
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-S", "-m", "awslambdaric", "app.app"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            env={
                **environment,
                "PATH": os.defpath,
                "PYTHONPATH": str(runtime_dir),
                "LAMBDA_TASK_ROOT": str(folder),
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "AWS_LAMBDA_FUNCTION_NAME": folder.name,
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.getsockname()[1]}",
            },
        )
        try:
            path, body, _ = api.request()
            if path != NEXT:
                raise RuntimeError(f"{folder.name} did not start: {body.decode()}")
            answer = json.loads(api.invoke(sampled=True))
            if answer["statusCode"] != 200:
                raise RuntimeError(f"{folder.name} answered {answer}")
            daemon.recv(65536)  # a time-out here means that nothing was traced
            return api.answered - begun
        finally:
            process.kill()
            process.wait()
            api.close()


def cold(server: TodoServer, scratch: Path, rounds: int) -> list[Result]:
    """The medians of both packages, and the size of ours."""
    runtime_dir = make_runtime_dir(scratch / "runtime")
    ours = package("todo", scratch)
    naive = scratch / "naive"
    naive.mkdir()
    (naive / "app.py").write_text(NAIVE)
    for library in ("chalice", "aws_xray_sdk", "wrapt", "pymysql"):
        shutil.copytree(ours / library, naive / library)
    environment = {
        **ENVIRONMENT,
        "DB_WRITER_HOST": server.address,
        "DB_READER_HOST": server.address,
        "DB_PORT": str(server.port),
        "DB_CA_FILE": str(server.ca_file),
    }
    times: dict[Path, list[float]] = {ours: [], naive: []}
    with secrets_manager(scratch) as where:
        for number in range(rounds + 1):
            for folder, seconds in times.items():
                took = cold_start(folder, runtime_dir, environment | where)
                if number:  # the first round fills the page cache and the bytecode caches
                    seconds.append(took)
    mine, theirs = (statistics.median(times[folder]) for folder in (ours, naive))
    size = (scratch / "todo-source" / "out" / "deployment.zip").stat().st_size
    limit = ratio_at_most(COLD_LIMIT)
    return [
        Result("deployment package", size / 1e6, "MB", target=at_most(SIZE_LIMIT)),
        Result("cold start to the first list", mine * 1000, "ms", "naive", theirs * 1000, limit),
    ]


@contextlib.contextmanager
def logs_discarded() -> Iterator[None]:
    """Request logs are written, as on Lambda, but to nowhere."""
    with open(os.devnull, "w", buffering=1) as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def compare(
    name: str,
    ours: Callable[[], Any],
    peer_name: str,
    peer: Callable[[], Any],
    calls: int,
    limit: float,
) -> Result:
    """Median times of `ours` and of `peer`, called in turn; their ratio is to be below `limit`."""
    times: tuple[list[float], list[float]] = ([], [])
    with logs_discarded():
        for number in range(calls + calls // 10):
            for work, seconds in zip((ours, peer), times, strict=True):
                begun = time.perf_counter()
                work()
                if number >= calls // 10:
                    seconds.append(time.perf_counter() - begun)
    mine, theirs = (statistics.median(t) * 1e6 for t in times)
    return Result(name, mine, "us", peer_name, theirs, ratio_at_most(limit))


def served(server: TodoServer) -> tuple[Client, Any]:
    """The app in this process on the server, and a connection as it makes them."""
    app, repository, operations, service = load(
        "app", "chalicelib.repository", "chalicelib.operations", "chalicelib.service"
    )
    database = server.database()
    app.service = service.TodoService(
        "todo",
        "us-east-1",
        json.loads(ENVIRONMENT["TENANTS"]),
        repository.MySqlRepository(database, "us-east-1"),
        operations.MySqlOperations(database, "us-east-1"),
    )
    return Client(app.app), server.database().connect()


def warm(client: Client, raw: Any, calls: int) -> list[Result]:
    """Creating with a key, and reading by id."""
    model, repository = load("chalicelib.model", "chalicelib.repository")
    numbers = iter(range(10**9))
    new_id = model.uuid7_maker()

    def create() -> str:
        key = {"Idempotency-Key": f"bench-{next(numbers)}"}
        answer = client("POST", "/todos", {"task": "water the plants"}, headers=key)
        assert answer.status == 201, answer
        return str(answer.json["id"])

    with logs_discarded():
        body = client("POST", "/todos", {"task": "water the plants"}).body
    row = json.loads(body)
    moment = row["created_at"][:-1]

    def create_raw() -> None:
        with raw.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(
                "SELECT epoch, active_region, state, updated_at FROM fence WHERE id = 1"
                " LOCK IN SHARE MODE"
            )
            cursor.fetchone()
            key = f"raw-{next(numbers)}"
            cursor.execute(repository._KEEP_ANSWER, ("a", key, "0" * 64, 201, body, moment))
            values = ("a", new_id(), row["task"], "todo", moment, moment, row["revision"], "r", 1)
            cursor.execute(repository._INSERT, values)
            cursor.execute("COMMIT")

    path = {"id": row["id"]}

    def read() -> None:
        assert client("GET", "/todos/{id}", path=path).status == 200

    def read_raw() -> None:
        with raw.cursor() as cursor:
            cursor.execute(repository._SELECT, ("a", row["id"]))
            cursor.fetchone()

    peer = "raw PyMySQL"
    return [
        compare("create with a key", create, peer, create_raw, calls, WARM_LIMIT),
        compare("read by id", read, peer, read_raw, calls, WARM_LIMIT),
    ]


def fill(server: TodoServer, tenant: str, rows: int) -> None:
    """Rows of one tenant with growing ids, a third of each status."""
    server.query(
        "INSERT INTO todo.todo SELECT %s,"
        " LOWER(CONCAT('01932c07-', LPAD(HEX(seq DIV 4096), 4, '0'), '-7',"
        " LPAD(HEX(seq MOD 4096), 3, '0'), '-8000-000000000000')), 'water the plants',"
        " ELT(seq MOD 3 + 1, 'todo', 'wip', 'done'), NOW(6), NOW(6), REPEAT('0', 32),"
        f" 'us-east-1', 1 FROM todo.seq_1_to_{rows}",
        tenant,
    )


def lists(server: TodoServer, client: Client, rows: int, calls: int) -> list[Result]:
    """A list out of `rows` beside one out of FEW."""
    server.query("DELETE FROM todo.todo")
    fill(server, "a", rows)
    fill(server, "b", FEW)
    server.query("ANALYZE TABLE todo.todo")
    validation = load("chalicelib.validation")

    def page(client_id: str, tenant: str, count: int, status: str | None) -> Callable[[], None]:
        middle = f"01932c07-{count // 2 // 4096:04x}-7{count // 2 % 4096:03x}-8000-000000000000"
        query = {"page_size": ["50"]}
        query["page_token"] = [validation.page_token(tenant, status, middle)]
        if status:
            query["status"] = [status]

        def call() -> None:
            answer = client("GET", "/todos", query=query, client=client_id)
            assert len(answer.json["items"]) == 50, answer

        return call

    of_a, of_b = (list(json.loads(ENVIRONMENT["TENANTS"]))[index] for index in (0, 2))
    return [
        compare(
            f"list of 50 out of {rows:,}, {status or 'any status'}",
            page(of_a, "a", rows, status),
            f"out of {FEW:,}",
            page(of_b, "b", FEW, status),
            calls,
            LIST_LIMIT,
        )
        for status in (None, "done")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--calls", type=int, default=400)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, todo_server() as server:
        results = cold(server, Path(scratch), given.rounds)
        client, raw = served(server)
        results += warm(client, raw, given.calls)
        results += lists(server, client, given.rows, given.calls)
        raw.close()
    return report(results)


if __name__ == "__main__":
    sys.exit(main())
