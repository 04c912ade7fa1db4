"""An HTTP client for Locust's FastHttpUser that lets go when DNS says so.

An ordinary client resolves a name when it opens a connection and then keeps the connection for as
long as it is busy, so a failover by DNS stays invisible to it. Here every request first asks the
process's `Resolver` (a dictionary look-up while the answer is fresh). A kept connection is used
again only if its address is still in the answer, it is younger than the maximum age and the server
has not closed it; otherwise a new one is opened. What was opened and why connections were given up
is counted.

It hooks in below FastHttpUser: `TtlClientPool` is handed over as `client_pool`; geventhttpclient's
parser and Locust's session stay as they are, so tasks are written as for any FastHttpUser.

A request is repeated once, on a new connection, only if the server closed a *kept* connection
before the first byte of the answer and the method is idempotent (RFC 9110, section 9.2.2): that is
the ordinary race between keep-alive and closing. It is counted as `repeated`. On a new connection
nothing is repeated: geventhttpclient's own client repeats there too and so hides failures. A
request with a precondition (`If-Match`) is never repeated here: if the first one was applied, the
second one is refused, and only the caller knows what that means.

Downsides: no HTTP proxy, no streaming of request bodies, no HTTP/2. A request that is under way
when the answer changes stays on its connection. Time-outs bound each wait for the network, not the
request as a whole: a server that sends a byte now and then can make a request last long.
"""

from __future__ import annotations

import errno
import random
import select
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gevent.ssl
from gevent import monkey, socket
from geventhttpclient.client import IDEMPOTENT_METHODS, HTTPClient, HTTPClientPool
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPSocketPoolResponse
from geventhttpclient.url import URL

from loadtest.resolver import Resolver

_poll = monkey.get_original("select", "poll")
# gevent's own poll makes a watcher per call; a poll that does not wait needs none.
_ANYTHING = select.POLLIN | select.POLLERR | select.POLLHUP
_NO_WAIT = 0
_AGE_SPREAD = 0.1
HEAD_CACHE_SIZE = 64
PRECONDITION = "If-Match"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds."""

    connect: float = 3.0
    """For the TCP connection and again for each step of the TLS handshake."""
    read: float = 10.0
    """For each wait for data. Above the 29 s of API Gateway only the gateway would give up."""
    connection_age: float = 30.0
    """A connection that is older is not used for another request; 0: one request each."""


@dataclass(slots=True)
class _Connection:
    """What is known about an open socket."""

    address: str
    retire_at: float
    """On the monotonic clock."""
    used: bool = False


class TtlConnectionPool(ConnectionPool):
    """The sockets of one user to one host.

    `connections` counts why sockets were given up (`answer_changed`, `too_old`,
    `closed_by_server`, `broken`), `failed:<address>` for addresses that could not be connected
    to, and `repeated` requests. `sockets` counts the sockets opened, by address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        resolver: Resolver,
        limits: Limits,
        ssl_context: gevent.ssl.SSLContext | None,
        sockets: Counter[str],
        connections: Counter[str],
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(host, port, host, port)
        self._host = host
        self._port = port
        self._resolver = resolver
        self._limits = limits
        self._ssl_context = ssl_context
        self._sockets = sockets
        self._connections = connections
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._idle: list[socket.socket] = []
        self._known: dict[socket.socket, _Connection] = {}

    def get_socket(self) -> socket.socket:
        """A connected socket that may be used now. Raises `ResolveError` and OSError."""
        addresses = self._resolver.addresses(self._host)
        while self._idle:
            sock = self._idle.pop()
            reason = self._reason_to_close(sock, addresses)
            if reason is None:
                return sock
            self._drop(sock, reason)
        return self._open(addresses)

    def was_used(self, sock: socket.socket) -> bool:
        """True when the socket has carried an answer before."""
        return self._known[sock].used

    def return_socket(self, sock: socket.socket) -> None:
        """The answer was read to its end; the connection may carry another request."""
        if self._closed:
            self._drop(sock, "")
            return
        self._known[sock].used = True
        self._idle.append(sock)

    def release_socket(self, sock: socket.socket) -> None:
        """The connection is of no more use."""
        self._drop(sock, "broken")

    def repeated(self) -> None:
        """Counts a request that is sent once more on a new connection."""
        self._connections["repeated"] += 1

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop(), "")

    def _reason_to_close(self, sock: socket.socket, addresses: tuple[str, ...]) -> str | None:
        connection = self._known[sock]
        if connection.address not in addresses:
            return "answer_changed"
        if self._clock() >= connection.retire_at:
            return "too_old"
        poll = _poll()
        try:
            poll.register(sock.fileno(), _ANYTHING)
        except ValueError:
            return "closed_by_server"
        # An idle connection has nothing to read: it is either the end or a stray answer.
        return "closed_by_server" if poll.poll(_NO_WAIT) else None

    def _drop(self, sock: socket.socket, reason: str) -> None:
        self._known.pop(sock, None)
        if reason:
            self._connections[reason] += 1
        sock.close()

    def _open(self, addresses: tuple[str, ...]) -> socket.socket:
        """Tries the addresses in an order that differs from user to user, as clients do."""
        start = self._rng.randrange(len(addresses))
        error: OSError | None = None
        for address in addresses[start:] + addresses[:start]:
            try:
                sock = self._connect(address)
            except OSError as failure:
                self._connections[f"failed:{address}"] += 1
                error = failure
                continue
            self._sockets[address] += 1
            age = self._limits.connection_age * (1 - _AGE_SPREAD * self._rng.random())
            self._known[sock] = _Connection(address, self._clock() + age)
            return sock
        assert error is not None
        raise error

    def _connect(self, address: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._limits.connect)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((address, self._port))
            if self._ssl_context is not None:
                sock = self._ssl_context.wrap_socket(sock, server_hostname=self._host)
            sock.settimeout(self._limits.read)
        except BaseException:  # also when Locust kills the user in the middle: no socket leaks
            sock.close()
            raise
        return sock


class TtlClient(HTTPClient):
    """geventhttpclient's client for one host, with the pool above and honest repeating."""

    def __init__(self, url: URL, pool: TtlConnectionPool) -> None:
        super().__init__(url.host, port=url.port)
        self._connection_pool = self._pool = pool
        self._heads: dict[tuple[object, ...], bytes] = {}

    def request(
        self,
        method: str,
        request_uri: str,
        body: Any = b"",
        headers: Any = None,
    ) -> HTTPSocketPoolResponse:
        """Sends one request and reads the head of the answer.

        `body` is bytes or text, `headers` a mapping. Raises `ResolveError`, OSError and
        geventhttpclient's HTTPParseError.
        """
        payload = body.encode("utf-8") if isinstance(body, str) else bytes(body or b"")
        verb = method.upper()
        message = self._head(verb, request_uri, payload, headers or {}) + payload
        pool = self._pool
        while True:
            sock = pool.get_socket()
            may_repeat = (
                pool.was_used(sock)
                and verb in IDEMPOTENT_METHODS
                and PRECONDITION not in (headers or {})
            )
            try:
                return self._exchange(sock, message, verb)
            except (HTTPConnectionClosed, OSError) as error:
                if not may_repeat or not _closed_by_peer(error):
                    raise
                pool.repeated()

    def _exchange(self, sock: socket.socket, message: bytes, method: str) -> HTTPSocketPoolResponse:
        pool = self._pool
        try:
            sock.sendall(message)
        except BaseException:
            pool.release_socket(sock)
            raise
        # From here on the response gives the socket back, in success and in failure.
        response = HTTPSocketPoolResponse(
            sock,
            pool,
            block_size=self.block_size,
            method=method,
            headers_type=self.headers_type,
        )
        response._sent_request = message.decode("latin-1")
        return response

    def _head(self, method: str, uri: str, payload: bytes, headers: Mapping[str, str]) -> bytes:
        """The request's head. Users repeat themselves, so the last few are kept."""
        key = (method, uri, len(payload), *headers.items())
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= HEAD_CACHE_SIZE:
                self._heads.clear()
            text: str = self._build_request(method, uri, payload, headers, chunked=False)
            head = self._heads[key] = text.encode("latin-1")
        return head


class TtlClientPool(HTTPClientPool):
    """What FastHttpUser takes as `client_pool`: one `TtlClient` per host and port."""

    def __init__(self, make_pool: Callable[[str, int, bool], TtlConnectionPool]) -> None:
        super().__init__()
        self._make_pool = make_pool

    def get_client(self, url: str | URL) -> TtlClient:
        target = url if isinstance(url, URL) else URL(url)
        key = (target.host, target.port)
        client = self.clients.get(key)
        if not isinstance(client, TtlClient):
            is_https = target.scheme == "https"
            port = target.port or (443 if is_https else 80)
            client = TtlClient(target, self._make_pool(target.host, port, is_https))
            self.clients[key] = client
        return client


def tls_context(ca_file: str) -> gevent.ssl.SSLContext:
    """Verifies certificate and host name, against `ca_file` or, when empty, the system's CAs."""
    return gevent.ssl.create_default_context(cafile=ca_file or None)


def failure_reason(error: BaseException) -> str:
    """A short name for why a request failed, the same for all that fail alike."""
    original = getattr(error, "original", None)
    if isinstance(original, BaseException):
        # Locust's session wraps time-outs: what is inside says more.
        error = original
    status = getattr(error, "code", 0)
    return f"HTTP {status}" if status else type(error).__name__


def _closed_by_peer(error: Exception) -> bool:
    if isinstance(error, HTTPConnectionClosed | ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return True
    return isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
