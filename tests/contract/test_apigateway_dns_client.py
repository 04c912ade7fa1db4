"""The stub resolver against a name server that does what it is told, over UDP and TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from dnslib import CNAME, RCODE, RR, A, DNSRecord
from loopback_networks import free_network

from lab.dns_client import NameNotFound, ResolutionTimeout, Resolver, ServerFailure

ADDRESS = f"{free_network()}.0.1"
Reply = Callable[[DNSRecord], list[DNSRecord]]


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class NameServer(asyncio.DatagramProtocol):
    """Sends what `reply` makes of a question: no, one or several datagrams."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.asked_over_tcp = 0
        self.reply: Reply = lambda question: [answer(question, "127.0.1.10")]
        self.tcp_reply: Callable[[DNSRecord], bytes] = lambda question: answer(
            question, *(f"127.0.1.{n}" for n in range(10, 60))
        ).pack()
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        question = DNSRecord.parse(data)
        self.asked.append(str(question.q.qname).rstrip("."))
        assert self._transport is not None
        for message in self.reply(question):
            self._transport.sendto(message.pack(), addr)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked_over_tcp += 1
        size = int.from_bytes(await reader.readexactly(2), "big")
        message = self.tcp_reply(DNSRecord.parse(await reader.readexactly(size)))
        writer.write(len(message).to_bytes(2, "big") + message)
        writer.close()


def answer(question: DNSRecord, *addresses: str, ttl: int = 60) -> DNSRecord:
    reply = question.reply()
    for address in addresses:
        reply.add_answer(RR(question.q.qname, rdata=A(address), ttl=ttl))
    return reply


def failure(question: DNSRecord, code: int) -> DNSRecord:
    reply = question.reply()
    reply.header.rcode = code
    return reply


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[NameServer, Resolver, Clock]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=(ADDRESS, 0))
    server.port = transport.get_extra_info("sockname")[1]
    tcp = await asyncio.start_server(server.serve_tcp, ADDRESS, server.port)
    clock = Clock()
    resolver = Resolver((ADDRESS, server.port), clock=clock, **{"timeout": 0.2, **options})
    try:
        yield server, resolver, clock
    finally:
        await resolver.close()
        transport.close()
        tcp.close()
        await tcp.wait_closed()


@pytest.mark.semantics(58)
async def test_answer_is_kept_for_its_ttl() -> None:
    async with serving() as (server, resolver, clock):
        assert await resolver.resolve("s.example.test") == ("127.0.1.10",)
        server.reply = lambda question: [answer(question, "127.0.2.10")]
        clock.now += 59.9
        assert await resolver.resolve("s.example.test") == ("127.0.1.10",)
        clock.now += 0.1
        assert await resolver.resolve("s.example.test") == ("127.0.2.10",)
        assert len(server.asked) == 2
        assert resolver.status()["cache"] == {"s.example.test": ["127.0.2.10"]}


@pytest.mark.semantics(58)
@pytest.mark.parametrize(("cap", "queries"), [(0, 3), (5, 2), (None, 1)])
async def test_cache_cap_is_a_knob(cap: float | None, queries: int) -> None:
    async with serving(cache_cap=cap) as (server, resolver, clock):
        await resolver.resolve("s.example.test")
        await resolver.resolve("s.example.test")
        clock.now += 6
        await resolver.resolve("s.example.test")
        assert len(server.asked) == queries


async def test_one_query_for_all_who_ask_at_once() -> None:
    async with serving() as (server, resolver, _):
        answers = await asyncio.gather(*(resolver.resolve("s.example.test") for _ in range(50)))
        assert set(answers) == {("127.0.1.10",)}
        assert len(server.asked) == 1


async def test_impatient_caller_does_not_spoil_it_for_others() -> None:
    async with serving() as (_, resolver, _):
        first = asyncio.create_task(resolver.resolve("s.example.test"))
        second = asyncio.create_task(resolver.resolve("s.example.test"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ("127.0.1.10",)


async def test_alias_to_another_name_is_asked_for() -> None:
    def reply(question: DNSRecord) -> list[DNSRecord]:
        if str(question.q.qname) != "s.example.test.":
            return [answer(question, "127.0.1.10")]
        alias = question.reply()
        alias.add_answer(RR(question.q.qname, rtype=5, rdata=CNAME("t.example.test"), ttl=7))
        return [alias]

    async with serving() as (server, resolver, clock):
        server.reply = reply
        assert await resolver.resolve("s.example.test") == ("127.0.1.10",)
        clock.now += 7
        await resolver.resolve("s.example.test")
        assert server.asked == ["s.example.test", "t.example.test"] * 2


async def test_truncated_answer_is_asked_for_over_tcp() -> None:
    async with serving() as (server, resolver, _):
        server.reply = lambda question: [answer(question).truncate()]
        assert len(await resolver.resolve("s.example.test")) == 50
        assert server.asked_over_tcp == 1


async def test_lost_datagram_is_sent_again() -> None:
    async with serving() as (server, resolver, _):
        server.reply = lambda question: [answer(question, "127.0.1.10")][: len(server.asked) - 1]
        assert await resolver.resolve("s.example.test") == ("127.0.1.10",)
        assert len(server.asked) == 2


async def test_answers_to_other_questions_are_ignored() -> None:
    def reply(question: DNSRecord) -> list[DNSRecord]:
        wrong_id = answer(question, "127.6.6.6")
        wrong_id.header.id = (question.header.id + 1) % 2**16
        wrong_name = answer(DNSRecord.question("other.test"), "127.6.6.6")
        wrong_name.header.id = question.header.id
        return [wrong_id, wrong_name, answer(question, "127.0.1.10")]

    async with serving() as (server, resolver, _):
        server.reply = reply
        assert await resolver.resolve("s.example.test") == ("127.0.1.10",)


async def test_silence_ends_in_a_timeout_and_is_not_remembered() -> None:
    async with serving(timeout=0.05) as (server, resolver, _):
        server.reply = lambda question: []
        with pytest.raises(ResolutionTimeout):
            await resolver.resolve("s.example.test")
        assert len(server.asked) == 2
        server.reply = lambda question: [answer(question, "127.0.1.10")]
        assert await resolver.resolve("s.example.test") == ("127.0.1.10",)


async def test_no_name_server_at_all() -> None:
    resolver = Resolver((ADDRESS, 9), timeout=0.5)
    with pytest.raises(ResolutionTimeout):
        await resolver.resolve("s.example.test")
    await resolver.close()


async def test_no_such_name_is_kept_for_a_moment_and_a_failure_is_not() -> None:
    async with serving() as (server, resolver, clock):
        server.reply = lambda question: [failure(question, RCODE.NXDOMAIN)]
        for _ in range(3):
            with pytest.raises(NameNotFound):
                await resolver.resolve("s.example.test")
        assert len(server.asked) == 1
        clock.now += 1
        server.reply = lambda question: [failure(question, RCODE.SERVFAIL)]
        for _ in range(2):
            with pytest.raises(ServerFailure):
                await resolver.resolve("s.example.test")
        assert len(server.asked) == 3
