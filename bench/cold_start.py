"""Cold start and warm overhead of service1, against a bare handler, plain Chalice, eager X-Ray.

    python -m bench.cold_start [--rounds 15] [--without-bytecode]

Cold: AWS's runtime client is started on each subject in turn, and what is timed is spawn -> first
GET /next (the init phase) and spawn -> first answer posted (with a sampled trace, so that work put
off until the first request counts). Serial runs, subjects interleaved, medians.
Warm: further requests to the same process, and the application called in process.

service1 is packaged by `chalice package` and run unzipped, with `-S` and only the Lambda runtime's
own libraries beside it. Python caches bytecode beside the code by default; on Lambda /var/task is
read-only and a package has none, so there every start compiles: `--without-bytecode` shows that,
for information and without the limits. Exit code 1 when a limit is missed.

Downside: warm page cache, and two processes on one machine: use the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.table import Result, ratio_at_most, report
from lab.lambda_runtime.runtime_dir import make_runtime_dir

ROOT = Path(__file__).resolve().parents[1]
COLD_LIMIT = 1.8
WARM_LIMIT = 1.3
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled="
FUNCTION_ARN = "arn:aws:lambda:us-east-1:111122223333:function:bench"
NEXT = "/2018-06-01/runtime/invocation/next"

BARE = """\
def app(event, context):
    return {"statusCode": 200, "headers": {}, "body": '{"service":"bare"}'}
"""
PLAIN = """\
from chalice import Chalice
app = Chalice(app_name="plain")
@app.route("/")
def root():
    return {"service": "plain", "region": "us-east-1"}
"""
EAGER = """\
from aws_xray_sdk.core import patch_all, xray_recorder
patch_all()
from chalice import Chalice
app = Chalice(app_name="eager")
@app.middleware("http")
def traced(event, get_response):
    with xray_recorder.in_subsegment("eager"):
        return get_response(event)
@app.route("/")
def root():
    return {"service": "eager", "region": "us-east-1"}
"""


@dataclass
class Subject:
    name: str
    folder: Path
    traces: bool
    to_next: list[float] = field(default_factory=list)
    to_answer: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    warm_sampled: list[float] = field(default_factory=list)


def gateway_event(path: str = "/", method: str = "GET") -> dict[str, object]:
    """A REST API proxy event as small as the runtime accepts."""
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": {"Host": "service1.example.test"},
        "multiValueHeaders": {"Host": ["service1.example.test"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"resourcePath": path, "httpMethod": method, "stage": "api"},
        "body": None,
        "isBase64Encoded": False,
    }


class RuntimeApi:
    """The two calls of the Runtime API that a healthy function makes, over one plain socket."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._connection: socket.socket | None = None
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._event = json.dumps(gateway_event()).encode()
        self.begun = 0.0
        self.to_next = 0.0
        self.answered = 0.0

    def request(self) -> tuple[str, bytes, float]:
        """The next request of the client: its path, its body and when it was complete."""
        if self._connection is None:
            self._connection, _ = self._listener.accept()
            self._connection.settimeout(20)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            body += self._receive()
        path = lines[0].split(" ")[1]
        if "chunked" in headers.get("transfer-encoding", ""):
            while not body.endswith(b"0\r\n\r\n"):
                body += self._receive()
        return path, body, time.perf_counter()

    def _receive(self) -> bytes:
        assert self._connection is not None
        data = self._connection.recv(65536)
        if not data:
            raise ConnectionError("the runtime client closed its connection")
        return data

    def _answer(self, status: str, headers: str, body: bytes) -> None:
        assert self._connection is not None
        head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self._connection.sendall(head.encode() + body)

    def invoke(self, sampled: bool) -> bytes:
        """Answers the pending GET /next with one event and takes the function's answer."""
        deadline = int((time.time() + 10) * 1000)
        self._answer(
            "200 OK",
            "Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {FUNCTION_ARN}\r\n"
            f"Lambda-Runtime-Trace-Id: {TRACE}{int(sampled)}\r\n"
            "Content-Type: application/json\r\n",
            self._event,
        )
        path, body, self.answered = self.request()
        if not path.endswith("/response"):
            raise RuntimeError(f"the function failed: {path} {body.decode()}")
        self._answer("202 Accepted", "", b"")
        return body

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._listener.close()


@contextmanager
def started(
    subject: Subject, runtime_dir: Path, daemon: str, bytecode: bool
) -> Iterator[RuntimeApi]:
    """The runtime client on one subject, up to its first GET /next."""
    api = RuntimeApi()
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(runtime_dir),
        "LAMBDA_TASK_ROOT": str(subject.folder),
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": subject.name,
        "AWS_REGION": "us-east-1",
        "AWS_XRAY_DAEMON_ADDRESS": daemon,
        "LOG_LEVEL": "INFO",
    }
    if not bytecode:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "awslambdaric", "app.app"],
        cwd=subject.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        path, body, at = api.request()
        if path != NEXT:
            raise RuntimeError(f"{subject.name} did not start: {body.decode()}")
        api.begun, api.to_next = begun, at - begun
        yield api
    finally:
        process.kill()
        process.wait()
        api.close()


def run_once(subject: Subject, runtime_dir: Path, bytecode: bool, warm: int) -> None:
    """One cold start, then `warm` further requests of each kind."""
    daemon = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    daemon.bind(("127.0.0.1", 0))
    daemon.settimeout(2)
    address = f"127.0.0.1:{daemon.getsockname()[1]}"
    with daemon, started(subject, runtime_dir, address, bytecode) as api:
        answer = json.loads(api.invoke(sampled=True))
        to_answer = api.answered - api.begun
        if answer["statusCode"] != 200:
            raise RuntimeError(f"{subject.name} answered {answer}")
        if subject.traces:
            daemon.recv(65536)  # a time-out here means that no subsegment was sent
        subject.to_next.append(api.to_next)
        subject.to_answer.append(to_answer)
        for sampled, times in ((False, subject.warm), (True, subject.warm_sampled)):
            for _ in range(warm):
                api.request()
                begun = time.perf_counter()
                api.invoke(sampled)
                times.append(api.answered - begun)


def in_process(folder: Path, calls: int) -> float:
    """Median seconds of app(event, context) in a process of its own, not traced."""
    program = (
        "import sys, json, time, os, statistics\n"
        "sys.path.insert(0, '.')\n"
        "from app import app\n"
        "event = json.loads(sys.argv[1]); times = []\n"
        "class Context: aws_request_id = 'x'\n"
        "sys.stdout = open(os.devnull, 'w', buffering=1)\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    begun = time.perf_counter()\n"
        "    app(event, Context)\n"
        "    times.append(time.perf_counter() - begun)\n"
        "sys.stderr.write(str(statistics.median(times)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, json.dumps(gateway_event()), str(calls)],
        cwd=folder,
        env={"PATH": os.defpath, "AWS_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return float(done.stderr)


def package(service: str, scratch: Path) -> Path:
    """The unzipped deployment package of a service, made by `chalice package`."""
    source = scratch / f"{service}-source"
    ignore = shutil.ignore_patterns("__pycache__", "deployments", "deployed")
    shutil.copytree(ROOT / "services" / service, source, ignore=ignore)
    environment = os.environ | {"AWS_DEFAULT_REGION": "us-east-1", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        [Path(sys.executable).with_name("chalice"), "package", "--stage", "us-east-1", "out"],
        cwd=source,
        env=environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    folder = scratch / service
    with zipfile.ZipFile(source / "out" / "deployment.zip") as archive:
        archive.extractall(folder)
    return folder


def subjects(scratch: Path) -> list[Subject]:
    service1 = package("service1", scratch)
    made = []
    for name, text, libraries in (
        ("bare", BARE, ()),
        ("plain-chalice", PLAIN, ("chalice",)),
        ("eager-xray", EAGER, ("chalice", "aws_xray_sdk", "wrapt")),
    ):
        folder = scratch / name
        folder.mkdir()
        (folder / "app.py").write_text(text)
        for library in libraries:
            shutil.copytree(service1 / library, folder / library)
        made.append(Subject(name, folder, traces="xray" in name))
    return [*made, Subject("service1", service1, traces=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm", type=int, default=100)
    parser.add_argument("--without-bytecode", action="store_true")
    given = parser.parse_args()
    bytecode = not given.without_bytecode
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        runtime_dir = make_runtime_dir(scratch / "runtime")
        all_subjects = subjects(scratch)
        for round_number in range(given.rounds + 1):
            for subject in all_subjects:
                run_once(subject, runtime_dir, bytecode, given.warm)
                if round_number == 0:  # fills the page cache and the bytecode caches
                    for times in (subject.to_next, subject.to_answer, subject.warm):
                        times.clear()
        direct = {s.name: in_process(s.folder, 5000) for s in all_subjects if s.name in _DIRECT}
    return _conclude(all_subjects, direct, bytecode)


_DIRECT = ("plain-chalice", "service1")


def _conclude(all_subjects: list[Subject], direct: dict[str, float], bytecode: bool) -> int:
    middle: Callable[[list[float]], float] = statistics.median
    bare = middle(all_subjects[0].to_answer)
    print("subject          spawn->/next  spawn->answer  x bare   warm us  warm sampled us")
    for s in all_subjects:
        print(
            f"{s.name:15} {middle(s.to_next) * 1000:10.1f} ms {middle(s.to_answer) * 1000:11.1f} ms"
            f" {middle(s.to_answer) / bare:7.2f} {middle(s.warm) * 1e6:9.0f}"
            f" {middle(s.warm_sampled) * 1e6:16.0f}"
        )
    by_name = {s.name: s for s in all_subjects}
    cold = {n: middle(s.to_answer) * 1000 for n, s in by_name.items()}
    warm = {n: middle(s.warm) * 1e6 for n, s in by_name.items()}
    name, plain = "service1", "plain-chalice"
    limits = (ratio_at_most(COLD_LIMIT), ratio_at_most(WARM_LIMIT)) if bytecode else (None, None)
    return report(
        [
            Result("cold start of service1", cold[name], "ms", "bare", cold["bare"], limits[0]),
            Result("warm service1", warm[name], "us", plain, warm[plain], limits[1]),
            Result("warm, in process", direct[name] * 1e6, "us", plain, direct[plain] * 1e6),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
