"""The name server's sockets: UDP and TCP on one address and port, for any event loop.

Downside: no limit on the number of TCP connections but an idle time-out; it serves one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from lab.route53.errors import CannotListen

Answer = Callable[[bytes], bytes | None]

TCP_IDLE_SECONDS = 10.0
"""A connection that sends nothing for this long is closed (RFC 7766 leaves the figure open)."""

_RECEIVE_BUFFER = 4 * 1024 * 1024
_PORT_ATTEMPTS = 20


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._send = transport.sendto

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._answer(data)
        if reply is not None:
            self._send(reply, addr)

    def error_received(self, exc: Exception) -> None:
        # An ICMP error for an earlier answer: that client is gone, nothing is to be done.
        del exc


class NameServer:
    """Listens on one address; `answer_udp` and `answer_tcp` make the answers."""

    def __init__(self, answer_udp: Answer, answer_tcp: Answer) -> None:
        self._answer_udp = answer_udp
        self._answer_tcp = answer_tcp
        self._datagrams: asyncio.DatagramTransport | None = None
        self._streams: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Binds both sockets and returns their address. Port 0 takes any port free for both.

        Raises:
            CannotListen: the address is in use or is not this machine's.
        """
        udp, tcp = _bind(host, port)
        loop = asyncio.get_running_loop()
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._answer_udp), sock=udp
        )
        self._streams = await asyncio.start_server(self._serve, sock=tcp)
        address: tuple[str, int] = udp.getsockname()[:2]
        return address

    async def close(self) -> None:
        """Closes the sockets and all open connections."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._streams is not None:
            self._streams.close()
        connections = tuple(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(
                TimeoutError, asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
            ):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(TCP_IDLE_SECONDS):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = self._answer_tcp(await reader.readexactly(length))
            if reply is None:
                return False
            writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()
        return True


def _bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    attempts = _PORT_ATTEMPTS if port == 0 else 1
    for attempt in range(1, attempts + 1):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        protocol = "UDP"
        try:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            udp.bind((host, port))
            protocol = "TCP"
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, udp.getsockname()[1]))
            # Bound is not enough to know that the port is ours: listening tells.
            tcp.listen(128)
        except OSError as error:
            udp.close()
            tcp.close()
            if attempt == attempts:
                raise CannotListen(
                    f"the name server cannot listen on {host}:{port} ({protocol}): {error.strerror}"
                ) from error
        else:
            udp.setblocking(False)
            tcp.setblocking(False)
            return udp, tcp
    raise AssertionError("unreachable")
