"""HTTP/1.1 on asyncio protocols: one small server and one client connection, parsed by httptools.

API Gateway and the Lambda Runtime API share it. It exists beside aiohttp for two reasons: the lab
must be able to cut a connection at any moment and know exactly what had been sent (a network
partition, a stale pooled connection), and a request crosses four of these on its way through two
gateways, so each microsecond here counts four times.

Downside: only what the lab needs. No HTTP/2, no streaming (a body is held whole, so it must have a
limit), no trailers, no upgrade to another protocol.

    ConnectionLost      the peer closed before the whole answer was there
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import cast

import httptools

Headers = list[tuple[bytes, bytes]]
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_SECONDS = 1.0
_MAX_PIPELINED = 16


class ConnectionLost(Exception):
    """The connection closed before the answer was complete; `answered`: bytes of it had come."""

    def __init__(self, answered: bool) -> None:
        self.answered = answered
        super().__init__("closed in the middle of an answer" if answered else "closed unanswered")


def encode_response(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, without_body: bool = False
) -> bytes:
    """The bytes of an answer. Content-Length is added; `without_body` is for HEAD."""
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    parts.extend(b"%b: %b\r\n" % header for header in headers)
    if status >= 200 and status != 204:
        parts.append(b"Content-Length: %d\r\n" % len(body))
    parts.append(b"\r\n")
    if not without_body and status not in (204, 304):
        parts.append(body)
    return b"".join(parts)


class Request:
    """One whole request as it came in; answer it once with `respond`."""

    __slots__ = ("_connection", "_parts", "body", "headers", "method", "peer", "target")

    def __init__(self, connection: _ServerConnection, peer: str) -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        self.peer = peer
        self.method = ""
        self.target = b""
        self.headers: Headers = []
        self.body = b""

    def respond(self, response: bytes) -> None:
        """Send the bytes of a whole answer. Does nothing when the client has gone."""
        self._connection.answer(self, response)

    @property
    def is_connected(self) -> bool:
        return self._connection.is_open


class HttpServer:
    """A listener whose connections are all known, so that they can be drained or cut.

    `handler` is called with each whole request and answers at any later time. `refuse` makes the
    answer to a request that is not handed on: 400 malformed, 413 body, 431 head too large.
    """

    def __init__(
        self,
        handler: Callable[[Request], None],
        *,
        refuse: Callable[[int], bytes] = lambda status: encode_response(status, (), b""),
        max_head_bytes: int = 2**20,
        max_body_bytes: int = 2**24,
        idle_seconds: float = 75.0,
    ) -> None:
        self.handler = handler
        self.refuse = refuse
        self.max_head_bytes = max_head_bytes
        self.max_body_bytes = max_body_bytes
        self.connections: set[_ServerConnection] = set()
        self.draining = False
        self._emptied = asyncio.Event()
        self._idle_seconds = idle_seconds
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, ssl_context: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port (of use when 0 was asked for). Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        self.draining = False
        self._server = await loop.create_server(
            lambda: _ServerConnection(self, loop),
            host,
            port,
            ssl=ssl_context,
            backlog=1024,
        )
        self._sweep(loop)
        return int(self._server.sockets[0].getsockname()[1])

    def abort(self) -> None:
        """Stop listening and cut every connection now, whatever it was doing."""
        self._stop_listening()
        for connection in tuple(self.connections):
            connection.abort()

    async def close(self, grace: float = 0.0) -> None:
        """Stop listening, let requests in flight end for up to `grace` seconds, cut the rest."""
        self.draining = True
        self._stop_listening()
        for connection in tuple(self.connections):
            connection.close_when_idle()
        if self.connections and grace > 0:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), grace)
        self.abort()

    def forget(self, connection: _ServerConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def _stop_listening(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._server is not None:
            self._server.close()
            self._server = None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        limit = loop.time() - self._idle_seconds
        for connection in tuple(self.connections):
            if connection.idle_since < limit:
                connection.close_when_idle()
        self._sweeper = loop.call_later(min(5.0, self._idle_seconds), self._sweep, loop)


class _ServerConnection(asyncio.Protocol):
    """One client's connection. Requests sent ahead of their turn wait, answers keep their order."""

    __slots__ = (
        "_busy", "_close_after", "_head_bytes", "_loop", "_parser", "_peer", "_reading",
        "_refused", "_server", "_size", "_transport", "_waiting", "idle_since",
    )  # fmt: skip

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._reading = Request(self, "")
        self._head_bytes = 0
        self._size = 0
        self._busy: Request | None = None
        self._waiting: deque[Request] = deque()
        self._close_after = False
        self._refused = False
        self.idle_since = loop.time()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        peer = self._transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self._server.connections.add(self)
        if self._server.draining:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._server.forget(self)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._close_after = True
        except httptools.HttpParserError:
            self._refuse(400)

    # --- what the parser calls

    def on_message_begin(self) -> None:
        self._reading = Request(self, self._peer)
        self._head_bytes = self._size = 0

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        self._reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        self._reading.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._reading.method = self._parser.get_method().decode("ascii")
        if self._head_bytes > self._server.max_head_bytes:
            self._refuse(431)
            return
        for name, value in self._reading.headers:
            lowered = name.lower()
            if lowered == b"content-length" and int(value) > self._server.max_body_bytes:
                self._refuse(413)
            elif lowered == b"expect" and value.lower() == b"100-continue":
                self._send_continue()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._server.max_body_bytes:
            self._refuse(413)
        else:
            self._reading._parts.append(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        request = self._reading
        parts = request._parts
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        if not self._parser.should_keep_alive():
            self._close_after = True
        if self._busy is not None:
            self._waiting.append(request)
            if len(self._waiting) >= _MAX_PIPELINED and self._transport is not None:
                self._transport.pause_reading()
            return
        self._start(request)

    # --- what the server and its requests call

    def answer(self, request: Request, response: bytes) -> None:
        if request is not self._busy or self._transport is None:
            return
        self._busy = None
        self.idle_since = self._loop.time()
        self._transport.write(response)
        if self._waiting:
            if len(self._waiting) == _MAX_PIPELINED:
                self._transport.resume_reading()
            self._start(self._waiting.popleft())
        elif self._close_after or self._server.draining:
            self._transport.close()

    def close_when_idle(self) -> None:
        self._close_after = self._close_after or self._busy is not None
        if self._busy is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _start(self, request: Request) -> None:
        self._busy = request
        self.idle_since = float("inf")
        self._server.handler(request)

    def _send_continue(self) -> None:
        if not self._refused and self._transport is not None and self._busy is None:
            self._transport.write(_CONTINUE)

    def _refuse(self, status: int) -> None:
        """Answer once; drop what still comes in, so that the client gets to see the answer."""
        if self._refused or self._transport is None:
            return
        self._refused = True
        self._transport.write(self._server.refuse(status))
        self._loop.call_later(_LINGER_SECONDS, self.abort)


class Response:
    """An answer as it came in."""

    __slots__ = ("body", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.body = b""


class ClientConnection(asyncio.Protocol):
    """One connection to a server; one request at a time."""

    __slots__ = (
        "_answered", "_is_head", "_max_body_bytes", "_parser", "_parts", "_response", "_size",
        "_transport", "_waiter", "address", "born", "idle_since", "keep_alive",
    )  # fmt: skip

    def __init__(self, address: str, born: float, max_body_bytes: int = 2**24) -> None:
        self.address = address
        self.born = born
        self.idle_since = born
        self.keep_alive = True
        self._max_body_bytes = max_body_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._response = Response()
        self._parts: list[bytes] = []
        self._size = 0
        self._is_head = False
        self._answered = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes, *, is_head: bool = False) -> Response:
        """Send the bytes of a whole request and wait for the whole answer.

        Raises ConnectionLost. When cancelled, the connection is cut: it can not be used again.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionLost(answered=False)
        self._is_head = is_head
        self._answered = False
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = None

    def close(self) -> None:
        self.keep_alive = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self.keep_alive = False
        if self._transport is not None:
            self._transport.abort()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()  # an answer that nobody asked for: the framing can not be trusted
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self.keep_alive = False
        if self._waiter is None or self._waiter.done():
            return
        if self._response.status >= 200 and self._is_delimited_by_close():
            self._finish()
        else:
            self._waiter.set_exception(ConnectionLost(self._answered))

    # --- what the parser calls

    def on_message_begin(self) -> None:
        self._response = Response()
        self._parts = []
        self._size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._response.status = self._parser.get_status_code()
        self.keep_alive = self._parser.should_keep_alive()
        if self._is_head and self._response.status >= 200:
            # The parser would wait for the body that Content-Length speaks of.
            self._finish()
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_body_bytes:
            self.abort()
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._response.status >= 200:
            self._finish()

    def _finish(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._response.body = b"".join(self._parts)
            self._waiter.set_result(self._response)
        self._response = Response()  # whoever waited may change the one that was handed over
        self._parts = []

    def _is_delimited_by_close(self) -> bool:
        framing = (b"content-length", b"transfer-encoding")
        return not any(name.lower() in framing for name, _ in self._response.headers)
