"""`infra verify` over real sockets: DNS, TLS, and servers that answer what they are told."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from dnslib import RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSServer

from infra.cli import main

DOMAIN, WEST = "example.test", "us-west-2"
NO_SUCH_PATH = {"x-amzn-ErrorType": "MissingAuthenticationTokenException"}


@dataclass
class World:
    """One region's services behind one port, and a name server."""

    folder: Path
    port: int = 0
    name_server: str = ""
    answers: dict[tuple[str, str], tuple[int, dict[str, str], str]] = field(default_factory=dict)
    """Host and path -> what is answered; everything else is well."""
    unknown: set[str] = field(default_factory=set)
    """Names that DNS does not know."""
    asked: list[str] = field(default_factory=list)

    def answer(self, host: str, path: str) -> tuple[int, dict[str, str], str]:
        if (host, path) in self.answers:
            return self.answers[host, path]
        if host.startswith("api.") and path == "/":
            return 403, NO_SUCH_PATH, '{"message": "Missing Authentication Token"}'
        return 200, {"X-Region": WEST}, '{"status": "ok"}'

    def pinned(self, service: str) -> str:
        return f"{service}.{WEST}.{DOMAIN}"

    def verify(self, *words: str) -> int:
        return main(
            ["--topology", str(self.folder / "topology.toml"), "verify", WEST,
             "--name-server", self.name_server, "--ca-file", str(self.folder / "ca.pem"),
             "--port", str(self.port), *words]
        )  # fmt: skip


def handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["Host"].partition(":")[0]
            world.asked.append(f"{host}{self.path}")
            status, headers, body = world.answer(host, self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


class TlsServer(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread, so that a bad one holds up nobody."""

    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self.context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)
        except OSError:
            pass


class Names(BaseResolver):
    def __init__(self, world: World) -> None:
        self.world = world

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        reply = request.reply()
        name = str(request.q.qname).rstrip(".")
        if name in self.world.unknown:
            reply.header.rcode = 3
        else:
            reply.add_answer(RR(name, rdata=A("127.0.0.1"), ttl=1))
        return reply


class Quiet:
    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    for service in ("health", "a"):
        (tmp_path / "services" / service).mkdir(parents=True)
        (tmp_path / "services" / service / "app.py").touch()
    (tmp_path / "topology.toml").write_text(
        f'domain = "{DOMAIN}"\nregions = ["us-east-1", "{WEST}"]\n[services.health]\n[services.a]\n'
    )
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(f"*.{WEST}.{DOMAIN}").configure_cert(context)
    server = TlsServer(("127.0.0.1", 0), handler(world))
    server.context = context
    world.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    dns = DNSServer(Names(world), address="127.0.0.1", port=0, logger=Quiet())
    world.name_server = f"127.0.0.1:{dns.server.server_address[1]}"
    dns.start_thread()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        dns.stop()
        dns.server.server_close()
        thread.join(5)


Capture = pytest.CaptureFixture[str]


def test_a_region_that_is_well(world: World, capsys: Capture) -> None:
    assert world.verify() == 0

    assert capsys.readouterr().out.endswith("us-west-2: all 5 answer as they should\n")
    assert sorted(world.asked) == sorted(
        f"{world.pinned(host)}{path}"
        for host, path in (
            ("health", "/"), ("health", "/deep"), ("a", "/"),
            ("api", "/"), ("api", "/health/"), ("api", "/a/"),
        )
    )  # fmt: skip


def test_a_service_that_answers_from_the_wrong_region(world: World, capsys: Capture) -> None:
    world.answers[world.pinned("a"), "/"] = (200, {"X-Region": "us-east-1"}, "{}")

    assert world.verify() == 1
    assert f"  - {world.pinned('a')}/: answered by us-east-1 instead" in capsys.readouterr().out


def test_all_reasons_come_at_once_and_deep_is_no_reason(world: World, capsys: Capture) -> None:
    world.answers |= {
        (world.pinned("a"), "/"): (500, {"X-Region": WEST}, "{}"),
        (world.pinned("api"), "/"): (403, {"x-amzn-ErrorType": "ForbiddenException"}, "{}"),
        (world.pinned("api"), "/a/"): (504, {}, "{}"),
        (world.pinned("health"), "/deep"): (503, {"X-Region": WEST}, '{"detail": "1 of 1"}'),
    }

    assert world.verify("--json") == 1

    document = json.loads(capsys.readouterr().out)
    wrong = {each["url"]: each["faults"] for each in document["asked"] if each["faults"]}
    assert {url.partition(DOMAIN)[2] for url in wrong} == {"/", "/a/"}
    assert len(wrong) == 3
    (deep,) = [each for each in document["asked"] if not each["required"]]
    assert (deep["status"], deep["detail"], deep["faults"]) == (503, "status 503: 1 of 1", [])


def test_a_name_that_dns_does_not_know_is_a_fault_and_a_route_to_one_is_not(
    world: World, capsys: Capture
) -> None:
    """Records come last: the route of a new service leads nowhere until a whole deployment."""
    world.unknown = {f"a.{DOMAIN}"}
    assert world.verify() == 0
    assert f"a.{DOMAIN} does not exist yet" in capsys.readouterr().out

    world.unknown = {world.pinned("a")}
    assert world.verify() == 1
    assert f"{world.pinned('a')}/: DNS has no address of" in capsys.readouterr().out


def test_a_certificate_of_another_authority_is_not_accepted(
    world: World, capsys: Capture
) -> None:
    trustme.CA().cert_pem.write_to_path(str(world.folder / "ca.pem"))

    assert world.verify() == 1

    out = capsys.readouterr().out
    assert out.count("certificate not accepted: unable to get local issuer certificate") >= 5
    assert world.asked == []


@pytest.mark.parametrize("backlog", [True, False])
def test_nobody_there_and_somebody_who_says_nothing(
    world: World, capsys: Capture, backlog: bool
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if backlog:
            silent.listen()
        world.port = silent.getsockname()[1]

        assert world.verify("--timeout", "0.2") == 1

    reason = "no answer in time" if backlog else "connection refused"
    assert f"{world.pinned('a')}/: {reason}" in capsys.readouterr().out


def test_a_name_server_that_is_not_there(world: World, capsys: Capture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    world.name_server = f"127.0.0.1:{port}"

    assert world.verify() == 1
    assert f"127.0.0.1:{port} does not tell the address of" in capsys.readouterr().out
