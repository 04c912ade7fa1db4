"""`infra verify` against the lab: what a release is judged by, in both regions."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, RunningLab
from dnslib import RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSServer
from loopback_networks import free_network

pytestmark = pytest.mark.lab

EAST, WEST = "us-east-1", "us-west-2"
SERVICES = ("health", "service1", "service2", "todo")
PORT = 8443


def verify(
    lab: RunningLab, region: str, *options: str, name_server: str = ""
) -> subprocess.CompletedProcess[str]:
    return lab.run(
        str(BIN / "infra"), "verify", region,
        "--name-server", name_server or lab.face["nameserver"],
        "--ca-file", lab.face["ca_file"], "--port", str(PORT), *options,
    )  # fmt: skip


@pytest.mark.parametrize("region", [EAST, WEST])
def test_a_region_that_is_well(lab: RunningLab, region: str) -> None:
    done = verify(lab, region, "--json", "--wait", "20")

    assert done.returncode == 0, done.stdout + done.stderr
    asked = {each["url"]: each for each in json.loads(done.stdout)["asked"]}
    for service in SERVICES:
        own = asked[f"https://{service}.{region}.example.test/"]
        assert (own["status"], own["region"]) == (200, region)
        # Users are in the primary region: its services answer behind both external APIs.
        route = asked[f"https://api.{region}.example.test/{service}/"]
        assert (route["status"], route["region"]) == (200, EAST)
    assert asked[f"https://api.{region}.example.test/"]["status"] == 403
    assert not asked[f"https://health.{region}.example.test/deep"]["required"]
    assert len(asked) == 2 * len(SERVICES) + 2


def test_a_region_that_is_gone_and_what_that_means_for_the_other(
    make_lab: Callable[..., RunningLab],
) -> None:
    lab = make_lab()
    for pid in lab.face["regions"][EAST]["pids"]:
        os.kill(pid, signal.SIGKILL)

    gone = verify(lab, EAST)
    assert gone.returncode == 1, gone.stdout
    for service in (*SERVICES, "api"):
        assert f"  - {service}.{EAST}.example.test/: connection refused" in gone.stdout

    # The standby's own services are well; its external API leads users to the dead region.
    standby = verify(lab, WEST)
    reasons = standby.stdout.partition("is not as it should be:\n")[2].splitlines()
    assert standby.returncode == 1
    assert len(reasons) == len(SERVICES)
    assert all(f"  - api.{WEST}.example.test/" in reason for reason in reasons)

    assert lab.failover("evacuate", EAST, "--allow-data-loss", "--yes").returncode == 0
    after = verify(lab, WEST, "--wait", "20")
    assert after.returncode == 0, after.stdout


def test_a_release_may_change_a_region_only_while_no_user_is_there(lab: RunningLab) -> None:
    assert verify(lab, WEST, "--idle").returncode == 0

    busy = verify(lab, EAST, "--idle")

    assert busy.returncode == 1
    for service in SERVICES:
        assert f"{service}.example.test/: users are served from {EAST}" in busy.stdout


# ---- the wrong region


class WrongRegion(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("X-Region", EAST)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class Diverting(BaseResolver):
    """The lab's name server, but for one name."""

    def __init__(self, upstream: str, name: str, address: str) -> None:
        host, _, port = upstream.partition(":")
        self.upstream, self.name, self.address = (host, int(port)), name, address

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        if str(request.q.qname).rstrip(".") == self.name:
            reply = request.reply()
            reply.add_answer(RR(self.name, rdata=A(self.address), ttl=1))
            return reply
        return DNSRecord.parse(request.send(*self.upstream, timeout=2))


class Quiet:
    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


@contextmanager
def diverted(lab: RunningLab, name: str) -> Iterator[str]:
    """A name server that leads `name` to a server with the lab's own certificate, which answers
    for the other region."""
    address = f"{free_network()}.9.9"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_for(lab.directory, WEST))
    server = ThreadingHTTPServer((address, PORT), WrongRegion)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    resolver = Diverting(lab.face["nameserver"], name, address)
    dns = DNSServer(resolver, address="127.0.0.1", port=0, logger=Quiet())
    dns.start_thread()
    try:
        yield f"127.0.0.1:{dns.server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
        dns.stop()
        dns.server.server_close()


def certificate_for(directory: Path, region: str) -> Path:
    (found,) = [path for path in directory.rglob("*.pem") if region in str(path)]
    return found


def test_a_service_that_answers_from_the_wrong_region(lab: RunningLab) -> None:
    name = f"service1.{WEST}.example.test"
    with diverted(lab, name) as name_server:
        done = verify(lab, WEST, name_server=name_server)

    assert done.returncode == 1, done.stdout
    reasons = done.stdout.partition("is not as it should be:\n")[2].splitlines()
    assert reasons == [f"  - {name}/: answered by {EAST} instead of {WEST}"]
