"""One probe of one endpoint, as a health checker makes it: a real connection each time.

Limits (Route 53 Developer Guide, "How Amazon Route 53 determines whether a health check is
healthy"): connect within 4 s; then a status of 200 to 399 within 2 s; then, to match a string, the
body within 2 s more and only its first 5,120 bytes; TCP checks connect within 10 s. Certificates
are not validated. Redirects are healthy and are not followed.

Downside: the second handshake that AWS tries without the host name, when a certificate does not
fit it, is not made.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass

import httptools

from lab.route53.health import HealthCheck

CONNECT_SECONDS = 4.0
RESPONSE_SECONDS = 2.0
BODY_SECONDS = 2.0
TCP_SECONDS = 10.0
SEARCHED_BYTES = 5120

_DEFAULT_PORTS = {"HTTP": 80, "HTTP_STR_MATCH": 80, "HTTPS": 443, "HTTPS_STR_MATCH": 443}


@dataclass(frozen=True, slots=True)
class Result:
    """What a probe found."""

    passed: bool
    saw: str


class _Response:
    """Reads an answer: its status, and the part of the body that is searched."""

    def __init__(self) -> None:
        self.body = b""
        self.started = False
        self.complete = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def status(self) -> int:
        """The status code, once `started`."""
        return int(self._parser.get_status_code())

    def on_headers_complete(self) -> None:
        self.started = True

    def on_body(self, body: bytes) -> None:
        self.body = (self.body + body)[:SEARCHED_BYTES]

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> None:
        """Takes what was received. Faults after the header only end the body.

        Raises:
            httptools.HttpParserError: no HTTP answer.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.started:
                raise
            self.complete = True


def host_header(check: HealthCheck) -> str:
    """The domain name (or the address), with the port unless it is the scheme's own.

    Source: API reference, `HealthCheckConfig.FullyQualifiedDomainName`.
    """
    host = check.domain_name or check.ip_address or ""
    if check.domain_name is None and ":" in host:
        host = f"[{host}]"
    return host if check.port == _DEFAULT_PORTS.get(check.type) else f"{host}:{check.port}"


async def probe(check: HealthCheck, address: str, port: int, scale: float) -> Result:
    """Probes once; never raises but on cancellation.

    Args:
        address: a loopback address; others are not connected to.
        port: where to connect, which may differ from the check's own port.
        scale: multiplies all time limits.
    """
    if not ipaddress.ip_address(address).is_loopback:
        return Result(False, f"{address} is outside this machine")
    limit = scale * (TCP_SECONDS if check.type == "TCP" else CONNECT_SECONDS)
    try:
        sock = await _connect(address, port, limit)
    except TimeoutError:
        return Result(False, f"no connection to {address}:{port} within {limit:g} s")
    except OSError as error:
        return Result(False, f"no connection to {address}:{port}: {_reason(error)}")
    if check.type == "TCP":
        sock.close()
        return Result(True, "TCP connection established")
    try:
        return await _request(check, sock, scale)
    except TimeoutError:
        return Result(False, "connected, but no answer in time")
    except (OSError, EOFError, httptools.HttpParserError) as error:
        return Result(False, f"connected, then {type(error).__name__}: {error}")


def _reason(error: OSError) -> str:
    """The system's own words; asyncio puts others in their place."""
    return os.strerror(error.errno) if error.errno else str(error)


async def _connect(address: str, port: int, limit: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(limit):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_TLS = _tls()


async def _request(check: HealthCheck, sock: socket.socket, scale: float) -> Result:
    secure = check.type.startswith("HTTPS")
    server_name = (check.domain_name or "") if check.enable_sni else ""
    deadline = asyncio.get_running_loop().time() + RESPONSE_SECONDS * scale
    try:
        async with asyncio.timeout_at(deadline):
            reader, writer = await asyncio.open_connection(
                sock=sock,
                ssl=_TLS if secure else None,
                server_hostname=server_name if secure else None,
                # It may not outlast the whole probe; its own least value is not ours to choose.
                ssl_handshake_timeout=RESPONSE_SECONDS * scale if secure else None,
            )
    except BaseException:
        sock.close()
        raise
    try:
        async with asyncio.timeout_at(deadline):
            response = await _exchange(check, reader, writer)
        return await _judge(check, response, reader, scale)
    finally:
        writer.transport.abort()


async def _exchange(
    check: HealthCheck, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> _Response:
    response = _Response()
    writer.write(
        f"GET {check.path} HTTP/1.1\r\nHost: {host_header(check)}\r\n"
        "User-Agent: Amazon-Route53-Health-Check-Service (lab)\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode()
    )
    while not response.started:
        if not await _more(response, reader):
            raise EOFError("closed without an answer")
    return response


async def _judge(
    check: HealthCheck, response: _Response, reader: asyncio.StreamReader, scale: float
) -> Result:
    saw = f"HTTP status {response.status}"
    if not 200 <= response.status < 400:
        return Result(False, saw)
    if check.search_string is None:
        return Result(True, saw)
    async with asyncio.timeout(BODY_SECONDS * scale):
        found = await _search(check.search_string.encode(), response, reader)
    return Result(found, f"{saw}, string {'found' if found else 'not found'}")


async def _search(wanted: bytes, response: _Response, reader: asyncio.StreamReader) -> bool:
    """Reads on until the string is there or cannot come any more."""
    while wanted not in response.body:
        over = response.complete or len(response.body) >= SEARCHED_BYTES
        if over or not await _more(response, reader):
            return False
    return True


async def _more(response: _Response, reader: asyncio.StreamReader) -> bool:
    data = await reader.read(65_536)
    if data:
        response.feed(data)
    return bool(data)
