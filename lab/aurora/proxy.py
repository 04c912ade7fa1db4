"""RDS Proxy of one region: a read/write and a read-only endpoint in front of the region's server.

Each client connection gets one server connection of its own and keeps it; the bytes go through as
they are, so TLS and the login are the server's. The server's certificate carries the proxy's names.
A connection is admitted or refused when it is made:

    read/write   the server takes writes            admitted
                 it is about to (a switchover)      waits, up to the borrow time-out: then 9501
                 it does not                        refused at once, in AWS's words
    read-only    the server answers                 admitted
    either       the server does not answer         waits, up to the borrow time-out: then 9501

A connection that is open when the server is demoted stays open and gets 1290 from the server.

Downside: no multiplexing, no pinning, no limits of its own. AWS's proxy logs the client in first
and refuses at the first statement; here the refusal comes in place of the greeting.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from lab.aurora.splice import Side, join

NO_WRITER = "The target group doesn't have any associated read/write instances"
"""AWS's text (user guide, RDS Proxy with Aurora global databases)."""
NO_READER = "The target group doesn't have any associated read-only instances"
BORROW_TIMED_OUT = "Timed-out waiting to acquire database connection"
"""AWS's text, with number 9501 (user guide, RDS Proxy troubleshooting)."""
ERROR_NO_TARGET = 1105
"""ER_UNKNOWN_ERROR: AWS documents no number for NO_WRITER and NO_READER."""
ERROR_BORROW_TIMED_OUT = 9501
_POLL_SECONDS = 0.01
_RETRY_SECONDS = 0.05


class Verdict(Enum):
    ADMIT = "admit"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Target:
    """The region's server as the proxy sees it now."""

    read_only: bool | None
    """None: not known yet."""
    becomes_writer: bool
    """It takes writes, or is about to."""
    rebuilding: bool
    """Its data is being replaced."""
    instances: int


def judge(writer: bool, target: Target) -> Verdict:
    """What happens to a new connection at the read/write (`writer`) or the read-only endpoint."""
    if writer:
        if target.read_only is False and not target.rebuilding:
            return Verdict.ADMIT
        waits = target.becomes_writer or target.read_only is None
        return Verdict.WAIT if waits else Verdict.REFUSE
    if target.read_only is False and target.instances < 2:
        return Verdict.REFUSE  # the only instance is the writer
    if target.rebuilding or target.read_only is None:
        return Verdict.WAIT
    return Verdict.ADMIT


def error_packet(number: int, text: str, sequence: int = 0) -> bytes:
    """ERR_Packet in place of a greeting: without SQL state, as no capability is agreed on yet."""
    body = b"\xff" + struct.pack("<H", number) + text.encode()
    return struct.pack("<I", len(body))[:3] + bytes([sequence]) + body


class _Refused(Exception):
    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
        super().__init__(text)


class Endpoint:
    """One listener."""

    def __init__(
        self,
        writer: bool,
        server: tuple[str, int],
        target: Callable[[], Target],
        borrow_timeout: float,
    ) -> None:
        self.borrow_timeout = borrow_timeout
        self.counts = {"admitted": 0, "refused": 0, "timed_out": 0}
        self.waiting = 0
        self._writer = writer
        self._address = server
        self._target = target
        self._sides: set[Side] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        return sum(side.peer is not None for side in self._sides) // 2

    async def start(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Client(self), host, port, backlog=512)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.drop()

    def drop(self) -> None:
        """Break every connection."""
        for side in list(self._sides):
            side.abort()

    def forget(self, side: Side) -> None:
        self._sides.discard(side)

    def accepted(self, client: _Client) -> None:
        self._sides.add(client)
        client.admission = asyncio.get_running_loop().create_task(self._admit(client))
        self._tasks.add(client.admission)
        client.admission.add_done_callback(self._tasks.discard)

    async def _admit(self, client: Side) -> None:
        deadline = asyncio.get_running_loop().time() + self.borrow_timeout
        self.waiting += 1
        try:
            server = await self._borrow(deadline)
        except _Refused as refusal:
            client.send(error_packet(refusal.number, refusal.text))
            client.end()
        else:
            self.counts["admitted"] += 1
            join(client, server)
        finally:
            self.waiting -= 1

    async def _borrow(self, deadline: float) -> Side:
        """A connection to the server on which it has sent its greeting."""
        loop = asyncio.get_running_loop()
        while True:
            verdict = judge(self._writer, self._target())
            if verdict is Verdict.REFUSE:
                self.counts["refused"] += 1
                raise _Refused(ERROR_NO_TARGET, NO_WRITER if self._writer else NO_READER)
            pause = _POLL_SECONDS
            if verdict is Verdict.ADMIT:
                server = await self._greeted(deadline)
                if server is not None:
                    return server
                pause = _RETRY_SECONDS
            if loop.time() + pause >= deadline:
                self.counts["timed_out"] += 1
                raise _Refused(ERROR_BORROW_TIMED_OUT, BORROW_TIMED_OUT)
            await asyncio.sleep(pause)

    async def _greeted(self, deadline: float) -> Side | None:
        """None if the server cannot be reached or says nothing until the deadline."""
        server: Side | None = None
        greeted = False
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    _, server = await asyncio.get_running_loop().create_connection(
                        self._side, *self._address
                    )
                    await server.first_data
            greeted = server is not None and server.has_received
        finally:
            if server is not None and not greeted:
                server.abort()
        return server if greeted else None

    def _side(self) -> Side:
        side = Side(self.forget)
        self._sides.add(side)
        return side


class _Client(Side):
    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.forget)
        self._endpoint = endpoint
        self.admission: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._endpoint.accepted(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.admission is not None:
            self.admission.cancel()
        super().connection_lost(exc)
