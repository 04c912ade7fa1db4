"""Health checkers against real endpoints: single probes, and what their results do to DNS."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trustme
import uvloop

from lab.model import Deployment, Resource
from lab.route53 import Route53
from lab.route53.health import HealthCheck
from lab.route53.probes import Result, probe
from lab.route53.reading import read_check
from lab.settings import Profile

HOST = "127.0.0.1"
Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def endpoint(
    handler: Handler, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on a free port that hands each request to the handler; (port, requests)."""
    requests: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(
                asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
            ):
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                await handler(requests[-1], writer)
                await writer.drain()
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], requests
    finally:
        server.close()
        waiting = tuple(tasks)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def answering(status: int, body: bytes = b"ok") -> Handler:
    async def handler(_: bytes, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nLocation: /other\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    return handler


def sending(*pieces: bytes, then_hang: bool = False) -> Handler:
    async def handler(_: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if then_hang:
            await asyncio.Event().wait()

    return handler


def http(kind: str = "HTTP", **config: Any) -> HealthCheck:
    return read_check("h", {"Type": kind, "IPAddress": HOST, **config})


async def try_probe(
    handler: Handler,
    check: HealthCheck | None = None,
    scale: float = 1.0,
    tls: ssl.SSLContext | None = None,
) -> Result:
    async with endpoint(handler, tls) as (port, _):
        return await asyncio.wait_for(probe(check or http(), HOST, port, scale), 20)


@pytest.mark.semantics(46)
@pytest.mark.parametrize(
    ("status", "passed"),
    [(200, True), (204, True), (301, True), (308, True), (399, True), (400, False), (503, False)],
)
async def test_status(status: int, passed: bool) -> None:
    async with endpoint(answering(status)) as (port, requests):
        result = await probe(http(ResourcePath="deep?x=1"), HOST, port, 1.0)
    assert (result.passed, result.saw) == (passed, f"HTTP status {status}")
    assert len(requests) == 1, "a redirect is not followed"
    assert requests[0].startswith(b"GET /deep?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n")


@pytest.mark.semantics(46)
async def test_status_must_come_within_two_seconds() -> None:
    for handler in (sending(then_hang=True), sending(b"HTTP/1.1 2", then_hang=True)):
        start = time.monotonic()
        result = await try_probe(handler, scale=0.1)
        assert (result.passed, result.saw) == (False, "connected, but no answer in time")
        assert 0.18 <= time.monotonic() - start < 2


@pytest.mark.semantics(46)
async def test_connection_must_come_within_four_seconds() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((HOST, 0))
        full.listen(0)
        # Fill the queue of a listener that never accepts: further connections hang.
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        for check, limit in ((http(), 0.2), (http("TCP", Port=port), 0.5)):
            start = time.monotonic()
            result = await probe(check, HOST, port, 0.05)
            assert not result.passed
            assert f"within {limit:g} s" in result.saw
            assert limit * 0.9 <= time.monotonic() - start < limit + 2


@pytest.mark.semantics(46)
@pytest.mark.parametrize(
    ("before", "passed"), [(0, True), (5120 - 6, True), (5120 - 5, False), (6000, False)]
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_string_in_the_first_5120_bytes(before: int, passed: bool, chunked: bool) -> None:
    body = b"." * before + b"needle" + b"." * 3000
    if chunked:
        pieces = [body[i : i + 999] for i in range(0, len(body), 999)]
        encoded = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        handler = sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", encoded)
    else:
        handler = answering(200, body)
    result = await try_probe(handler, http("HTTP_STR_MATCH", SearchString="needle"))
    assert result.passed is passed


@pytest.mark.semantics(46)
async def test_body_only_matters_to_a_string_match() -> None:
    slow = sending(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nneed", then_hang=True)
    assert (await try_probe(slow, http(), 0.1)).passed
    match = http("HTTP_STR_MATCH", SearchString="needle")
    assert (await try_probe(slow, match, 0.1)).saw == "connected, but no answer in time"
    assert not (await try_probe(answering(500, b"needle"), match)).passed
    until_closed = sending(b"HTTP/1.1 200 OK\r\n\r\nno such thing")
    assert (await try_probe(until_closed, match)).saw == "HTTP status 200, string not found"


@pytest.mark.semantics(46)
@pytest.mark.parametrize(
    "handler",
    [sending(), sending(b"rubbish\r\n\r\n"), sending(b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n")],
)
async def test_no_http_answer(handler: Handler) -> None:
    assert not (await try_probe(handler)).passed


async def test_tcp_check() -> None:
    async with endpoint(answering(500)) as (port, _):
        assert (await probe(http("TCP", Port=port), HOST, port, 1.0)).passed
    refused = await probe(http("TCP", Port=port), HOST, port, 1.0)
    assert not refused.passed
    assert "refused" in refused.saw.lower()


async def test_addresses_outside_this_machine_are_not_connected_to() -> None:
    result = await probe(http(), "192.0.2.1", 80, 1.0)
    assert (result.passed, result.saw) == (False, "192.0.2.1 is outside this machine")


@pytest.mark.semantics(46)
@pytest.mark.parametrize(
    ("enable_sni", "name"),
    [(True, "app.example.test"), (False, None), ("true", "app.example.test")],
)
async def test_tls_without_validation(enable_sni: Any, name: str | None) -> None:
    """An untrusted certificate for another name is no fault; the name is sent unless SNI is off."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("other.example.org").configure_cert(tls)
    seen: list[str | None] = []
    tls.sni_callback = lambda _, server_name, __: seen.append(server_name)
    check = http("HTTPS", FullyQualifiedDomainName="app.example.test", EnableSNI=enable_sni)
    result = await try_probe(answering(200), check, tls=tls)
    assert result == Result(True, "HTTP status 200")
    assert seen == [name]
    assert not (await try_probe(sending(), check, 0.1)).passed, "no TLS on the other side"


def test_the_same_under_uvloop() -> None:
    uvloop.run(test_tls_without_validation(True, "app.example.test"))
    uvloop.run(test_connection_must_come_within_four_seconds())
    uvloop.run(test_tcp_check())


def resource(kind: str, ident: str, **properties: Any) -> Resource:
    return Resource("s", "us-east-1", ident, f"AWS::Route53::{kind}", ident, properties, {})


def deployment(**checks: dict[str, Any]) -> Deployment:
    """A failover pair whose primary follows the check `primary`, and its endpoint's own name."""
    base = {"HostedZoneId": "Z1", "Type": "A", "TTL": 1}
    app = {**base, "Name": "app.example.test"}
    return Deployment(
        (
            resource("HostedZone", "Z1", Name="example.test"),
            resource("RecordSet", "e", **base, Name="east.example.test", ResourceRecords=[HOST]),
            resource(
                "RecordSet",
                "t",
                HostedZoneId="Z1",
                Type="TXT",
                TTL=1,
                Name="text.example.test",
                ResourceRecords=['"x"'],
            ),
            resource(
                "RecordSet",
                "p",
                **app,
                ResourceRecords=["127.0.1.10"],
                SetIdentifier="p",
                Failover="PRIMARY",
                HealthCheckId="primary",
            ),
            resource(
                "RecordSet",
                "s",
                **app,
                ResourceRecords=["127.0.2.10"],
                SetIdentifier="s",
                Failover="SECONDARY",
            ),
            *(resource("HealthCheck", ident, HealthCheckConfig=c) for ident, c in checks.items()),
        ),
        {},
    )


def profile(scale: float) -> Profile:
    return Profile("test", 1, 0.0, 0.0, scale, 300, 0.0, 0.0)


class Watched:
    """A running Route 53 whose events can be waited for."""

    def __init__(self, described: Deployment, scale: float, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._new = asyncio.Event()
        self.route53 = Route53(
            described, profile(scale), {}, rng=random.Random(1), on_event=self._on_event, **options
        )

    def _on_event(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._new.set()

    async def __aenter__(self) -> Watched:
        await self.route53.start(HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.route53.close()

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """Waits at most 15 s for the next event with these members; drops those before it."""
        async with asyncio.timeout(15):
            while True:
                while self.events:
                    event = self.events.pop(0)
                    if wanted.items() <= event.items():
                        return event
                self._new.clear()
                await self._new.wait()

    def check(self, ident: str) -> dict[str, Any]:
        (found,) = (c for c in self.route53.status()["checks"] if c["id"] == ident)
        return found

    def answer(self) -> list[str]:
        (found,) = (n for n in self.route53.status()["names"] if n["name"] == "app.example.test")
        return found["answers"][0]["values"]


@pytest.mark.semantics(46, 47)
async def test_failing_endpoint_moves_the_answer_and_recovery_moves_it_back() -> None:
    status = [200]

    async def handler(request: bytes, writer: asyncio.StreamWriter) -> None:
        await answering(status[0])(request, writer)

    async with endpoint(handler) as (port, requests):
        described = deployment(
            primary={"Type": "CALCULATED", "ChildHealthChecks": ["http"], "HealthThreshold": 1},
            http={
                "Type": "HTTP",
                "FullyQualifiedDomainName": "east.example.test",
                "RequestInterval": 10,
                "FailureThreshold": 2,
            },
        )
        async with Watched(described, 0.04, port_map={80: port}) as watched:
            assert watched.check("http")["healthy"], "healthy before there is data"
            status[0] = 500
            changed = await watched.until(health_check="http", healthy=False)
            assert "HTTP status 500" in changed["reason"]
            assert (await watched.until(health_check="primary"))["reason"] == "health check http"
            moved = await watched.until(kind="answer_changed")
            assert (moved["name"], moved["type"]) == ("app.example.test", "A")
            assert watched.answer() == ["127.0.2.10"]
            checkers = watched.check("http")["checkers"]
            assert len(checkers) == 8
            assert sum(c["healthy"] for c in checkers) <= 1, "1 of 8 is not more than 18 %"
            assert all(c["probes"] >= 1 for c in checkers)
            status[0] = 302
            await watched.until(health_check="http", healthy=True)
            assert watched.answer() == ["127.0.1.10"]
    assert b"\r\nHost: east.example.test\r\n" in requests[0]


@pytest.mark.semantics(47)
async def test_inverted_check_and_number_of_checkers() -> None:
    config = {"Type": "TCP", "IPAddress": HOST, "RequestInterval": 10, "FailureThreshold": 1}
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        described = deployment(
            primary={**config, "Port": closed.getsockname()[1], "Inverted": True}
        )
        async with Watched(described, 0.02, max_checkers=1) as watched:
            assert watched.check("primary")["healthy"] is False
            assert watched.answer() == ["127.0.2.10"]
            await watched.until(health_check="primary", healthy=True)
            assert watched.answer() == ["127.0.1.10"]
            assert len(watched.check("primary")["checkers"]) == 1


@pytest.mark.parametrize("name", ["gone.example.test", "text.example.test"])
async def test_name_without_address(name: str) -> None:
    config = {"Type": "HTTP", "RequestInterval": 10, "FailureThreshold": 1}
    described = deployment(primary={**config, "FullyQualifiedDomainName": name})
    async with Watched(described, 0.02, max_checkers=1) as watched:
        changed = await watched.until(health_check="primary", healthy=False)
        assert changed["reason"] == "us-east-1: DNS resolution failed"


@pytest.mark.semantics(37)
async def test_disabled_check_is_not_probed() -> None:
    async with endpoint(answering(500)) as (port, requests):
        config = {"Type": "HTTP", "IPAddress": HOST, "RequestInterval": 10, "FailureThreshold": 1}
        described = deployment(
            primary={**config, "Port": port, "Disabled": True}, other={**config, "Port": port}
        )
        async with Watched(described, 0.02) as watched:
            await watched.until(health_check="other", healthy=False)
            assert watched.check("primary")["healthy"] is True
            assert watched.check("primary")["checkers"] == []
        seen = len(watched.check("other")["checkers"])
    assert len(requests) >= 7
    assert seen == 8
