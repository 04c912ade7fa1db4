"""The name server over real sockets: dnspython and `dig` ask it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
import uvloop

from lab.model import Deployment, Resource
from lab.route53 import CannotListen, Route53
from lab.settings import PROFILES

HOST = "127.0.0.1"
REGIONS = {"us-east-1": "127.0.1.10", "us-west-2": "127.0.2.10"}
TARGETS = {f"d-1.execute-api.{r}.amazonaws.com": (address, r) for r, address in REGIONS.items()}


def resource(kind: str, ident: str, **properties: Any) -> Resource:
    return Resource("s", "us-east-1", ident, f"AWS::Route53::{kind}", ident, properties, {})


def deployment() -> Deployment:
    resources = [resource("HostedZone", "Z1", Name="example.test")]
    for region, side in zip(REGIONS, ("PRIMARY", "SECONDARY"), strict=True):
        config = {"Type": "RECOVERY_CONTROL", "RoutingControlArn": region}
        alias = {"DNSName": f"d-1.execute-api.{region}.amazonaws.com", "HostedZoneId": "ZAPI"}
        resources.append(resource("HealthCheck", region, HealthCheckConfig=config))
        resources += [
            resource(
                "RecordSet",
                f"record-{region}-{kind}",
                HostedZoneId="Z1",
                Name="service1.example.test",
                Type=kind,
                SetIdentifier=region,
                Failover=side,
                HealthCheckId=region,
                AliasTarget={**alias, "EvaluateTargetHealth": True},
            )
            for kind in ("A", "AAAA")
        ]
    resources.append(
        resource(
            "RecordSet",
            "big",
            HostedZoneId="Z1",
            Name="big.example.test",
            Type="TXT",
            TTL=60,
            ResourceRecords=[f'"{i:03}{"x" * 240}"' for i in range(20)],
        )
    )
    return Deployment(tuple(resources), {})


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Route53]:
    route53 = Route53(deployment(), PROFILES["aws"], TARGETS, rng=random.Random(1))
    await route53.start(HOST, 0)
    try:
        route53.set_routing_control("us-east-1", True)
        yield route53
    finally:
        await route53.close()


async def udp(route53: Route53, name: str, kind: str = "A", **options: Any) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    host, port = route53.address
    return await asyncio.to_thread(dns.query.udp, query, host, timeout=5, port=port)


async def move_and_look() -> None:
    async with running() as route53:
        for _ in range(2):
            reply = await udp(route53, "service1.example.test")
            assert str(reply.answer[0][0]) == "127.0.1.10"
        route53.set_routing_control("us-west-2", True)
        route53.set_routing_control("us-east-1", False)
        reply = await udp(route53, "service1.example.test")
        assert (str(reply.answer[0][0]), reply.answer[0].ttl) == ("127.0.2.10", 60)
        query = dns.message.make_query("service1.example.test", "A")
        host, port = route53.address
        reply = await asyncio.to_thread(dns.query.tcp, query, host, timeout=5, port=port)
        assert str(reply.answer[0][0]) == "127.0.2.10"
        assert route53.status()["answers_given"] == 4


@pytest.mark.semantics(38, 53)
async def test_a_switch_moves_the_answer() -> None:
    """No other process exists: the last known positions are all that DNS needs."""
    await move_and_look()


def test_the_same_under_uvloop() -> None:
    uvloop.run(move_and_look())


async def test_the_ipv6_address_moves_like_the_other_and_can_be_connected_to() -> None:
    """A socket of AF_INET6 reaches what listens on the IPv4 loopback address."""
    greeting = {address: address.encode() for address in REGIONS.values()}
    async with contextlib.AsyncExitStack() as stack:
        route53 = await stack.enter_async_context(running())
        port = 0
        for address in greeting:

            async def greet(
                _: asyncio.StreamReader, writer: asyncio.StreamWriter, own: str = address
            ) -> None:
                writer.write(greeting[own])
                writer.close()

            server = await asyncio.start_server(greet, address, port)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]

        async def reached() -> str:
            reply = await udp(route53, "service1.example.test", "AAAA")
            (value,) = reply.answer[0]
            reader, writer = await asyncio.open_connection(str(value), port, family=socket.AF_INET6)
            text = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert str(value) == f"::ffff:{text.decode()}"
            return text.decode()

        assert await reached() == "127.0.1.10"
        route53.set_routing_control("us-west-2", True)
        route53.set_routing_control("us-east-1", False)
        assert await reached() == "127.0.2.10"


async def test_long_answers_come_by_tcp() -> None:
    async with running() as route53:
        reply = await udp(route53, "big.example.test", "TXT", use_edns=0, payload=1232)
        assert reply.flags & dns.flags.TC
        query = dns.message.make_query("big.example.test", "TXT")
        host, port = route53.address
        reply, by_tcp = await asyncio.to_thread(
            dns.query.udp_with_fallback, query, host, timeout=5, port=port
        )
        assert by_tcp
        assert len(reply.answer[0]) == 20


async def test_many_queries_on_one_tcp_connection() -> None:
    async with running() as route53:
        reader, writer = await asyncio.open_connection(*route53.address)
        query = dns.message.make_query("service1.example.test", "A").to_wire()
        writer.write((struct.pack("!H", len(query)) + query) * 3)
        for _ in range(3):
            async with asyncio.timeout(5):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                reply = dns.message.from_wire(await reader.readexactly(length))
            assert str(reply.answer[0][0]) == "127.0.1.10"
        writer.close()
        await writer.wait_closed()


async def test_rubbish_is_survived() -> None:
    async with running() as route53:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(route53.address)
            for packet in (b"", b"\0", b"\xff" * 600, random.Random(1).randbytes(400)):
                sock.send(packet)
        for rubbish in (b"\0", b"\0\0", b"\xff\xffabc", b"\0\x0c" + b"\0" * 12):
            _, writer = await asyncio.open_connection(*route53.address)
            writer.write(rubbish)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await udp(route53, "service1.example.test")).rcode() == dns.rcode.NOERROR
        assert (await udp(route53, "example.org")).rcode() == dns.rcode.REFUSED


async def test_closing_ends_open_connections() -> None:
    async with running() as route53:
        reader, writer = await asyncio.open_connection(*route53.address)
        query = dns.message.make_query("service1.example.test", "A").to_wire()
        writer.write(struct.pack("!H", len(query)) + query)
        await asyncio.wait_for(reader.readexactly(2), 5)
        address = route53.address
        await asyncio.wait_for(route53.close(), 5)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection(*address)


async def test_an_address_that_cannot_be_had() -> None:
    async with running() as route53:
        second = Route53(deployment(), PROFILES["fast"], TARGETS)
        with pytest.raises(CannotListen, match=r"127\.0\.0\.1:\d+ \(UDP\): Address already in use"):
            await second.start(*route53.address)
    with socket.socket() as tcp:
        tcp.bind((HOST, 0))
        tcp.listen()
        with pytest.raises(CannotListen, match=r"\(TCP\)"):
            await second.start(*tcp.getsockname())
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0"):
        await second.start("192.0.2.1", 0)


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed")
@pytest.mark.parametrize(("kind", "address"), [("A", "127.0.1.10"), ("AAAA", "::ffff:127.0.1.10")])
@pytest.mark.parametrize("options", [[], ["+tcp"], ["+noedns"], ["+norecurse", "+dnssec"]])
async def test_dig(options: list[str], kind: str, address: str) -> None:
    async with running() as route53:
        host, port = route53.address
        process = await asyncio.create_subprocess_exec(
            *("dig", f"@{host}", "-p", str(port), "+tries=1", "+time=5", *options),
            "service1.example.test",
            kind,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 15)
    text = output.decode()
    assert "status: NOERROR" in text
    assert "flags: qr aa" in text
    assert ["service1.example.test.", "60", "IN", kind, address] in [
        line.split() for line in text.splitlines()
    ]
