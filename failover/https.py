"""HTTPS connections that are kept: what must be quick later is connected before.

A kept connection may have been closed by the other side while it was idle. Then the request is
sent once more over a new one; so only requests that are safe to repeat may be sent here. The
downside of http.client is one request at a time per connection, so each user of a host waits for
the one before; a hanging request is left behind with its connection.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from failover.ports import EndpointFailed, Resolver
from failover.probe import cause_of

CONNECT_TIMEOUT = 1.0
"""Seconds."""
BODY_LIMIT = 256 * 1024
"""Bytes of a body that are read."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]
    """With lower-case names."""


class HttpsClient:
    """Requests over kept connections, by name through `resolver`.

    `outside`: a resolver for names that are not below `domain` (token endpoints of AWS's own
    domain are unknown to the zone's name servers).
    """

    def __init__(
        self, domain: str, resolver: Resolver, outside: Resolver, ca_file: Path | None = None
    ) -> None:
        self._domain = domain
        self._resolver = resolver
        self._outside = outside
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._idle: dict[str, list[http.client.HTTPConnection]] = {}
        self._closed = False

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        timeout: float,
    ) -> Reply:
        """One exchange within `timeout` seconds or so. Raises EndpointFailed."""
        parts = urlsplit(url)
        end = time.monotonic() + timeout
        while True:
            connection = self._take(parts.netloc)
            was_kept = connection is not None
            try:
                connection = connection or self._connect(parts, timeout)
            except (OSError, http.client.HTTPException) as error:
                raise EndpointFailed(cause_of(error)) from error
            if connection.sock is not None:
                connection.sock.settimeout(max(0.1, end - time.monotonic()))
            try:
                reply = self._exchange(connection, method, parts, headers, body)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if was_kept and _was_closed(error):
                    continue
                raise EndpointFailed(cause_of(error), ambiguous=True) from error
            self._keep(parts.netloc, connection)
            return reply

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Reply:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, {"Host": parts.netloc, **headers})
        response = connection.getresponse()
        content = response.read(BODY_LIMIT)
        if not response.isclosed():
            connection.close()
        return Reply(response.status, content, {k.lower(): v for k, v in response.getheaders()})

    def _take(self, netloc: str) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(netloc)
            return idle.pop() if idle else None

    def _keep(self, netloc: str, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._closed or connection.sock is None:
                connection.close()
            else:
                self._idle.setdefault(netloc, []).append(connection)

    def close(self) -> None:
        """Closes what is kept; what is still under way closes itself when it ends."""
        with self._lock:
            self._closed = True
            for connection in (c for idle in self._idle.values() for c in idle):
                connection.close()
            self._idle.clear()

    def _connect(self, parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
        host = parts.hostname or ""
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        limit = min(CONNECT_TIMEOUT, timeout)
        raw = socket.create_connection((self._address(host), port), limit)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.sock = (
                self._trust().wrap_socket(raw, server_hostname=host) if secure else raw
            )
        except BaseException:
            raw.close()
            raise
        return connection

    def _address(self, host: str) -> str:
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            below = host == self._domain or host.endswith("." + self._domain)
            return (self._resolver if below else self._outside).addresses(host)[0]

    def _trust(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = ssl.create_default_context(
                    cafile=str(self._ca_file) if self._ca_file else None
                )
            return self._context


def _was_closed(error: Exception) -> bool:
    """Did the other side close a kept connection, as it may at any time?"""
    return isinstance(error, ConnectionError | http.client.RemoteDisconnected | ssl.SSLEOFError)
