"""Connections from the gateway to HTTP integrations: address, TLS, keep-alive and what a DNS change
does to them.

AWS documents neither how long API Gateway keeps an address nor how long it keeps a connection, so
both are knobs (`ConnectionKnobs`, and `Resolver.cache_cap`). Mode "follow": before each request
the name is resolved (from the cache while the TTL lasts), and an idle connection to an address
that is no longer in the answer is closed instead of used. Mode "sticky": an idle live connection
is used whatever DNS says, until it closes or is too old.

A request in flight always ends on the connection it began on. A request is sent again only when
that is safe: it was idempotent, went out on a kept connection, and that connection closed without
a byte of an answer (RFC 9110, 9.2.2).

Downside: no limit on the number of connections, and no TLS session resumption.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lab.http1 import ClientConnection, ConnectionLost, Response

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))
_SWEEP_SECONDS = 5.0


class NameResolver(Protocol):
    """What the pool needs of a resolver, e.g. `lab.dns_client.Resolver`."""

    async def resolve(self, name: str) -> tuple[str, ...]: ...

    def status(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class ConnectionKnobs:
    """All in seconds."""

    mode: Literal["follow", "sticky"] = "follow"
    idle_seconds: float = 60.0
    """A connection idle for so long is closed. Keep it below the far side's own limit."""
    max_age_seconds: float | None = 300.0
    """A connection older than this is not used again; None for no limit."""


@dataclass(slots=True)
class _Endpoint:
    """One (host, port) and its idle connections, the one used last at the end."""

    host: str
    port: int
    idle: list[ClientConnection] = field(default_factory=list)
    addresses: tuple[str, ...] = ()


class ConnectionPool:
    """All connections of one gateway. `client_ssl` verifies the endpoints' certificates;
    `port_map`: port in an integration's address -> port in the lab."""

    def __init__(
        self,
        resolver: NameResolver,
        client_ssl: ssl.SSLContext,
        knobs: ConnectionKnobs,
        port_map: Mapping[int, int],
        on_event: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.knobs = knobs
        self._resolver = resolver
        self._ssl = client_ssl
        self._port_map = port_map
        self._on_event = on_event
        self._endpoints: dict[tuple[str, int, bool], _Endpoint] = {}
        self._open: set[ClientConnection] = set()
        self._counts: Counter[str] = Counter()
        self._sweeper: asyncio.TimerHandle | None = None

    async def request(
        self, host: str, port: int, *, is_tls: bool, method: str, request: bytes
    ) -> Response:
        """Send a whole request and wait for the whole answer. The caller bounds the time.

        Raises ResolutionError, ssl.SSLCertVerificationError, OSError, ConnectionLost.
        """
        endpoint = self._endpoint(host, port, is_tls)
        while True:
            connection = await self._idle_connection(endpoint)
            is_kept = connection is not None
            if connection is None:
                connection = await self._connect(endpoint, is_tls)
            try:
                response = await connection.send(request, is_head=method == "HEAD")
            except ConnectionLost as lost:
                if is_kept and not lost.answered and method in _IDEMPOTENT:
                    self._counts["sent_again"] += 1
                    continue
                raise
            finally:
                self._put_back(endpoint, connection)
            return response

    def cut(self) -> None:
        """Cut every connection now."""
        for connection in tuple(self._open):
            connection.abort()
        self._open.clear()
        for endpoint in self._endpoints.values():
            endpoint.idle.clear()

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self.cut()

    def status(self) -> dict[str, Any]:
        by_address = Counter(
            f"{e.host} {c.address}" for e in self._endpoints.values() for c in e.idle if c.is_open
        )
        return {"idle": dict(by_address), **self._counts}

    def _endpoint(self, host: str, port: int, is_tls: bool) -> _Endpoint:
        key = (host, port, is_tls)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = _Endpoint(host, self._port_map.get(port, port))
            self._endpoints[key] = endpoint
            if self._sweeper is None:
                self._sweep()
        return endpoint

    async def _idle_connection(self, endpoint: _Endpoint) -> ClientConnection | None:
        follows = self.knobs.mode == "follow"
        if follows:
            await self._resolve(endpoint)
        now = asyncio.get_running_loop().time()
        while endpoint.idle:
            connection = endpoint.idle.pop()
            if self._is_usable(connection, now) and not (
                follows and connection.address not in endpoint.addresses
            ):
                return connection
            self._drop(connection)
        return None

    async def _resolve(self, endpoint: _Endpoint) -> None:
        addresses = await self._resolver.resolve(endpoint.host)
        if addresses != endpoint.addresses:
            if endpoint.addresses and set(addresses) != set(endpoint.addresses):
                self._on_event(
                    {
                        "kind": "integration_address",
                        "host": endpoint.host,
                        "before": list(endpoint.addresses),
                        "after": list(addresses),
                    }
                )
            endpoint.addresses = addresses

    def _is_usable(self, connection: ClientConnection, now: float) -> bool:
        age = self.knobs.max_age_seconds
        return (
            connection.is_open
            and now - connection.idle_since < self.knobs.idle_seconds
            and (age is None or now - connection.born < age)
        )

    async def _connect(self, endpoint: _Endpoint, is_tls: bool) -> ClientConnection:
        """Connect to the first address that can be reached."""
        await self._resolve(endpoint)
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        for address in endpoint.addresses:
            try:
                _, connection = await loop.create_connection(
                    lambda address=address: ClientConnection(address, loop.time()),
                    address,
                    endpoint.port,
                    ssl=self._ssl if is_tls else None,
                    server_hostname=endpoint.host if is_tls else None,
                )
            except ssl.SSLCertVerificationError:
                raise
            except OSError as error:
                failure = error
                continue
            self._counts["opened"] += 1
            self._open.add(connection)
            return connection
        raise failure or ConnectionError(f"{endpoint.host} has no address")

    def _put_back(self, endpoint: _Endpoint, connection: ClientConnection) -> None:
        if connection.keep_alive and connection.is_open:
            connection.idle_since = asyncio.get_running_loop().time()
            endpoint.idle.append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        connection.close()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for endpoint in self._endpoints.values():
            for connection in tuple(endpoint.idle):
                if not self._is_usable(connection, now):
                    endpoint.idle.remove(connection)
                    self._drop(connection)
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)
