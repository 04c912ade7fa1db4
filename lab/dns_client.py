"""A stub resolver: asks one name server for A records over UDP and keeps answers for their TTL.

It stands for the resolver that API Gateway has inside. AWS documents nothing about that one, so
the cache is a knob: `cache_cap` limits how long an answer is kept, None means as long as its TTL
says, 0 means not at all. Several look-ups of one name at the same time share one query.

Downside: one name server, IPv4 only, no search list, no DNSSEC; and a cached answer is not used
beyond its time when the name server is down (no "serve stale").

    ResolutionError
    ├── NameNotFound         NXDOMAIN
    ├── NoAddress            the name exists and has no address (or an endless CNAME chain)
    ├── ServerFailure        SERVFAIL, REFUSED or another error code
    └── ResolutionTimeout    no answer, or the name server is down
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from dnslib import CLASS, QTYPE, RCODE, DNSError, DNSRecord

_MAX_ALIASES = 8
_ID_SPACE = 2**16


class ResolutionError(Exception):
    """The name has no usable address; `name` is the one that was asked for."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name}: {reason}")


class NameNotFound(ResolutionError):
    pass


class NoAddress(ResolutionError):
    pass


class ServerFailure(ResolutionError):
    pass


class ResolutionTimeout(ResolutionError):
    pass


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query was answered with."""

    addresses: tuple[str, ...]
    ttl: int
    """Seconds; the smallest of the chain."""
    alias: str | None = None
    """Where a CNAME leads that the answer does not follow to an address."""


def read_answer(name: str, record: DNSRecord) -> Answer:
    """The addresses in an answer message, following CNAMEs inside it. Raises ResolutionError."""
    code = record.header.rcode
    if code == RCODE.NXDOMAIN:
        raise NameNotFound(name, "there is no such name")
    if code != RCODE.NOERROR:
        raise ServerFailure(name, f"the name server answered {RCODE.get(code)}")
    target = name
    ttl = 2**31 - 1
    for _ in range(_MAX_ALIASES):
        own = [r for r in record.rr if str(r.rname).rstrip(".").lower() == target]
        addresses = [r for r in own if r.rtype == QTYPE.A]
        if addresses:
            ttl = min(ttl, *(r.ttl for r in addresses))
            return Answer(tuple(str(r.rdata) for r in addresses), ttl)
        aliases = [r for r in own if r.rtype == QTYPE.CNAME]
        if not aliases:
            break
        ttl = min(ttl, aliases[0].ttl)
        target = str(aliases[0].rdata).rstrip(".").lower()
    if target == name:
        raise NoAddress(name, "the name has no address")
    return Answer((), ttl, target)


class Resolver:
    """Asks `server` (host, port). `timeout` seconds for each of `attempts`; `cache_cap` and
    `negative_cap` (for "no such name") in seconds; `clock` is monotonic."""

    def __init__(
        self,
        server: tuple[str, int],
        *,
        cache_cap: float | None = None,
        negative_cap: float = 1.0,
        timeout: float = 1.0,
        attempts: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self.cache_cap = cache_cap
        self._negative_cap = negative_cap
        self._timeout = timeout
        self._attempts = attempts
        self._clock = clock
        self._cache: dict[str, tuple[float, tuple[str, ...] | ResolutionError]] = {}
        self._asking: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._socket: _UdpSocket | None = None
        self._queries = 0
        self._hits = 0

    async def resolve(self, name: str) -> tuple[str, ...]:
        """The IPv4 addresses of `name`, in the order of the answer. Raises ResolutionError."""
        cached = self._cache.get(name)
        if cached is not None and self._clock() < cached[0]:
            self._hits += 1
            if isinstance(cached[1], ResolutionError):
                raise cached[1].with_traceback(None)
            return cached[1]
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._look_up(name))
            self._asking[name] = task
            task.add_done_callback(lambda done: self._asked(name, done))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    def status(self) -> dict[str, Any]:
        now = self._clock()
        return {
            "queries": self._queries,
            "hits": self._hits,
            "cache": {
                name: list(found)
                for name, (until, found) in self._cache.items()
                if until > now and not isinstance(found, ResolutionError)
            },
        }

    async def close(self) -> None:
        for task in tuple(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _asked(self, name: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        self._asking.pop(name, None)
        if not task.cancelled():
            task.exception()  # seen: whoever waited has got it

    async def _look_up(self, name: str) -> tuple[str, ...]:
        try:
            addresses, ttl = await self._follow(name.rstrip(".").lower())
        except (NameNotFound, NoAddress) as error:
            self._keep(name, error, self._negative_cap)
            raise
        self._keep(name, addresses, ttl)
        return addresses

    def _keep(self, name: str, found: tuple[str, ...] | ResolutionError, ttl: float) -> None:
        seconds = ttl if self.cache_cap is None else min(ttl, self.cache_cap)
        if seconds > 0:
            self._cache[name] = (self._clock() + seconds, found)

    async def _follow(self, name: str) -> tuple[tuple[str, ...], int]:
        target, ttl = name, 2**31 - 1
        for _ in range(_MAX_ALIASES):
            answer = read_answer(target, await self._ask(target))
            ttl = min(ttl, answer.ttl)
            if answer.alias is None:
                return answer.addresses, ttl
            target = answer.alias
        raise NoAddress(name, "its CNAME chain is too long")

    async def _ask(self, name: str) -> DNSRecord:
        for _ in range(self._attempts):
            self._queries += 1
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._ask_once(name)
            except (TimeoutError, OSError, DNSError):
                continue
        raise ResolutionTimeout(name, f"no answer from {self._server[0]}:{self._server[1]}")

    async def _ask_once(self, name: str) -> DNSRecord:
        if self._socket is None or self._socket.is_closed:
            self._socket = await _UdpSocket.open(self._server)
        record = await self._socket.ask(name)
        if record.header.tc:
            return await _ask_over_tcp(self._server, name)
        return record


class _UdpSocket(asyncio.DatagramProtocol):
    """A socket connected to the name server; answers find their question by the message id."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[int, tuple[str, asyncio.Future[DNSRecord]]] = {}

    @classmethod
    async def open(cls, server: tuple[str, int]) -> _UdpSocket:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(cls, remote_addr=server)
        return protocol

    @property
    def is_closed(self) -> bool:
        return self._transport is None

    async def ask(self, name: str) -> DNSRecord:
        assert self._transport is not None
        number = secrets.randbelow(_ID_SPACE)
        while number in self._waiting:
            number = (number + 1) % _ID_SPACE
        future: asyncio.Future[DNSRecord] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (name, future)
        try:
            self._transport.sendto(_question(name, number))
            return await future
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop: by shape

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.error_received(exc or ConnectionResetError("the socket closed"))

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        del addr  # the socket is connected: it is the name server's
        try:
            record = DNSRecord.parse(data)
        except DNSError:
            return
        name, future = self._waiting.get(record.header.id, ("", None))
        if future is not None and not future.done() and _is_answer_to(record, name):
            future.set_result(record)

    def error_received(self, exc: Exception) -> None:
        """ICMP "port unreachable": the name server is down. Fail now, the caller asks again."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(exc)


def _question(name: str, number: int) -> bytes:
    question = DNSRecord.question(name, "A")
    question.header.id = number
    return bytes(question.pack())


def _is_answer_to(record: DNSRecord, name: str) -> bool:
    if record.header.tc and not record.questions:
        return True  # some servers cut that much away; it is asked again over TCP anyway
    question = record.q
    return (
        record.header.qr == 1
        and question is not None
        and str(question.qname).rstrip(".").lower() == name
        and question.qtype == QTYPE.A
        and question.qclass == CLASS.IN
    )


async def _ask_over_tcp(server: tuple[str, int], name: str) -> DNSRecord:
    """For an answer that did not fit into a datagram. The caller bounds the time."""
    reader, writer = await asyncio.open_connection(*server)
    try:
        number = secrets.randbelow(_ID_SPACE)
        question = _question(name, number)
        writer.write(len(question).to_bytes(2, "big") + question)
        size = int.from_bytes(await reader.readexactly(2), "big")
        record = DNSRecord.parse(await reader.readexactly(size))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the name server closed the connection") from error
    finally:
        writer.close()
    if record.header.id != number or not _is_answer_to(record, name):
        raise DNSError("an answer to another question")
    return record
