"""`chalice local`, the ordinary way to run these services on a laptop: one process per service.

It imitates one region of one service, without a gateway before it, without TLS, and answers in
process instead of through a runtime client. That is the peer: what one has without the lab.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.labs import ROOT, clean_environment

HOST = "127.0.0.1"
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class LocalServers:
    seconds: float
    """From the start of the first to the first answer of the last."""
    ports: dict[str, int]
    """Of each service."""
    pids: tuple[int, ...]


@contextlib.contextmanager
def chalice_local(services: Sequence[str]) -> Iterator[LocalServers]:
    """These services side by side, as they are in the checkout, stopped at the end."""
    chalice = Path(sys.executable).with_name("chalice")
    options = ("--host", HOST, "--stage", "us-east-1", "--no-autoreload")
    ports = dict(zip(services, _free_ports(len(services)), strict=True))
    started: list[subprocess.Popen[bytes]] = []
    begun = time.perf_counter()
    try:
        for service, port in ports.items():
            started.append(
                subprocess.Popen(
                    [chalice, "local", *options, "--port", str(port)],
                    cwd=ROOT / "services" / service,
                    env=clean_environment() | {"AWS_DEFAULT_REGION": "us-east-1"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        for service, port in ports.items():
            _await_answer(service, port)
        seconds = time.perf_counter() - begun
        yield LocalServers(seconds, ports, tuple(p.pid for p in started))
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def _await_answer(service: str, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.01)
        finally:
            connection.close()
    raise SystemExit(f"chalice local of {service} does not answer")
