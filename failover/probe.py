"""One GET from outside, to an address that DNS has just given.

Every probe opens a new connection: a kept one would go on showing the old region. The address is
passed in, so that what DNS said and where the answer came from are the same observation; name and
certificate are still those of the URL.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from failover.ports import Answer

TIMEOUT = 1.5
"""Seconds for connecting, and again for each read."""
BODY_LIMIT = 64 * 1024
"""Bytes of a body that are looked at."""
USER_AGENT = "failover-probe"


class HttpProbe:
    """GETs over TLS that trust `ca_file` instead of the system's authorities, if one is given."""

    def __init__(self, ca_file: Path | None = None, timeout: float = TIMEOUT) -> None:
        self._ca_file = ca_file
        self._timeout = timeout
        self._context: ssl.SSLContext | None = None

    def get(self, url: str, address: str) -> Answer:
        started = time.monotonic()
        try:
            status, region, gateway_error = self._exchange(url, address)
        except (OSError, http.client.HTTPException) as error:
            return Answer(url, address, _ms(started), error=cause_of(error))
        return Answer(url, address, _ms(started), status, region, gateway_error=gateway_error)

    def _exchange(self, url: str, address: str) -> tuple[int, str | None, str | None]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        raw = socket.create_connection((address, port), self._timeout)
        connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        try:
            connection.sock = (
                self._trust().wrap_socket(raw, server_hostname=host) if secure else raw
            )
            connection.request(
                "GET",
                parts.path or "/",
                headers={
                    # As a browser says it: without the port that goes without saying.
                    "Host": parts.netloc.rpartition("@")[2],
                    "User-Agent": USER_AGENT,
                    "Accept": "application/json",
                    "Connection": "close",
                },
            )
            response = connection.getresponse()
            body = response.read(BODY_LIMIT)
            region = response.headers.get("X-Region") or region_in(body)
            return response.status, region, response.headers.get("x-amzn-errortype")
        finally:
            raw.close()
            connection.close()

    def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(
                cafile=str(self._ca_file) if self._ca_file else None
            )
        return self._context


def region_in(body: bytes) -> str | None:
    """The `region` of a JSON object, or None."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    region = document.get("region") if isinstance(document, dict) else None
    return region if isinstance(region, str) else None


def _ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def cause_of(error: Exception) -> str:
    """A few words for a failed connection or exchange."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
